"""How a connection ends: with a last word that the client comes to read, and without a long wait.

Functions, and no object of the connection's: the two would hold each other, and a connection that
is gone would wait for the garbage collector.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Protocol

from .serve_direct import wire

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Container

    from uvicorn.protocols.http.flow_control import FlowControl

    from .serve_errors import Answer

__all__ = ["leave_soon", "part_soon", "say_last"]

LINGER_S = 0.25
"""How long a resting connection stays open when the server ends."""
LAST_WORD_S = 2.0
"""How long a connection stays open after what it brought has been refused as no HTTP."""


class Connection(Protocol):
    """A connection that is to end."""

    transport: asyncio.Transport
    flow: FlowControl

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        """Its event loop."""
        ...

    @property
    def connections(self) -> Container[object]:
        """Those that are open."""
        ...

    @property
    def rests(self) -> bool:
        """Whether no request is under way, nor has begun to come."""
        ...


def say_last(connection: Connection, answer: Answer) -> None:
    """Say the last word, and give the client time to read it.

    Whatever has come and is not read when the connection is closed would have the kernel throw the
    answer away.
    """
    transport = connection.transport
    transport.write(wire(answer, keep_alive=False))
    if transport.can_write_eof():
        transport.write_eof()
        connection.flow.resume_reading()
        connection.loop.call_later(LAST_WORD_S, transport.close)
    else:
        transport.close()


def leave_soon(connection: Connection) -> None:
    """Close a connection that still rests after a while: its client may be about to ask."""
    connection.loop.call_later(LINGER_S, _leave, connection)


def part_soon(connection: Connection) -> None:
    """Wait no longer for a client to take its leave, once it has been sent everything.

    Over TLS who closes waits for the other side to say so as well. A client that rests reads
    nothing, and would hold up the end for as long as it is waited for.
    """
    connection.loop.call_later(LINGER_S, _part, connection)


def _leave(connection: Connection) -> None:
    if connection.rests:
        connection.transport.close()


def _part(connection: Connection, *, waited: bool = False) -> None:
    transport = connection.transport
    leaves = transport.is_closing() and not transport.get_write_buffer_size()
    if leaves and waited:
        transport.abort()
    elif connection in connection.connections:
        connection.loop.call_later(LAST_WORD_S, partial(_part, connection, waited=leaves))
