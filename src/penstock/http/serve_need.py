"""Deployments that are loaded when somebody asks for them.

Whoever asks first has it loaded; whoever asks meanwhile waits for the same. Loads are done in
threads, few at a time, so those that are loaded answer as before.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from penstock.errors import UnavailableError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

__all__ = ["LOADS_AT_ONCE", "Loads"]

LOADS_AT_ONCE = 2


class Loads:
    """Loads under way. Used from one event loop.

    Args:
        load: Loads one deployment; what it raises, all who wait get.

    Attributes:
        done: How many have been loaded.
        late: How many waits ended before the load did.
    """

    def __init__(self, load: Callable[[str], Awaitable[None]]) -> None:
        self.done = 0
        self.late = 0
        self._load = load
        self._under_way: dict[str, asyncio.Task[None]] = {}
        self._turns = asyncio.Semaphore(LOADS_AT_ONCE)

    def begin(self, name: str) -> None:
        """Begin to load a deployment, unless that is under way; nobody has to wait for it.

        Args:
            name: The deployment.
        """
        _ = self._begun(name)  # what it is about goes on by itself

    def _begun(self, name: str) -> asyncio.Task[None]:
        task = self._under_way.get(name)
        if task is None:
            task = self._under_way[name] = asyncio.create_task(self._run(name))
            task.add_done_callback(self._ended(name))
        return task

    async def wait(self, name: str, wait_us: int) -> None:
        """Wait until a deployment has been loaded; the load goes on though nobody waits.

        Args:
            name: The deployment.
            wait_us: How long at most, in microseconds.

        Raises:
            UnavailableError: It takes longer.
            PenstockError: What the load raises.
        """
        task = self._begun(name)
        done, _ = await asyncio.wait([task], timeout=wait_us / 1e6)
        if not done:
            self.late += 1
            raise UnavailableError(
                f"{name!r} is being loaded, which takes longer than {wait_us / 1000:g} ms. "
                "Try again.",
                retry_after_s=1,
                deployment=name,
            )
        task.result()

    def _ended(self, name: str) -> Callable[[asyncio.Task[None]], None]:
        def end(done: asyncio.Task[None]) -> None:
            self._under_way.pop(name, None)
            if not done.cancelled():
                done.exception()  # whoever waits is told; where nobody does, the next one is

        return end

    async def _run(self, name: str) -> None:
        async with self._turns:
            await self._load(name)
        self.done += 1

    async def stop(self) -> None:
        """Wait for no load any more."""
        for task in list(self._under_way.values()):
            task.cancel()
        await asyncio.gather(*self._under_way.values(), return_exceptions=True)
