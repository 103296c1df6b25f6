"""Where a project is: a folder, or an address."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

from penstock.errors import InputError

from .folder import FolderClient
from .remote import RemoteClient

if TYPE_CHECKING:
    from .interface import Client

__all__ = ["connect"]

SCHEMES = ("http://", "https://")
ADDRESS = re.compile(r"[\w.-]+:\d+/?")
"""What is an address without its scheme rather than a folder."""


def connect(where: str | Path, *, token: str | None = None, timeout_s: float = 30.0) -> Client:
    """A client of a project; ``penstock.connect`` says all of it."""
    if isinstance(where, str) and where.startswith(SCHEMES):
        return RemoteClient(where, token=token, timeout_s=timeout_s)
    if ADDRESS.fullmatch(str(where)) and not Path(where).exists():
        raise InputError(f"{where!r} is no folder. Write an address like http://{where}.")
    return FolderClient(Path(where), token=token)
