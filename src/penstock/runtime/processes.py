"""The mains of the processes, loaded when they run: each brings drivers the others do without."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable, Generator, Sequence
    from pathlib import Path

    from .children import ProcessStatus
    from .services import LocalServices

__all__ = ["PROCESSES", "executing", "run_stream", "run_worker", "up"]

PROCESSES = ("api", "worker", "stream", "serve")
"""What ``up`` starts."""


def run_worker(home: Path) -> None:
    """Run workflows until SIGTERM or SIGINT, and submit those that are due.

    Args:
        home: The project folder.

    Raises:
        NotReadyError: The folder has not been initialised.
        SettingsError: A setting is wrong.
    """
    from .worker import work  # noqa: PLC0415 - loads every stage and DBOS

    work(home)


def run_stream(home: Path) -> None:
    """Move events, scores and observations into their tables until SIGTERM or SIGINT.

    Args:
        home: The project folder.

    Raises:
        NotReadyError: The folder has not been initialised.
        SettingsError: A setting is wrong.
    """
    from .stream import stream  # noqa: PLC0415 - loads the stages it runs

    stream(home)


def up(
    home: Path,
    *,
    processes: Sequence[str] = PROCESSES,
    on_change: Callable[[Sequence[ProcessStatus]], None] | None = None,
    stop: threading.Event | None = None,
) -> None:
    """Start all processes, start again what dies, and stop all of them at the end.

    Args:
        home: The project folder.
        processes: Which of ``api``, ``worker``, ``stream`` and ``serve``.
        on_change: Called with the status of every process whenever one changes.
        stop: Ends it when set; SIGTERM and SIGINT do when left out, which takes the main thread.

    Raises:
        NotReadyError: The folder has not been initialised.
        SettingsError: A setting is wrong, or a port is in use; nothing was started.
        UnavailableError: The folder's processes are supervised already; nothing was started.
    """
    from .supervisor import supervise  # noqa: PLC0415 - loads an HTTP client

    supervise(home, processes=processes, on_change=on_change, stop=stop)


@contextmanager
def executing(services: LocalServices) -> Generator[None]:
    """See to it that somebody executes submitted runs while the context is open.

    Does nothing where a worker is alive; else this process becomes one for the time being, so
    that a command works without any other process.

    Args:
        services: The project.
    """
    from .worker import executing as execute  # noqa: PLC0415 - loads every stage and DBOS

    with execute(services):
        yield
