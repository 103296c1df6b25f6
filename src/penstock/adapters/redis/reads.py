"""Reads from Redis on connections of their own.

A read through redis-py's client spends two thirds of its time round the command: taking a
connection from the pool, polling it, observing. Here a command is packed, sent, and its answer
read, all by redis-py's connection.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Protocol, TypeAlias, cast

import redis

if TYPE_CHECKING:
    from collections.abc import Sequence

    from redis.retry import Retry

__all__ = ["Command", "Reads"]

Command: TypeAlias = "tuple[str | bytes, ...]"


class _Connection(Protocol):
    """What is used of redis-py's connections, most of which it leaves untyped."""

    retry: Retry

    def pack_commands(self, commands: Sequence[Command], /) -> list[bytes]: ...

    def send_packed_command(self, command: list[bytes], /) -> None: ...

    def read_response(self) -> object: ...

    def should_reconnect(self) -> bool: ...

    def disconnect(self) -> None: ...


class Reads:
    """Asks a Redis; safe across threads, and in a process that was forked off.

    A connection that has been cut, by a restart of the server or for being idle, is made anew and
    asked once more, as the pool's retry says: to read twice does no harm. One that is left in any
    other way than with its answers read is closed, so that none is taken for that of a later
    question.

    Args:
        pool: Makes the connections; nobody else uses it.
    """

    def __init__(self, pool: redis.ConnectionPool) -> None:
        self._pool = pool
        self._free: list[_Connection] = []
        self._process = os.getpid()

    def ask(self, command: Command) -> object:
        """The answer to a command.

        Raises:
            redis.RedisError: The server cannot be reached, or refuses the command.
        """
        return self._asked([command])

    def ask_at_once(self, commands: list[Command]) -> list[object]:
        """The answers to several commands, as of one moment.

        Raises:
            redis.RedisError: The server cannot be reached, or refuses a command.
        """
        answers = cast("list[object]", self._asked([("MULTI",), *commands, ("EXEC",)]))
        for answer in answers:
            if isinstance(answer, redis.RedisError):
                raise answer
        return answers

    def close(self) -> None:
        """Close the connections, used ones too."""
        self._pool.disconnect()

    def _asked(self, commands: list[Command]) -> object:
        """The answer to the last of some commands, which are sent together."""
        connection = self._taken()

        def exchange() -> object:
            connection.send_packed_command(connection.pack_commands(commands))
            for _ in commands[1:]:
                connection.read_response()
            return connection.read_response()

        try:
            answer = connection.retry.call_with_retry(exchange, lambda _: connection.disconnect())
            if connection.should_reconnect():
                connection.disconnect()
        except BaseException:
            connection.disconnect()
            raise
        finally:
            self._free.append(connection)
        return answer

    def _taken(self) -> _Connection:
        if self._process != os.getpid():
            # The parent's connections are not for two to talk on.
            self._process, self._free = os.getpid(), []
        try:
            return self._free.pop()
        except IndexError:
            return cast("_Connection", self._pool.get_connection())
