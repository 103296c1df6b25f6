"""The board: what the processes that answer on one address have measured, a file each.

Processes that share a port cannot be asked one by one: whoever the kernel hands a connection to
answers. So each keeps its numbers in a file, written anew every second and whenever it is asked
itself, and whoever is asked tells what stands in the files of all. A number that was told once is
in a file, so none falls from one answer to the next.

A process has a place (0, 1, 2 ...) on its address for as long as it lives: it holds a lock on it,
which the kernel frees. Its successor takes the same place, so labels stay few.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import msgspec
import psutil
import structlog

from .heartbeat import runs_since
from .measured import Family, Measured
from .whole_files import put_whole

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from penstock.ports import Clock

__all__ = ["Board", "read_boards"]

DECODER = msgspec.json.Decoder(Measured)


class Board:
    """This process's place on an address, and a look at the others.

    Args:
        root: The folder of all boards.
        address: Where the process answers.
        clock: The time.

    Attributes:
        folder: Where the processes of the address meet.
        worker: Its place.
    """

    def __init__(self, root: Path, address: str, clock: Clock) -> None:
        self.folder = root / re.sub(r"[^A-Za-z0-9.]+", "-", address)
        self._address = address
        self._clock = clock
        self._process_id = os.getpid()
        self._started_at_s = psutil.Process().create_time()
        self._is_broken = False
        self.folder.mkdir(parents=True, exist_ok=True)
        self.worker, self._lock = _take_place(self.folder)

    def publish(
        self, families: Sequence[Family], models: Sequence[Mapping[str, Any]] = ()
    ) -> Measured:
        """Write what this process has measured; returns it, though it could not be written.

        A full disk must not keep from telling that it is full: others know less then, until there
        is room. The log of the process is told once.

        Args:
            families: The numbers.
            models: What it has done by model, as ``Measured`` has it.
        """
        measured = Measured(
            process_id=self._process_id,
            started_at_s=self._started_at_s,
            at_us=self._clock.now_us(),
            address=self._address,
            worker=self.worker,
            families=families,
            models=models,
        )
        try:
            put_whole(self._path, msgspec.json.encode(measured))
        except OSError as error:
            if not self._is_broken:
                structlog.get_logger("penstock.serve").error(
                    "what is measured cannot be written", path=str(self._path), error=str(error)
                )
            self._is_broken = True
        else:
            self._is_broken = False
        return measured

    def others(self) -> list[Measured]:
        """What the other living processes on the address have measured, by their place."""
        return [one for one in _living(self.folder) if one.worker != self.worker]

    def close(self) -> None:
        """Give the place up."""
        self._path.unlink(missing_ok=True)
        os.close(self._lock)

    @property
    def _path(self) -> Path:
        return self.folder / f"{self.worker}.json"


def read_boards(root: Path) -> list[Measured]:
    """What every living process has measured, by address and place.

    Args:
        root: The folder of all boards; it need not exist.
    """
    folders = sorted(root.iterdir()) if root.is_dir() else []
    return [one for folder in folders for one in _living(folder)]


def _living(folder: Path) -> Iterator[Measured]:
    for path in sorted(folder.glob("*.json"), key=lambda path: (len(path.name), path.name)):
        with contextlib.suppress(FileNotFoundError, msgspec.DecodeError):
            one = DECODER.decode(path.read_bytes())
            if runs_since(one.process_id, datetime.fromtimestamp(one.started_at_s, tz=UTC)):
                yield one


def _take_place(folder: Path) -> tuple[int, int]:
    """The lowest place that nobody has, and the lock on it."""
    place = 0
    while True:
        lock = os.open(folder / f"{place}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(lock)
            place += 1
        else:
            return place, lock
