"""The state folder: whether this process can work in it."""

from __future__ import annotations

import os
import pwd
import shutil
from typing import TYPE_CHECKING

from penstock.errors import NotReadyError, StateError

if TYPE_CHECKING:
    from pathlib import Path

    from .layout import Layout

__all__ = ["check_records", "check_state", "local_user", "unusable"]

LEAST_FREE_BYTES = 32 * 1024 * 1024


def local_user() -> str:
    """Name of the user of this machine who runs this process."""
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        return f"uid-{os.getuid()}"


def check_state(home: Path, state: Path) -> None:
    """See whether the state folder is there and can be worked in.

    Args:
        home: The project folder.
        state: Its state folder.

    Raises:
        NotReadyError: The folder has not been initialised.
        StateError: It cannot be written to, or the disk is full.
    """
    if not state.is_dir():
        raise NotReadyError(
            f"{home} is no project folder yet: there is no {state}. "
            "Run 'penstock init' there, or name another folder with --home.",
            home=str(home),
        )
    if not os.access(state, os.R_OK | os.W_OK | os.X_OK):
        raise StateError(
            f"The state folder {state} cannot be written to by {local_user()!r}. Expected a "
            "folder of one's own on a disk that is not read-only; check its owner and permissions.",
            path=str(state),
        )
    free_bytes = shutil.disk_usage(state).free
    if free_bytes < LEAST_FREE_BYTES:
        raise StateError(
            f"The disk of {state} is full: {free_bytes:,} bytes are free. Expected at least "
            f"{LEAST_FREE_BYTES:,}; make room.",
            path=str(state),
            free_bytes=free_bytes,
        )


def check_records(layout: Layout) -> None:
    """See that the records were not lost: where there are tables, there were records.

    An empty database in place of the lost one would look like a new project.

    Raises:
        StateError: ``metadata.db`` is missing or empty beside tables and a token.
    """
    path = layout.metadata
    if path.exists() and (path.is_dir() or path.stat().st_size):
        return
    if layout.token.is_file() and layout.tables.is_dir() and any(layout.tables.iterdir()):
        raise StateError(
            f"{path} is {'empty' if path.exists() else 'missing'}, but {layout.tables} holds data. "
            "Expected the records of the project. Stop all its processes and restore the file from "
            f"a backup; or, to begin anew without that data, move {layout.state} away and run "
            "'penstock init'.",
            path=str(path),
        )


def unusable(path: Path, error: OSError) -> StateError:
    """The error for a part of the state that the system does not let be opened."""
    return StateError(
        f"{error.filename or path} cannot be opened: {error.strerror or error}. Expected a folder "
        "that can be written to and has room; check its permissions and the disk.",
        path=str(error.filename or path),
    )
