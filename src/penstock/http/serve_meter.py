"""Tells what online scoring measures, for this process and for those that share its address."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from typing import TYPE_CHECKING

import structlog

from penstock.runtime import Measured, exposition

from .serve_metrics import families_of, families_of_loading, families_of_need
from .serve_v2_about import model_statistics, together

if TYPE_CHECKING:
    from collections.abc import Mapping

    from penstock.ports import Spans
    from penstock.runtime import Board, Family
    from penstock.scoring import LaneCounts

    from .serve_keeper import Keeper

__all__ = ["Meter"]

EVERY_S = 1.0


class Meter:
    """Publishes the numbers of this process while it serves, and tells those of all.

    Args:
        keeper: What is served.
        board: Where the processes of the address meet; left out for one that is alone.
        spans: Where traces go; left out where nothing is traced.

    Attributes:
        requests: Requests by kind and status.
    """

    def __init__(
        self, keeper: Keeper, board: Board | None = None, spans: Spans | None = None
    ) -> None:
        self._spans = spans
        self.requests: dict[tuple[str, int], int] = {}
        self._keeper = keeper
        self._board = board
        self._publishing = threading.Lock()
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Publish, from now on every second."""
        await self._publish_now()
        self._task = asyncio.create_task(self._keep_on())

    async def stop(self) -> None:
        """Publish no more."""
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
        if self._board is not None:
            self._board.close()

    def text(self) -> bytes:
        """What Prometheus reads: this process first, then the others. Any thread may ask."""
        if self._board is None:
            alone = Measured(
                process_id=0, started_at_s=0, at_us=0, address="", worker=0, families=self._now()
            )
            return exposition([alone])
        return exposition([self._publish(self._board), *self._board.others()])

    def statistics(self) -> list[dict[str, object]]:
        """What all processes of the address have done, by model and version. Any thread may ask."""
        if self._board is None:
            return self._models()
        self._publish(self._board)
        others = [line for one in self._board.others() for line in one.models]
        return together([*self._models(), *others])

    def _publish(self, board: Board) -> Measured:
        # One at a time: numbers that were read earlier must not be written over later ones.
        with self._publishing:
            return board.publish(self._now(), self._models(idle=False))

    def _now(self) -> list[Family]:
        keeper, waking = self._keeper, self._keeper.waking
        endpoints = {name: door.endpoint for name, door in keeper.doors.items()}
        counters = {name: one.counters for name, one in self._keeper.features.items()}
        traces = self._spans.counts() if self._spans else None
        return [
            *families_of(endpoints, self.requests, counters, traces, waking.standings.counters),
            *families_of_loading(keeper.fleet.errors),
            *families_of_need(endpoints, len(keeper.resting), waking.loads, waking.let_go),
        ]

    def _models(self, *, idle: bool = True) -> list[dict[str, object]]:
        """What this process has done by model and version, of those at rest too.

        Args:
            idle: Whether to tell of versions that have done nothing.
        """
        fleet = self._keeper.fleet
        done: dict[str, Mapping[int, LaneCounts]] = {
            name: memory.by_version for name, memory in fleet.memories.items()
        }
        for name, door in self._keeper.doors.items():
            versions = door.endpoint.versions
            done[name] = {number: lane.counts for number, lane in versions.items()}
        if not idle:
            done = {name: _busy(versions) for name, versions in done.items()}
        return model_statistics(done)

    async def _keep_on(self) -> None:
        while self._board is not None:
            await asyncio.sleep(EVERY_S)
            await self._publish_now()

    async def _publish_now(self) -> None:
        if self._board is None:
            return
        try:
            await asyncio.to_thread(self._publish, self._board)
        except Exception as error:  # noqa: BLE001 - numbers must never end what is measured
            log = structlog.get_logger("penstock.serve")
            log.warning("what is measured could not be published", error=str(error))


def _busy(versions: Mapping[int, LaneCounts]) -> dict[int, LaneCounts]:
    return {number: one for number, one in versions.items() if one.rows or one.failed}
