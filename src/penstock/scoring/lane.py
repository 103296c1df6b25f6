"""A lane: the requests to one version, answered in batches that wait for nothing.

Requests that arrive while the event loop is busy are answered together when it turns, up to 64 at
a time; a request that arrives alone is answered alone, at once. A version whose batch takes long
computes in a thread of its own, while the next batch gathers. Before any answer of a batch is
given, its scores are in the score log, by one write.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

import numpy as np

from penstock.errors import InputError, OverloadedError, PenstockError, UserCodeError
from penstock.features import Gathering
from penstock.records import Score

from .counts import LaneCounts

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from .ask import Ask, Writer
    from .served import ServedVersion

    Floats = NDArray[np.float64]

__all__ = ["LONGEST_WAIT_US", "Lane", "expire"]

BATCH_ROWS = 64
NEWEST_SHARE = 0.2
QUEUE_ROWS = 4_096
QUEUE_US = 50_000
"""Rows that would wait longer than this are refused: were they let in, under a load that lasts each
row would wait as long as the whole queue, and nobody would be answered in time."""
LONGEST_WAIT_US = 10_000_000


class _Rows:
    """The features of a batch, and what was predicted from them."""

    __slots__ = ("at_us", "predictions", "seen", "start_us", "took_us", "x")

    def __init__(self, asks: Sequence[Ask], version: ServedVersion, now_us: int) -> None:
        self.seen: list[Mapping[str, int]] = [{}] * len(asks)
        self.start_us = now_us
        self.took_us = 0
        self.at_us: list[int] = [ask.at_us or now_us for ask in asks]
        if all(ask.values is not None for ask in asks):
            self.x = np.array([ask.values for ask in asks], dtype=np.float64)
        else:
            self._look_up(asks, version)
        self.predictions = version.predict(self.x)
        if len(self.predictions) != len(asks):
            raise ValueError(f"{len(self.predictions)} predictions for {len(asks)} rows")

    def _look_up(self, asks: Sequence[Ask], version: ServedVersion) -> None:
        """Read the features of those that name an entity."""
        self.x = np.empty((len(asks), len(version.features)))
        keys: list[str | int] = []
        places: list[int] = []
        for place, ask in enumerate(asks):
            if ask.values is not None:
                self.x[place] = ask.values
            elif ask.key is not None:
                keys.append(ask.key)
                places.append(place)
        times = np.array([self.at_us[place] for place in places], dtype=np.int64)
        given = [asks[place].given for place in places]
        values, as_of_us, seen = version.read(keys, times, given)
        self.x[places] = values
        for place, as_of, progress in zip(places, as_of_us.tolist(), seen, strict=True):
            self.at_us[place] = as_of
            self.seen[place] = progress


class _Failure(NamedTuple):
    """What a batch came to that failed, and how long that took."""

    error: Exception
    took_us: int


_Outcome: TypeAlias = "_Rows | _Failure | list[tuple[Ask, _Outcome]]"


class Lane(Gathering["Ask", "_Outcome"]):
    """The way to one version of one deployment. Used from one event loop.

    Args:
        route: The role it answers as.
        version: The version.
        writer: Where its scores go.

    Attributes:
        version: The version.
        counts: What it has done.
        deadline_us: Longest wait for an answer, in microseconds.
    """

    def __init__(self, route: str, version: ServedVersion, writer: Writer) -> None:
        super().__init__(f"lane-{version.label}", slow=version.slow)
        self.route = route
        self.version = version
        self.counts = LaneCounts()
        self.deadline_us = LONGEST_WAIT_US
        self._writer = writer
        self._row_us = 0.0  # what a row has taken lately, with all that goes on beside it

    def submit(self, ask: Ask) -> asyncio.Future[Score]:
        """Queue a row; the future holds its score, which is logged by then.

        The future fails with the error of the version, or ``OverloadedError`` where the row would
        wait too long.
        """
        ask.future = future = asyncio.get_running_loop().create_future()
        if self._is_full(ask):
            self.counts.failed += 1
            message = (
                f"{len(self._queue)} rows wait for {self.version.label} already. Send fewer at a "
                "time, or start another 'penstock serve'."
            )
            future.set_exception(OverloadedError(message, retry_after_s=1))
            return future
        self._push(ask)
        return future

    def _is_full(self, ask: Ask) -> bool:
        """Whether a row would wait too long; the rows of a request are let in or refused as one."""
        queue = self._queue
        waiting = len(queue)
        if waiting < BATCH_ROWS:
            return False
        if waiting * self._row_us <= QUEUE_US and waiting < QUEUE_ROWS:
            return False
        return queue[-1].arrived_us != ask.arrived_us

    def _next_batch(self) -> list[Ask]:
        """The oldest rows that somebody still waits for."""
        batch: list[Ask] = []
        while self._queue and len(batch) < BATCH_ROWS:
            ask = self._queue.popleft()
            if ask.future is not None and not ask.future.done():
                batch.append(ask)
        return batch

    def _compute(self, batch: list[Ask]) -> _Outcome:
        clock = self._writer.clock
        start_us = clock.now_us()
        # Whatever a model or a library raises is an answer to those who wait, never a crash.
        try:
            rows = _Rows(batch, self.version, start_us)
        except PenstockError as error:
            failure: Exception = error
        except Exception as error:  # noqa: BLE001 - see above
            failure = _failed(self.version.label, error)
        else:
            rows.took_us = clock.now_us() - start_us
            return rows
        took_us = clock.now_us() - start_us
        if len(batch) == 1 or took_us > self.deadline_us // 2:
            return _Failure(failure, took_us)
        # One bad row must not fail its neighbours.
        return [(ask, self._compute([ask])) for ask in batch]

    def _answer(self, batch: list[Ask], outcome: _Outcome) -> None:
        # The lane goes on whatever happens here: those who come later wait for it.
        try:
            self._log_and_answer(batch, outcome)
            took_us = 0 if isinstance(outcome, list) else outcome.took_us
            if isinstance(outcome, _Rows):
                self._place(took_us)
            if not self.slow and took_us > self.deadline_us // 2:
                self._move(slow=True)  # another batch would hold up the event loop as long
        except Exception as error:  # noqa: BLE001 - see above
            self._fail(batch, _failed(self.version.label, error))

    def _move(self, *, slow: bool) -> None:
        """Compute elsewhere from now on; what waits is watched, as is what comes to a thread."""
        # What another process answers, however quick, never holds up the event loop.
        super()._move(slow=slow or self.version.apart)
        if self.slow:
            loop = asyncio.get_running_loop()
            for ask in self._queue:
                loop.call_later(self.deadline_us / 1e6, expire, ask.future)

    def _log_and_answer(self, batch: list[Ask], outcome: _Outcome) -> None:
        if isinstance(outcome, _Rows):
            self._give(batch, outcome)
        elif isinstance(outcome, _Failure):
            self._fail(batch, outcome.error)
        else:
            for ask, own in outcome:
                self._log_and_answer([ask], own)

    def _give(self, batch: list[Ask], rows: _Rows) -> None:
        """Log the scores, then answer."""
        scores: list[Score] = []
        answered: list[Ask] = []
        now_us = self._writer.clock.now_us()
        for place, (ask, prediction) in enumerate(
            zip(batch, rows.predictions.tolist(), strict=True)
        ):
            if ask.future is None or ask.future.done():
                continue  # it was late, and something else has answered
            if prediction - prediction != 0.0:  # NaN or infinite
                self._fail([ask], _no_value(self.version.label))
                continue
            answered.append(ask)
            scores.append(self._score(ask, rows, place, prediction, now_us))
        self.counts.computed(len(batch), rows.took_us)
        took_us = now_us - max(self.counts.last_us, batch[0].arrived_us)
        self._row_us += (took_us / len(batch) - self._row_us) * NEWEST_SHARE
        if not scores:
            return
        try:
            self._writer.log.append(scores)
        except PenstockError as error:
            self._fail(answered, error)
            return
        self.counts.answered(answered, rows.start_us, now_us)
        for ask, score in zip(answered, scores, strict=True):
            if ask.future is not None:
                ask.future.set_result(score)

    def _fail(self, asks: Sequence[Ask], error: Exception) -> None:
        for ask in asks:
            if ask.future is not None and not ask.future.done():
                ask.future.set_exception(error)
                self.counts.failed += 1

    def _score(self, ask: Ask, rows: _Rows, place: int, prediction: float, now_us: int) -> Score:
        looked_up = ask.values is None
        features = ask.values or tuple(
            [None if value != value else value for value in rows.x[place].tolist()]  # noqa: PLR0124
        )
        return Score(
            prediction_id=self._writer.ids.new(),
            deployment=self._writer.deployment,
            model=self.version.manifest.model,
            version=self.version.manifest.version,
            route=self.route,
            engine=self.version.engine.name_of(len(rows.x)),
            entity="" if ask.key is None else str(ask.key),
            at_us=rows.at_us[place],
            features=features,
            prediction=prediction,
            scored_at_us=now_us,
            duration_us=now_us - ask.arrived_us,
            progress=rows.seen[place],
            origin="online" if looked_up else "request",
            reason=ask.reason,
            request_id=ask.request_id,
            given=ask.given if looked_up else {},
        )


def expire(future: asyncio.Future[Score] | None) -> None:
    """Give up waiting: the future fails with ``TimeoutError`` unless it is done."""
    if future is not None and not future.done():
        future.set_exception(TimeoutError())


def _failed(label: str, error: Exception) -> UserCodeError:
    return UserCodeError(
        f"{label} failed: {type(error).__name__}: {error}. "
        "Look at its inputs, or roll back with 'penstock rollback'.",
        version=label,
        plain=f"{label} failed with {type(error).__name__}; see the log of the serving process.",
    )


def _no_value(label: str) -> InputError:
    return InputError(
        f"{label} has no finite prediction for these features. Check the values and the nulls "
        "among them: the model was trained without such rows.",
        version=label,
        no_value=True,
    )
