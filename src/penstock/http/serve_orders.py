"""Has all processes of the address do what one of them was told."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from typing import TYPE_CHECKING

import msgspec
import structlog

from penstock.errors import PenstockError, UnavailableError
from penstock.runtime import Orders, Sampling

if TYPE_CHECKING:
    from collections.abc import Callable

    from penstock.runtime import OrderBook

    from .serve_keeper import Keeper
    from .serve_traces import Tracing

__all__ = ["Obedience"]

POLL_S = 0.1
RETRY_S = 1.0
WAIT_S = 65.0
"""A little longer than a load may take."""


class Obedience:
    """Follows the orders of the address, and gives new ones. Used from one event loop.

    Args:
        keeper: What is served.
        book: The orders; none for a process that is alone.
        tracing: Traces requests; none where nothing is traced.
    """

    def __init__(self, keeper: Keeper, book: OrderBook | None, tracing: Tracing | None) -> None:
        self._keeper = keeper
        self._book = book
        self._tracing = tracing
        self._done = Orders()
        self._turn = asyncio.Lock()
        self._task: asyncio.Task[None] | None = None
        self._log = structlog.get_logger("penstock.serve")
        if book is not None:
            keeper.share = self.hold

    async def start(self) -> None:
        """Do what others were told before this process began, and follow from now on."""
        if self._book is not None:
            await self._follow(self._book)
            self._task = asyncio.create_task(self._keep_on(self._book))

    async def stop(self) -> None:
        """Follow no more."""
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task

    async def hold(self, name: str, why: str) -> None:
        """Have all processes serve a deployment, or serve it no more.

        Args:
            name: The deployment.
            why: Why it is not to be served; empty to have it loaded.

        Raises:
            UnavailableError: A process has not done so in time; it still will.
        """

        def change(now: Orders) -> Orders:
            left = {other: one for other, one in now.unloaded.items() if other != name}
            if why:
                return msgspec.structs.replace(now, unloaded={**left, name: why})
            loads = {**now.loads, name: now.number}
            return msgspec.structs.replace(now, unloaded=left, loads=loads)

        await self._give(change)

    async def share_log_level(self) -> None:
        """Have all processes log what this one does.

        Raises:
            UnavailableError: A process has not done so in time; it still will.
        """
        level = logging.getLogger().level
        await self._give(lambda now: msgspec.structs.replace(now, log_level=level))

    async def share_sampling(self) -> None:
        """Have all processes trace what this one does.

        Raises:
            UnavailableError: A process has not done so in time; it still will.
        """
        sampling = tuple(self._tracing.sampling) if self._tracing else None
        await self._give(lambda now: msgspec.structs.replace(now, sampling=sampling))

    async def _give(self, change: Callable[[Orders], Orders]) -> None:
        book = self._book
        if book is None:
            return
        orders = await asyncio.to_thread(book.give, change)
        await self._follow(book)
        end_s = time.monotonic() + WAIT_S
        while behind := await asyncio.to_thread(book.behind, orders.number):
            if time.monotonic() > end_s:
                raise UnavailableError(
                    f"{len(behind)} of the processes at this address have not done so within "
                    f"{WAIT_S:g} s. They do it as soon as they can; look again.",
                    workers=behind,
                )
            await asyncio.sleep(POLL_S / 4)

    async def _keep_on(self, book: OrderBook) -> None:
        while True:
            await asyncio.sleep(POLL_S)
            # What was told before stays as it is, whatever happens here; the next look may succeed.
            try:
                await self._follow(book)
            except Exception as error:  # noqa: BLE001 - see above
                self._log.warning("orders could not be followed", error=str(error))
                await asyncio.sleep(RETRY_S)

    async def _follow(self, book: OrderBook) -> None:
        async with self._turn:
            orders, done = book.read(), self._done
            if orders is done:
                return
            wanted = [name for name, number in orders.loads.items() if number > done.number]
            # By what was done, and not by what the keeper was told: it may not have come to do it.
            if wanted or orders.unloaded != done.unloaded:
                await self._keeper.serve_without(orders.unloaded)
            if self._task is not None:  # one that begins loads what is asked for
                await self._load([name for name in wanted if name in self._keeper.resting])
            if orders.log_level not in {None, done.log_level}:
                logging.getLogger().setLevel(orders.log_level or 0)
            if orders.sampling and orders.sampling != done.sampling and self._tracing:
                self._tracing.sampling = Sampling(*orders.sampling)
            self._done = orders
            await asyncio.to_thread(book.follow, orders.number)

    async def _load(self, names: list[str]) -> None:
        """Load deployments that rest; whoever asked for it is told why one could not be."""
        for name in names:
            with contextlib.suppress(PenstockError):
                await self._keeper.load_resting(name)
