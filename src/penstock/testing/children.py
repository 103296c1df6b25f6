"""Processes that a suite starts, listens to and kills."""

from __future__ import annotations

import multiprocessing
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Generator
    from multiprocessing.connection import Connection
    from multiprocessing.context import SpawnProcess

__all__ = ["Child", "child"]

_START_S = 60.0


class Child:
    """A process and what it has said.

    Attributes:
        said: Everything heard from it, oldest first.
        process_id: Its operating-system id.
    """

    def __init__(self, process: SpawnProcess, ear: Connection) -> None:
        self._process = process
        self._ear = ear
        self.said: list[object] = []
        self.process_id = process.pid or 0

    def listen(self, count: int) -> list[object]:
        """Wait until it has said so many things; returns all of them.

        Raises:
            RuntimeError: It ended, or was silent for a minute.
        """
        while len(self.said) < count:
            if not self._ear.poll(_START_S):
                message = f"The child was silent; it had said {self.said!r}."
                raise RuntimeError(message)
            try:
                self.said.append(self._ear.recv())
            except EOFError:
                message = f"The child ended early; it had said {self.said!r}."
                raise RuntimeError(message) from None
        return self.said

    def kill(self) -> list[object]:
        """Kill it with signal 9; returns all it had said until then."""
        self._process.kill()
        return self.end()

    def end(self) -> list[object]:
        """Wait for its end; returns all it had said."""
        while True:
            try:
                self.said.append(self._ear.recv())
            except (EOFError, OSError):
                break
        self._process.join()
        return self.said


@contextmanager
def child(target: Callable[..., None], *arguments: object) -> Generator[Child]:
    """Run ``target(say, *arguments)`` in a spawned process while the context is open.

    Args:
        target: A function of an importable module; ``say.send`` tells this process something.
        arguments: Whatever pickles.
    """
    context = multiprocessing.get_context("spawn")
    ear, say = context.Pipe(duplex=False)
    process = context.Process(target=target, args=(say, *arguments), daemon=False)
    process.start()
    # Only the child holds this end now, so that its death ends the listening.
    say.close()
    started = Child(process, ear)
    try:
        yield started
    finally:
        started.kill()
        ear.close()
        process.close()
