"""Batch scores that are kept ready in the online store, read to answer with."""

from __future__ import annotations

import asyncio
import hashlib
from typing import TYPE_CHECKING, TypeAlias

import msgspec

from penstock.features import Gathering
from penstock.records import Score

from .patience import watch

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from penstock.ports import OnlineStore
    from penstock.records import Given

    from .ask import Ask

    _Outcome: TypeAlias = "Sequence[Score | None]"

__all__ = ["READY_SHARE", "PrecomputedScores", "decoded", "key_of"]

BATCH = 256
KEY_BYTES = 16
READY_SHARE = 4
"""The part of the time for an answer that is spent on looking for a batch score is one in four."""


class PrecomputedScores(Gathering["_Wanted", "_Outcome"]):
    """Reads scores that are kept ready, those of several requests at once. Of one event loop.

    Args:
        online: The online store.
        space: Where they are.
        max_age_us: How old the features of a score may be.
    """

    def __init__(self, online: OnlineStore, space: str, max_age_us: int) -> None:
        super().__init__(space)
        self.max_age_us = max_age_us
        self._online = online
        self._space = space

    def find(
        self, ask: Ask, *, now_us: int, version: int, loop: asyncio.AbstractEventLoop
    ) -> asyncio.Future[Score | None] | None:
        """The score that answers a request; none for what no batch run scores.

        The future holds the newest score of what is asked where that version gave it and it is
        young enough, else none; also where the store cannot be read.

        Args:
            ask: The request.
            now_us: The time.
            version: The version that would answer.
            loop: The event loop.
        """
        if ask.key is None or ask.values is not None or ask.at_us:
            return None
        wanted = _Wanted(ask, version, now_us - self.max_age_us, loop.create_future())
        self._push(wanted)
        return wanted.future

    async def newest(self, ask: Ask, *, now_us: int, version: int, wait_us: int) -> Score | None:
        """The score that answers a request, as ``find`` has it; none where the store is slow.

        Args:
            ask: The request.
            now_us: The time.
            version: The version that would answer.
            wait_us: How long to wait for the store.
        """
        loop = asyncio.get_running_loop()
        future = self.find(ask, now_us=now_us, version=version, loop=loop)
        if future is None:
            return None
        timer = watch(future, wait_us)
        try:
            return await future
        except TimeoutError:
            return None
        finally:
            timer.cancel()

    def _next_batch(self) -> list[_Wanted]:
        batch: list[_Wanted] = []
        while self._queue and len(batch) < BATCH:
            wanted = self._queue.popleft()
            if not wanted.future.done():
                batch.append(wanted)
        return batch

    def _compute(self, batch: list[_Wanted]) -> _Outcome:
        # Whatever is raised, the champion answers in its place.
        try:
            values = self._online.get(self._space, [wanted.key for wanted in batch])
        except Exception:  # noqa: BLE001 - see above
            return [None] * len(batch)
        return [wanted.fitting(value) for wanted, value in zip(batch, values, strict=True)]

    def _answer(self, batch: list[_Wanted], outcome: _Outcome) -> None:
        for wanted, score in zip(batch, outcome, strict=True):
            if not wanted.future.done():
                wanted.future.set_result(score)


class _Wanted:
    """What a request asks for."""

    __slots__ = ("_ask", "_since_us", "_version", "future", "key")

    def __init__(
        self, ask: Ask, version: int, since_us: int, future: asyncio.Future[Score | None]
    ) -> None:
        self.key = key_of(str(ask.key), ask.given)
        self.future = future
        self._ask = ask
        self._version = version
        self._since_us = since_us

    def fitting(self, value: bytes | None) -> Score | None:
        """The score, where it answers what is asked."""
        score = decoded(value)
        if score is None or score.version != self._version or score.at_us < self._since_us:
            return None
        same = score.entity == str(self._ask.key) and dict(score.given) == dict(self._ask.given)
        return score if same else None


def key_of(entity: str, given: Mapping[str, Given]) -> bytes:
    """What a score is kept under, by what was asked."""
    text = msgspec.json.encode([entity, *sorted(given.items())])
    return hashlib.blake2b(text, digest_size=KEY_BYTES).digest()


def decoded(value: bytes | None) -> Score | None:
    """A score that is kept ready; none where there is none that can be read.

    It is a copy: one that another version of Penstock wrote in its own way is made again.
    """
    if value is None:
        return None
    try:
        return msgspec.msgpack.decode(value, type=Score)
    except msgspec.DecodeError:
        return None
