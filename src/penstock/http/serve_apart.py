"""Long work in a thread that the event loop does not wait for when it ends."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["in_a_thread"]

Found = TypeVar("Found")


async def in_a_thread(work: Callable[[], Found], *, name: str) -> Found:
    """Do work in a thread of its own, and wait for it.

    Threads of the event loop's pool are waited for when the loop ends: a process that is told to
    stop would go on until the work is done. For this one ``leave`` waits a moment, and no longer.

    Args:
        work: The work.
        name: Of the thread.

    Raises:
        BaseException: What the work raises.
    """
    loop = asyncio.get_running_loop()
    done: asyncio.Future[Found] = loop.create_future()

    def tell(settle: Callable[[Any], None], found: object) -> None:
        if not done.done():
            settle(found)

    def run() -> None:
        try:
            found: object = work()
            settle: Callable[[Any], None] = done.set_result
        except BaseException as error:  # noqa: BLE001 - whoever waits raises it
            found, settle = error, done.set_exception
        with contextlib.suppress(RuntimeError):  # the loop has ended meanwhile
            loop.call_soon_threadsafe(tell, settle, found)

    # No daemon: threads that it starts would be daemons too, and what Python waits for at its end
    # could not be told from what it does not.
    threading.Thread(target=run, name=name).start()
    return await done
