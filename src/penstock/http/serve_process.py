"""The process ``penstock serve``: online scoring on an address."""

from __future__ import annotations

import asyncio
import gc
import importlib.util
import signal
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

import uvicorn

from penstock.errors import NotSupportedError, StateError
from penstock.runtime import Board, Heartbeat, check_bind, configure_logs, open_services

from .serve_app import ServeApp
from .serve_keeper import Keeper
from .serve_protocol import KEEP_ALIVE_S, ServeProtocol
from .serve_sockets import bind_port, unix_socket

if TYPE_CHECKING:
    import socket
    from collections.abc import Generator, Sequence
    from pathlib import Path

    from penstock.runtime import LocalServices

    from .serve_app import Beside

__all__ = ["serve"]

GRACE_S = 10
BACKLOG = 2_048
TICKS_PER_S = 10
MEGABYTE = 1 << 20
COLLECT_EVERY = 10_000


class _Server(uvicorn.Server):
    """uvicorn's server, which on SIGTERM or SIGINT drains and then returns.

    As it comes it raises the signal again when it is done, and the process would die of it before
    it has taken its records away.
    """

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start, then set aside all that has been loaded.

        Nearly a hundred thousand objects of libraries and models live as long as the process. A
        collection that walks them all stops every answer for 60 ms, and under load one comes
        every few seconds. What requests leave behind is looked through less often than is usual:
        there is hardly a circle in it.
        """
        await super().startup(sockets)
        gc.collect()
        gc.freeze()
        gc.set_threshold(COLLECT_EVERY)

    async def on_tick(self, counter: int) -> bool:
        """Ten times a second: whether to end; once a second, cut off who is too slow."""
        if counter % TICKS_PER_S == 0:
            now_s = asyncio.get_running_loop().time()
            for connection in list(self.server_state.connections):
                if isinstance(connection, ServeProtocol):
                    connection.sweep(now_s)
        return await super().on_tick(counter)

    @contextmanager
    def capture_signals(self) -> Generator[None]:
        """Handle the signals while the server runs."""
        loop = asyncio.get_running_loop()
        numbers = (signal.SIGTERM, signal.SIGINT)
        for number in numbers:
            loop.add_signal_handler(number, self.handle_exit, number, None)
        try:
            yield
        finally:
            for number in numbers:
                loop.remove_signal_handler(number)


def serve(home: Path, *, host: str | None = None, port: int | None = None) -> None:
    """Run online scoring until it is told to stop; answers what is in flight before it ends.

    Args:
        home: The project folder.
        host: The address to bind to; the settings' when left out.
        port: The port; the settings' when left out.

    Raises:
        NotReadyError: The folder has not been initialised.
        SettingsError: The address can be reached from elsewhere without TLS or consent.
        UnavailableError: The port or the socket is taken.
        NotSupportedError: gRPC is wanted and its library is not installed.
        StateError: The project's state cannot be read; the log says what.
    """
    with open_services(home, kind="serve") as services, ExitStack() as stack:
        settings = services.settings
        if settings.serve_grpc_port:
            _need_grpc()
        address, number = host or settings.serve_host, port or settings.serve_port
        check_bind(settings, address, origin="--host" if host else "serve_host")
        sockets = [bind_port(address, number)]
        if settings.serve_socket:
            path = services.home / settings.serve_socket
            sockets.append(stack.enter_context(unix_socket(path)))
        configure_logs(services.layout.logs, "serve", level=settings.log_level)
        scheme = "https" if settings.tls_cert else "http"
        where = f"{scheme}://{f'[{address}]' if ':' in address else address}:{number}"
        with Heartbeat(services, address=where):
            _run(services, sockets, where, address)


def _need_grpc() -> None:
    """Say now what would be missing later.

    Raises:
        NotSupportedError: The library is not installed.
    """
    if importlib.util.find_spec("grpc") is None:
        raise NotSupportedError(
            "serve_grpc_port is set, and grpcio is not installed. Run "
            "pip install 'penstock[grpc]', or leave the setting out."
        )


def _beside(services: LocalServices, app: ServeApp, keeper: Keeper, host: str) -> list[Beside]:
    """The gRPC server, where the settings ask for one."""
    settings, home = services.settings, services.home
    if not settings.serve_grpc_port:
        return []
    # A heavy library, which most projects do without.
    from .grpc_service import GrpcServer  # noqa: PLC0415

    tls = None
    if settings.tls_key and settings.tls_cert:
        tls = ((home / settings.tls_key).read_bytes(), (home / settings.tls_cert).read_bytes())
    port = settings.serve_grpc_port
    return [GrpcServer(keeper, app.inference, app.version, host=host, port=port, tls=tls)]


def _run(services: LocalServices, sockets: Sequence[socket.socket], where: str, host: str) -> None:
    settings, home = services.settings, services.home
    keeper = Keeper(services, address=where, limit_bytes=settings.score_file_mb * MEGABYTE)
    board = Board(services.layout.serving, where, services.clock)
    app = ServeApp(keeper, services.clock, board)
    app.beside += _beside(services, app, keeper, host)
    cert, key = (str(home / one) if one else None for one in (settings.tls_cert, settings.tls_key))
    server = server_of(app, cert=cert, key=key)
    server.run(sockets=list(sockets))
    if not server.started:
        raise StateError(
            f"Online scoring could not start. {services.layout.logs / 'serve.log'} says why."
        )


def server_of(app: ServeApp, *, cert: str | None = None, key: str | None = None) -> uvicorn.Server:
    """The server that answers with an application.

    Args:
        app: The application.
        cert: File with its certificate (PEM), for TLS.
        key: File with the certificate's private key.
    """
    config = uvicorn.Config(
        app,
        loop="uvloop",
        http=ServeProtocol,
        ws="none",
        lifespan="on",
        log_config=None,
        access_log=False,
        server_header=False,
        date_header=False,
        proxy_headers=False,
        backlog=BACKLOG,
        timeout_keep_alive=KEEP_ALIVE_S,
        timeout_graceful_shutdown=GRACE_S,
        ssl_certfile=cert,
        ssl_keyfile=key,
    )
    return _Server(config)
