"""A lane: the requests to one version, answered in batches that wait for nothing.

Requests that arrive while the event loop is busy are answered together when it turns, up to 64 at
a time; a request that arrives alone is answered alone, at once. A version whose batch takes long
computes in a thread of its own, while the next batch gathers. Before any answer of a batch is
given, its scores are in the score log, by one write.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

from penstock.deployment import prediction_bounds
from penstock.errors import OverloadedError, PenstockError, UserCodeError
from penstock.features import Gathering
from penstock.records import Score

from .counts import LaneCounts
from .lane_rows import Rows, StoreAway
from .no_score import no_score
from .patience import watch
from .traces import BatchTrace

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from penstock.errors import InputError, UnavailableError
    from penstock.records import Given

    from .ask import Ask, Waiting, Writer
    from .served import ServedVersion

__all__ = ["LONGEST_WAIT_US", "NEVER_SLOW_US", "QUEUE_US", "Lane"]

BATCH_ROWS = 64
NEWEST_SHARE = 0.2
QUEUE_ROWS = 4_096
QUEUE_US = 50_000
"""Rows that would wait longer than this are refused: were they let in, under a load that lasts each
row would wait as long as the whole queue, and nobody would be answered in time."""
LONGEST_WAIT_US = 10_000_000
NEVER_SLOW_US = 1 << 62
STORE_AGAIN_S = 0.05
NO_PARTS: Mapping[str, float | None] = {}
NOTHING_GIVEN: Mapping[str, Given] = {}


class _Failure(NamedTuple):
    """What a batch came to that failed, and how long that took."""

    error: Exception
    took_us: int


_Outcome: TypeAlias = "Rows | _Failure | StoreAway | list[tuple[Ask, _Outcome]]"


class Lane(Gathering["Ask", "_Outcome"]):
    """The way to one version of one deployment. Used from one event loop.

    Args:
        route: The role it answers as.
        version: The version.
        writer: Where its scores go.
        counts: What was done before in its place; nothing when left out.

    Attributes:
        version: The version.
        counts: What it has done.
        deadline_us: Longest wait for an answer, in microseconds.
        slow_us: How long a batch may take before its version counts as slow, in microseconds.
        lags: Whether the batch that was answered last took longer.
        queue_us: Longest wait for its turn; a row that would wait longer is refused.
        away: Why the features cannot be read now; none while they can.
        refuses_unknown: Whether a row is refused while nothing is online of its entities.
    """

    def __init__(
        self,
        route: str,
        version: ServedVersion,
        writer: Writer,
        *,
        counts: LaneCounts | None = None,
    ) -> None:
        super().__init__(f"lane-{version.label}", slow=version.slow, least_us=version.row_us)
        self.route = route
        self.version = version
        self.counts = counts or LaneCounts()
        self.deadline_us = LONGEST_WAIT_US
        self.slow_us = NEVER_SLOW_US
        self.lags = False
        self.queue_us = QUEUE_US
        self.away: UnavailableError | None = None
        self.refuses_unknown = False
        self._writer = writer
        self._least, self._greatest = prediction_bounds(classification=version.classifies)
        self._model, self._number = version.manifest.model, version.manifest.version
        self._is_paused = False
        self._row_us = 0.0  # what a row has taken lately, with all that goes on beside it

    def submit(self, ask: Ask) -> asyncio.Future[Score]:
        """Queue a row; the future holds its score, which is logged by then.

        The future fails with the error of the version, or ``OverloadedError`` where the row would
        wait too long.
        """
        future: asyncio.Future[Score] = asyncio.get_running_loop().create_future()
        self.take(ask, future)
        return future

    def take(self, ask: Ask, waiting: Waiting) -> None:
        """Queue a row for whoever waits for it; otherwise as ``submit``."""
        ask.waiting = waiting
        if len(self._queue) >= BATCH_ROWS and self._is_full(ask):
            self.counts.failed += 1
            message = (
                f"{len(self._queue)} rows wait for {self.version.label} already. Send fewer at a "
                "time, or start another 'penstock serve'."
            )
            waiting.set_exception(OverloadedError(message, retry_after_s=1))
            return
        self._push(ask)

    def _is_full(self, ask: Ask) -> bool:
        """Whether a row would wait too long; the rows of a request are let in or refused as one."""
        queue = self._queue
        waiting = len(queue)
        if waiting * self._row_us <= self.queue_us and waiting < QUEUE_ROWS:
            return False
        return queue[-1].arrived_us != ask.arrived_us

    def _next_batch(self) -> list[Ask]:
        """The oldest rows that somebody still waits for."""
        if self._is_paused:
            return self._without_store()
        batch: list[Ask] = []
        while self._queue and len(batch) < BATCH_ROWS:
            ask = self._queue.popleft()
            if ask.waiting is not None and not ask.waiting.done():
                batch.append(ask)
        return batch

    def _compute(self, batch: list[Ask]) -> _Outcome:
        clock = self._writer.clock
        start_us = clock.now_us()
        # Whatever a model or a library raises is an answer to those who wait, never a crash.
        try:
            rows = Rows(
                batch,
                self.version,
                start_us,
                clock if self._writer.spans else None,
                refuses_unknown=self.refuses_unknown,
            )
        except StoreAway as away:
            return away
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
            took_us = outcome.took_us if isinstance(outcome, (Rows, _Failure)) else 0
            if isinstance(outcome, Rows):
                if self.away is not None and any(ask.values is None for ask in batch):
                    self.away = None  # what brings its features says nothing of the store
                self._place(took_us)
            if not self.slow and (self.lags or took_us > self.deadline_us // 2):
                self._move(slow=True)  # another batch would hold up the event loop as long
        except Exception as error:  # noqa: BLE001 - see above
            self._fail(batch, _failed(self.version.label, error))

    def _wait_for_store(self, batch: list[Ask], error: UnavailableError) -> None:
        """Ask again soon: who waits for features does so until the deadline, and no version failed.

        From now on in a thread, since to reach for a store that is away takes its time.
        """
        self.away = error
        self._queue.extendleft(reversed(batch))
        if not self.slow:
            self._move(slow=True)
        self._is_paused = True
        asyncio.get_running_loop().call_later(STORE_AGAIN_S, self._resume)

    def _resume(self) -> None:
        self._is_paused = False
        self._wake()

    def _without_store(self) -> list[Ask]:
        """The oldest rows that bring their features."""
        batch = [ask for ask in self._queue if ask.values is not None][:BATCH_ROWS]
        for ask in batch:
            self._queue.remove(ask)
        return [ask for ask in batch if ask.waiting is not None and not ask.waiting.done()]

    def _move(self, *, slow: bool) -> None:
        """Compute elsewhere from now on; what waits is watched, as is what comes to a thread."""
        # What another process answers, however quick, never holds up the event loop.
        super()._move(slow=slow or self.version.apart)
        if self.slow:
            for ask in self._queue:
                watch(ask.waiting, self.deadline_us)

    def _log_and_answer(self, batch: list[Ask], outcome: _Outcome) -> None:
        if isinstance(outcome, Rows):
            self._give(batch, outcome)
        elif isinstance(outcome, _Failure):
            self._fail(batch, outcome.error)
        elif isinstance(outcome, StoreAway):
            self._wait_for_store(batch, outcome.error)
        else:
            for ask, own in outcome:
                self._log_and_answer([ask], own)

    def _give(self, batch: list[Ask], rows: Rows) -> None:
        """Log the scores, then answer."""
        scores: list[Score] = []
        answered: list[Ask] = []
        now_us = self._writer.clock.now_us()
        ids = self._writer.ids.several(len(batch))
        for place, (ask, prediction) in enumerate(
            zip(batch, rows.predictions.tolist(), strict=True)
        ):
            if ask.waiting is None or ask.waiting.done():
                continue  # it was late, and something else has answered
            fault = self._fault(rows, place, prediction)
            if fault is not None:
                self._fail([ask], fault)
                continue
            answered.append(ask)
            scores.append(self._score(ask, rows, place, ids[place], prediction, now_us))
        self.lags = rows.took_us > self.slow_us  # not the wait for its turn: that may be others'
        self.counts.computed(len(batch), rows.took_us)
        if rows.run is not None:
            self.counts.stepped(rows.run)
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
        if self._writer.spans is not None:
            self._trace(answered, scores, rows, now_us)
        for ask, score in zip(answered, scores, strict=True):
            if ask.waiting is not None:
                ask.waiting.set_result(score)

    def _trace(
        self, answered: Sequence[Ask], scores: Sequence[Score], rows: Rows, now_us: int
    ) -> None:
        """Note what was done for the requests that are traced."""
        batch: BatchTrace | None = None
        for ask, score in zip(answered, scores, strict=True):
            if ask.trace is None or not ask.trace.recorded:
                continue
            if batch is None:
                batch = BatchTrace(
                    self.version.label,
                    start_us=rows.start_us,
                    looked_us=rows.looked_us,
                    predicted_us=rows.start_us + rows.took_us,
                    rows=len(rows.x),
                )
            batch.add(ask.trace, score)
        spans = self._writer.spans
        if batch is not None and batch.end((now_us, self._writer.clock.now_us())) and spans:
            spans.emit(batch)

    def _fault(self, rows: Rows, place: int, prediction: float) -> InputError | None:
        """Why a row has no score though its batch was predicted; most often none."""
        if rows.refused and place in rows.refused:
            return rows.refused[place]
        if self._least <= prediction <= self._greatest:  # which no NaN is
            return None
        return no_score(self.version.label, prediction)

    def _fail(self, asks: Sequence[Ask], error: Exception) -> None:
        for ask in asks:
            if ask.waiting is not None and not ask.waiting.done():
                ask.waiting.set_exception(error)
                self.counts.failed += 1

    def _score(  # noqa: PLR0913, PLR0917 - of each row of each batch
        self,
        ask: Ask,
        rows: Rows,
        place: int,
        prediction_id: str,
        prediction: float,
        now_us: int,
    ) -> Score:
        looked_up = ask.values is None
        return Score(
            prediction_id,
            self._writer.deployment,
            self._model,
            self._number,
            self.route,
            rows.engine,
            "" if ask.key is None else str(ask.key),
            rows.at_us[place],
            rows.features[place] or (),
            prediction,
            now_us,
            now_us - ask.arrived_us,
            rows.seen[place],
            "online" if looked_up else "request",
            ask.reason,
            ask.request_id,
            ask.given if looked_up else NOTHING_GIVEN,
            "",  # nothing is withheld yet
            NO_PARTS if rows.run is None else rows.parts[place],
            "" if ask.trace is None else ask.trace.trace_id,
        )


def _failed(label: str, error: Exception) -> UserCodeError:
    return UserCodeError(
        f"{label} failed: {type(error).__name__}: {error}. "
        "Look at its inputs, or roll back with 'penstock rollback'.",
        version=label,
        plain=f"{label} failed with {type(error).__name__}; see the log of the serving process.",
    )
