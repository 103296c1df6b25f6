"""Calls of one method taken as they come, beside the loop of grpcio's server.

That loop asks for one call at a time and turns five times before it asks for the next
(https://github.com/grpc/grpc/pull/43461), so many callers wait for few turns and rows come one by
one. Here several calls are asked for in advance; each is then run by grpcio as any other is. What
is named here is grpcio's own and no part of its interface: where a name is not there, or is not
what it was, its loop takes every call, as it takes those of all other methods.
"""

from __future__ import annotations

import asyncio
from importlib import import_module
from inspect import signature
from operator import attrgetter
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Generator

    import grpc

    Running = Coroutine[Any, Any, None]

__all__ = ["Private", "private_of", "take_calls"]

HANDS = 16
SERVER = attrgetter("_server._request_registered_call", "_server.is_running")
MODULE = attrgetter("_handle_unary_unary_rpc", "_schedule_rpc_coro", "_RequestCallError")
RUN_TAKES = ("rpc_coro", "rpc_state", "loop", "method_name")


class Private(NamedTuple):
    """What is private to grpcio.

    Attributes:
        ask: Asks for the next call of a method; gives its state.
        is_running: Whether the server answers.
        handle: Answers a call.
        run: Runs that until the client has gone.
        ended: What ``ask`` raises when the server ends.
    """

    ask: Callable[[bytes], Generator[Any, None, Any]]
    is_running: Callable[[], bool]
    handle: Callable[[Any, Any, asyncio.AbstractEventLoop], Running]
    run: Callable[[Running, Any, asyncio.AbstractEventLoop, str], Running]
    ended: type[Exception]


def private_of(server: grpc.aio.Server) -> Private | None:
    """What is private to grpcio, of a server; none where it is not what is known here."""
    try:
        ask, is_running = SERVER(server)
        handle, run, ended = MODULE(import_module("grpc._cython.cygrpc"))
        known = tuple(signature(run).parameters) == RUN_TAKES
    except (ImportError, AttributeError, ValueError):
        return None
    return Private(ask, is_running, handle, run, ended) if known else None


def take_calls(
    private: Private, method: str, handler: grpc.RpcMethodHandler[Any, Any], hands: int = HANDS
) -> None:
    """Take calls until the server ends.

    Args:
        private: Of a server that answers, and has the method registered.
        method: The full name of the method.
        handler: Answers one message with one.
        hands: How many calls are asked for in advance.
    """
    calls: set[asyncio.Task[None]] = set()
    for _ in range(hands):
        _Hand(private, method, handler, calls).ask()


class _Hand:
    """Takes one call after the other.

    It is no task: one that is cancelled, as the end of a process cancels all there are, would let
    go of memory that grpcio still writes to.
    """

    def __init__(
        self,
        private: Private,
        method: str,
        handler: grpc.RpcMethodHandler[Any, Any],
        calls: set[asyncio.Task[None]],
    ) -> None:
        self._private = private
        self._method, self._name = method, method.encode()
        self._handler = handler
        self._calls = calls
        self._loop = asyncio.get_running_loop()

    def ask(self) -> None:
        """Ask for a call."""
        self._asking = self._private.ask(self._name)
        coming: asyncio.Future[None] = self._asking.send(None)
        coming.add_done_callback(self._come)

    def _come(self, _: asyncio.Future[None]) -> None:
        """Begin to answer the call that has come, and ask for another."""
        private = self._private
        try:
            self._asking.send(None)
        except StopIteration as asked:
            handling = private.handle(self._handler, asked.value, self._loop)
            running = private.run(handling, asked.value, self._loop, self._method)
            call = self._loop.create_task(running)
            self._calls.add(call)
            call.add_done_callback(self._calls.discard)
        except private.ended:
            pass  # or one call went wrong before it was one
        if private.is_running():
            self.ask()
