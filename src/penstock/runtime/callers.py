"""Who works in a project folder: by a token, by the local token file, or as a user of the machine.

Whoever can read the file of the local administrator's token is the administrator: the folder is
theirs. ``PENSTOCK_TOKEN``, or a token that is handed in, makes them somebody else. A user of this
machine who works in a folder of others, and cannot read that file, is the user of the same name,
with what that one was granted; without one they read what is not protected.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from penstock.access import ADMIN, identify
from penstock.errors import AccessError, StateError
from penstock.records import Identity

from .state_folder import local_user

if TYPE_CHECKING:
    from pathlib import Path

    from penstock.ports import Clock, Metadata

__all__ = ["TOKEN", "identify_given", "local_caller", "local_token", "token_given", "token_in"]

TOKEN = "PENSTOCK_TOKEN"  # noqa: S105 - the name of a variable


def token_given(token: str | None) -> str:
    """The token that was handed in, or that the environment has; empty for none.

    Args:
        token: What was handed in; None where nothing was.
    """
    return os.environ.get(TOKEN, "") if token is None else token


def identify_given(metadata: Metadata, token: str) -> Identity:
    """Whose token it is.

    Raises:
        AccessError: It is nobody's; says where it may have come from.
    """
    try:
        return identify(metadata, token)
    except AccessError as error:
        raise AccessError(
            f"The token that was given, or is in {TOKEN}, is nobody's in this project. Give one of "
            f"'penstock users add NAME', or none, with {TOKEN} unset, to be who you are on this "
            "machine."
        ) from error


def local_caller(metadata: Metadata, clock: Clock, token_file: Path) -> Identity:
    """Who works here without giving a token.

    Args:
        metadata: Where identities are kept.
        clock: Tells the time.
        token_file: The file of the local administrator's token.
    """
    try:
        return identify(metadata, local_token(token_file))
    except (AccessError, StateError):
        name = local_user()
    # A user of the machine may be called like the administrator without being it.
    known = metadata.read(Identity, name) if name != ADMIN else None
    return known or Identity(name=name, role="reader", token_sha256="", created_at=clock.now())


def local_token(path: Path) -> str:
    """The administrator's token, as a client on this machine sends it.

    Args:
        path: The token file.

    Raises:
        StateError: The file is missing, empty, damaged, or not this user's to read.
    """
    try:
        token, why = token_in(path), "is empty or damaged"
    except OSError as error:
        token, why = "", f"cannot be read: {error.strerror or error}"
    if not token:
        raise StateError(
            f"The token file {path} {why}. Expected the administrator's token in one line. Run "
            "'penstock init' for the project folder: it makes a new one where there is none.",
            path=str(path),
        )
    return token


def token_in(path: Path) -> str:
    """The token in a file; empty where the content is none."""
    words = path.read_bytes().split()
    token = words[0].decode("ascii", "replace") if len(words) == 1 else ""
    return token if token.isascii() and token.isprintable() else ""
