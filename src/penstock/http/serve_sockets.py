"""Where online scoring listens: a port, and a UNIX socket where the settings name one."""

from __future__ import annotations

import contextlib
import os
import socket
from typing import TYPE_CHECKING

from penstock.errors import UnavailableError

if TYPE_CHECKING:
    from collections.abc import Generator
    from pathlib import Path

__all__ = ["bind_port", "port_taken", "unix_socket", "waiting_at"]

LONGEST_PATH_BYTES = 107
EVERYBODY = 0o666
ASK_S = 1.0


def bind_port(host: str, port: int, *, shared: bool = False) -> socket.socket:
    """Take the port before anything else is loaded.

    Args:
        host: The address.
        port: The port.
        shared: Whether other processes of this user may have it too; the kernel then hands each
            connection to one of those that listen.

    Raises:
        UnavailableError: It is taken, or the address is not this machine's.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    bound = socket.socket(family, socket.SOCK_STREAM)
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if shared:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    try:
        bound.bind((host, port))
    except OSError as error:
        bound.close()
        raise port_taken(host, port, str(error.strerror)) from error
    return bound


def port_taken(host: str, port: int, why: str) -> UnavailableError:
    """The error of a port that cannot be had.

    Args:
        host: The address.
        port: The port.
        why: Why not, as the end of a sentence.
    """
    return UnavailableError(
        f"Online scoring cannot listen on {host}:{port}: {why}. Stop what uses the port, or choose "
        "another with --port or the setting serve_port.",
        host=host,
        port=port,
    )


def waiting_at(listening: socket.socket) -> list[socket.socket]:
    """Let in whoever waits at a socket that listens and does not block; nor do theirs.

    Args:
        listening: The socket.
    """
    found: list[socket.socket] = []
    while True:
        try:
            let_in, _ = listening.accept()
            let_in.setblocking(False)  # noqa: FBT003 - the library's
            found.append(let_in)
        except OSError:  # nobody waits; or who did has gone, or there is no room for more
            return found


@contextlib.contextmanager
def unix_socket(path: Path) -> Generator[socket.socket]:
    """A socket at a path while the context is open; the path is removed then.

    What a killed process has left there is taken over. Every user of the machine may connect, as
    to a port: who may ask is decided by tokens.

    Args:
        path: The path.

    Raises:
        UnavailableError: Somebody answers there, it is something else, or it cannot be made.
    """
    bound = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        _take(bound, path)
    except OSError as error:
        bound.close()
        raise UnavailableError(
            f"Online scoring cannot listen on {path}: {error.strerror or error}. Choose another "
            f"path with the setting serve_socket, of at most {LONGEST_PATH_BYTES} bytes, in a "
            "folder that there is.",
            path=str(path),
        ) from error
    owner = os.getpid()
    try:
        yield bound
    finally:
        bound.close()
        if os.getpid() == owner:  # copies of this process answer there too, and end before it
            path.unlink(missing_ok=True)


def _take(bound: socket.socket, path: Path) -> None:
    if path.is_socket():
        if _answers(path):
            raise OSError("another process answers there")
        path.unlink()
    bound.bind(str(path))
    path.chmod(EVERYBODY)


def _answers(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as asking:
        asking.settimeout(ASK_S)
        try:
            asking.connect(str(path))
        except ConnectionRefusedError:
            return False
    return True
