"""The features of a service by key: read in its order, and gathered while others are read."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import TYPE_CHECKING, NamedTuple, TypeVar, cast

import numpy as np

from penstock.errors import PenstockError, RetryableError, UnavailableError

from .gathering import Gathering
from .reader import OnlineReader, Reading, row_count

if TYPE_CHECKING:
    from collections.abc import Sequence

    from penstock.algebra import IntArray
    from penstock.ports import Clock, OnlineStore
    from penstock.spec import FeatureService

    from .reader import Keys, Request

__all__ = ["GatheredReads", "ServiceReader"]

BATCH_ROWS = 1_024
QUEUE_ROWS = 16_384
T = TypeVar("T")
NOTHING: Mapping[str, list[object]] = {}


class ServiceReader:
    """Reads the features of a service by key; compiled once, safe across threads.

    Args:
        online: The online store.
        service: The service.

    Attributes:
        service: The service.

    Raises:
        InputError: Its views cannot be read together.
        DeclarationError: A view cannot be compiled.
    """

    def __init__(self, online: OnlineStore, service: FeatureService) -> None:
        self.service = service
        self._reader = OnlineReader(online, service.views)
        place = {name: index for index, name in enumerate(self._reader.names)}
        order = [place[name] for name in service.names]
        self._order = None if order == list(range(len(place))) else order

    def progress(self) -> dict[str, int]:
        """Number of the last raw batch in the online store, by view name.

        Raises:
            NotReadyError: The features of a view have not been built as it is declared now.
        """
        return self._reader.progress()

    def read(self, keys: Keys, at_us: int | IntArray, request: Request = NOTHING) -> Reading:
        """Read the service's features of entities, all from one state of the store.

        Args:
            keys: The entities' keys; of several entities the keys of each by its name.
            at_us: The time asked for, int64 microseconds since 1970 UTC; one for all or one each.
            request: The values of each request field by its name, one per row; None for null.

        Raises:
            NotReadyError: The features of a view have not been built as it is declared now.
            InputError: A key or a request field is missing, or of another type than declared.
            StateError: The online store is damaged.
            UnavailableError: The online store cannot be reached.
            UserCodeError: A function of the user failed.
        """
        found = self._reader.read_settled(keys, at_us, request)
        return found if self._order is None else found._replace(values=found.values[:, self._order])


class _Ask(NamedTuple):
    """Rows that somebody waits for."""

    keys: Keys
    at_us: int | IntArray
    request: Request
    rows: int
    future: asyncio.Future[Reading]


class _Found(NamedTuple):
    """What was read, or why not, and how long it took in microseconds."""

    what: Reading | Exception
    took_us: int


class GatheredReads(Gathering[_Ask, _Found]):
    """Reads of one service, gathered while the event loop is busy. Used from one event loop.

    Rows that arrive while others are read are read together when the loop turns, up to 1,024 at a
    time, and what they compute on demand is computed together; rows that arrive alone are read
    alone, at once. A store that takes long, as one over the network may, is read in a thread of its
    own while the next rows gather.

    Args:
        reader: Reads.
        clock: Tells the time.

    Attributes:
        reader: Reads.
        slow: Whether it reads in a thread.
    """

    def __init__(self, reader: ServiceReader, clock: Clock) -> None:
        super().__init__(f"features-{reader.service.name}")
        self.reader = reader
        self._clock = clock
        self._waiting = 0

    def read(
        self, keys: Keys, at_us: int | IntArray, request: Request = NOTHING
    ) -> asyncio.Future[Reading]:
        """Queue rows; the future holds what is read of them.

        It fails with the error of the reader, or ``UnavailableError`` when too many wait already.

        Args:
            keys: The entities' keys, as ``ServiceReader.read`` takes them.
            at_us: The time asked for, as it takes it.
            request: The request fields, as it takes them.
        """
        future: asyncio.Future[Reading] = asyncio.get_running_loop().create_future()
        ask = _Ask(keys, at_us, request, row_count(keys, request), future)
        if self._waiting + ask.rows > QUEUE_ROWS:
            message = (
                f"{self._waiting:,} rows wait for the features of {self.reader.service.name!r} "
                "already. Send fewer at a time, or start another 'penstock serve'."
            )
            future.set_exception(UnavailableError(message, retry_after_s=1))
            return future
        self._waiting += ask.rows
        self._push(ask)
        return future

    def _next_batch(self) -> list[_Ask]:
        """The oldest keys that somebody still waits for."""
        batch: list[_Ask] = []
        rows = 0
        while self._queue and rows < BATCH_ROWS:
            ask = self._queue.popleft()
            self._waiting -= ask.rows
            if not ask.future.done():
                batch.append(ask)
                rows += ask.rows
        return batch

    def _compute(self, batch: list[_Ask]) -> _Found:
        start_us = self._clock.now_us()
        # Whatever is raised is an answer to those who wait, never the end of the loop.
        try:
            found: Reading | Exception = self._read(batch)
        except Exception as error:  # noqa: BLE001 - see above
            found = error
        return _Found(found, self._clock.now_us() - start_us)

    def _read(self, batch: list[_Ask]) -> Reading:
        if len(batch) == 1:
            return self.reader.read(batch[0].keys, batch[0].at_us, batch[0].request)
        keys: Keys
        if isinstance(batch[0].keys, Mapping):
            keys = _joined([cast("Mapping[str, list[str | int]]", ask.keys) for ask in batch])
        else:
            keys = [key for ask in batch for key in ask.keys]
        at_us = np.empty(sum(ask.rows for ask in batch), dtype=np.int64)
        low = 0
        for ask in batch:
            at_us[low : (low := low + ask.rows)] = ask.at_us
        return self.reader.read(keys, at_us, _joined([ask.request for ask in batch]))

    def _answer(self, batch: list[_Ask], outcome: _Found) -> None:
        found = outcome.what
        if isinstance(found, RetryableError):
            # A store that cannot be reached must not hold up the loop again.
            self._move(slow=True)
        else:
            self._place(outcome.took_us)
        if isinstance(found, Reading):
            _share(batch, found)
        elif len(batch) > 1 and not isinstance(found, RetryableError):
            # One bad key must not fail its neighbours.
            for ask in batch:
                _settle(ask, self._compute([ask]).what)
        else:
            for ask in batch:
                _settle(ask, found)


def _joined(parts: Sequence[Mapping[str, Sequence[T]]]) -> dict[str, list[T]]:
    """The columns of one after the other; each has the names of the first."""
    return {name: [value for part in parts for value in part[name]] for name in parts[0]}


def _share(batch: list[_Ask], found: Reading) -> None:
    """Give each its own rows."""
    if len(batch) == 1:
        _settle(batch[0], found)
        return
    low = 0
    for ask in batch:
        high = low + ask.rows
        unknown = [place - low for place in found.unknown if low <= place < high]
        part = found._replace(
            values=found.values[low:high],
            as_of_us=found.as_of_us[low:high],
            unknown=unknown,
            by_row=found.by_row[low:high],
        )
        _settle(ask, part)
        low = high


def _settle(ask: _Ask, found: Reading | Exception) -> None:
    if ask.future.done():
        return  # nobody waits any more
    if isinstance(found, PenstockError):
        # Those who share an error would share its traceback, which grows with each that raises it.
        ask.future.set_exception(type(found)(found.message, **found.facts))
    elif isinstance(found, Exception):
        ask.future.set_exception(found)
    else:
        ask.future.set_result(found)
