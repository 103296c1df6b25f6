"""Orders: what all processes that answer on one address were told to do.

Whoever the kernel hands a connection to is told, and the others have to do the same. So what was
told stands in a file beside the board's, as how things are to be and not as what to do: a process
that starts in the place of another does it too. Each says how far it has followed; nobody has to
be asked. What was told is forgotten when no process answers on the address any more.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Mapping
from typing import TYPE_CHECKING

import msgspec

from .whole_files import put_whole

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from .board import Board

__all__ = ["OrderBook", "Orders"]


class Orders(msgspec.Struct, frozen=True):
    """How all processes on an address are to be.

    Attributes:
        number: One more with each order.
        unloaded: Deployments that are not to be served, with what to say of each.
        loads: The order by which a deployment was to be loaded last, by its name.
        log_level: The least severity that is logged; none for the settings'.
        sampling: The share of requests that is traced, and whether traced callers have theirs; none
            for the settings'.
    """

    number: int = 0
    unloaded: Mapping[str, str] = {}
    loads: Mapping[str, int] = {}
    log_level: int | None = None
    sampling: tuple[float, bool] | None = None


DECODER = msgspec.json.Decoder(Orders)


class OrderBook:
    """The orders of an address. Safe across processes.

    Args:
        board: This process's place on the address.
    """

    def __init__(self, board: Board) -> None:
        self._board = board
        self._path = board.folder / "orders"
        # Replaced as one: the event loop reads while a thread gives an order.
        self._known = (b"", Orders())
        if not board.others():
            self._path.unlink(missing_ok=True)
        # What had this place before may have followed further.
        self._followed(board.worker).unlink(missing_ok=True)

    def read(self) -> Orders:
        """The orders as they are now; the same object as before where nothing has changed."""
        # Not by its date and inode: within a tick of the clock an inode is used again.
        try:
            data = self._path.read_bytes()
        except FileNotFoundError:
            data = b""
        known = self._known
        if data != known[0]:
            self._known = known = (data, DECODER.decode(data) if data else Orders())
        return known[1]

    def give(self, change: Callable[[Orders], Orders]) -> Orders:
        """Change the orders; returns what they are then.

        Args:
            change: Makes the new ones from those that stand; their number is seen to.
        """
        lock = os.open(
            self._path.with_suffix(".lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600
        )
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            before = self.read()
            numbered = msgspec.structs.replace(before, number=before.number + 1)
            orders = change(numbered)
            put_whole(self._path, msgspec.json.encode(orders))
        finally:
            os.close(lock)
        return orders

    def follow(self, number: int) -> None:
        """Say that this process is as the orders up to a number have it."""
        put_whole(self._followed(self._board.worker), str(number).encode())

    def behind(self, number: int) -> list[int]:
        """The other living processes that have not followed up to a number, by their place."""
        return [one.worker for one in self._board.others() if self._number(one.worker) < number]

    def _number(self, worker: int) -> int:
        with contextlib.suppress(FileNotFoundError, ValueError):
            return int(self._followed(worker).read_text())
        return 0

    def _followed(self, worker: int) -> Path:
        return self._board.folder / f"{worker}.followed"
