"""The process ``penstock serve``: online scoring on an address."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import importlib.util
import signal
import socket
from contextlib import ExitStack, closing, contextmanager
from typing import TYPE_CHECKING

import uvicorn

from penstock.errors import NotSupportedError, StateError
from penstock.runtime import (
    Board,
    Heartbeat,
    check_bind,
    configure_logs,
    crew,
    leave,
    open_services,
    open_spans,
    read_sampling,
    reads_context,
)

from .serve_app import ServeApp
from .serve_keeper import Keeper
from .serve_protocol import KEEP_ALIVE_S, ServeProtocol
from .serve_sockets import bind_port, port_taken, unix_socket, waiting_at
from .serve_traces import Tracing
from .serve_waking import ByNeed
from .tls import RenewingServer, certificates_of

if TYPE_CHECKING:
    from collections.abc import Generator, Sequence
    from pathlib import Path

    from penstock.runtime import LocalServices, Place, Settings

    from .serve_app import Beside
    from .tls import Certificates

__all__ = ["serve"]

GRACE_S = 10
OPEN_S = 2.0
"""How long the end waits for connections to be opened that came before it."""
TELL_S = 0.1
BACKLOG = 2_048
TICKS_PER_S = 10
KILOBYTE, MEGABYTE = 1 << 10, 1 << 20
COLLECT_EVERY = 10_000


class _Server(RenewingServer):
    """uvicorn's server, which on SIGTERM or SIGINT drains and then returns.

    As it comes it raises the signal again when it is done, and the process would die of it before
    it has taken its records away.
    """

    def __init__(
        self,
        config: uvicorn.Config,
        app: ServeApp,
        place: Place | None,
        certificates: Certificates | None,
    ) -> None:
        super().__init__(config)
        self._app = app
        self._place = place
        self.certificates = certificates

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start, then set aside all that has been loaded.

        Nearly a hundred thousand objects of libraries and models live as long as the process. A
        collection that walks them all stops every answer for 60 ms, and under load one comes
        every few seconds. What requests leave behind is looked through less often than is usual:
        there is hardly a circle in it.

        Raises:
            UnavailableError: Another process listens on the port since it was bound.
        """
        addresses = [one.getsockname() for one in sockets or ()]
        await super().startup(sockets)
        for one, address in zip(sockets or (), addresses, strict=True):
            # Of two that have bound a port the first that listens has it. For the other uvloop
            # closes the socket, says nothing, and goes on.
            if one.fileno() == -1:
                await self.shutdown(sockets)
                why = "another process, or gRPC in this one, listens there since"
                host, port = address[:2]
                raise port_taken(host, port, why)
        gc.collect()
        gc.freeze()
        gc.set_threshold(COLLECT_EVERY)
        if self._place is not None and self.started:
            self._place.tell_ready()
            asyncio.get_running_loop().add_reader(self._place.line, self._abandoned)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Be ready no more, listen no more, answer whoever has come before, and end."""
        self._app.leave()
        last = self._last_comers(sockets or [])
        telling = asyncio.create_task(self._tell_late())
        loop = asyncio.get_running_loop()
        opening = [
            loop.connect_accepted_socket(self._protocol, one, ssl=self.config.ssl) for one in last
        ]
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(OPEN_S):
                await asyncio.gather(*opening, return_exceptions=True)
        await super().shutdown(sockets)
        telling.cancel()

    def _last_comers(self, sockets: list[socket.socket]) -> list[socket.socket]:
        """Whoever waits to be let in; nobody listens here from then on.

        The kernel has told them that they are connected, and would cut them off with the socket.
        Nothing else is done between the two: who comes then is lost. At the UNIX socket that
        several processes share the others let them in.
        """
        found: list[socket.socket] = []
        for server, listening in zip(self.servers, sockets, strict=True):
            if self._place is None or listening.family != socket.AF_UNIX:
                found += waiting_at(listening)
            server.close()
        return found

    def _protocol(self) -> asyncio.Protocol:
        return ServeProtocol(self.config, self.server_state, self.lifespan.state)

    async def _tell_late(self) -> None:
        """Tell connections of the end that were still being opened when it came."""
        told = set(self.server_state.connections)
        while True:
            await asyncio.sleep(TELL_S)
            for one in self.server_state.connections - told:
                one.shutdown()
                told.add(one)

    def _abandoned(self) -> None:
        """Stop: whoever watched over this process is gone, and says nothing otherwise."""
        if self._place is not None:
            asyncio.get_running_loop().remove_reader(self._place.line)
        self.should_exit = True

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


def serve(
    home: Path,
    *,
    host: str | None = None,
    port: int | None = None,
    workers: int | None = None,
) -> None:
    """See ``penstock.http.serve``.

    Args:
        home: The project folder.
        host: The address to bind to; the settings' when left out.
        port: The port; the settings' when left out.
        workers: How many processes answer; the settings' when left out.

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
        place = None
        if (count := workers or settings.serve_workers) > 1:
            sockets.pop(0).close()  # it is free, which is all that had to be known
            configure_logs(services.layout.logs, "serve-workers", level=settings.log_level)
            place = crew(count)
            if place is None:
                return
            sockets.insert(0, bind_port(address, number, shared=True))
        configure_logs(services.layout.logs, _log_name(place), level=settings.log_level)
        scheme = "https" if settings.tls_cert else "http"
        where = f"{scheme}://{f'[{address}]' if ':' in address else address}:{number}"
        with Heartbeat(services, address=where), _tracing(services) as tracing:
            _run(services, sockets, where, address, place=place, tracing=tracing)
    leave()  # an explanation may still be at work


def _log_name(place: Place | None) -> str:
    """Each process has a log of its own: two that share one would take turns to begin it anew."""
    return f"serve-{place.number}" if place and place.number > 1 else "serve"


@contextmanager
def _tracing(services: LocalServices) -> Generator[Tracing | None]:
    """What traces requests, where the settings ask for it; sends what is left at the end."""
    spans = open_spans(services.settings, kind="serve")
    if spans is None:
        yield None
        return
    sampling = read_sampling(services.settings)
    with closing(spans):
        yield Tracing(spans, services.clock, sampling, reads_context=reads_context())


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


def _beside(  # noqa: PLR0913 - what the other server is made of
    settings: Settings,
    app: ServeApp,
    keeper: Keeper,
    host: str,
    *,
    tls: Certificates | None,
    shared: bool,
) -> list[Beside]:
    """The gRPC server, where the settings ask for one."""
    if not settings.serve_grpc_port:
        return []
    # A heavy library, which most projects do without.
    from .grpc_service import GrpcServer  # noqa: PLC0415

    port = settings.serve_grpc_port
    return [
        GrpcServer(
            keeper,
            app.inference,
            app.version,
            host=host,
            port=port,
            tls=tls,
            limit_bytes=app.limit_bytes,
            shared=shared,
        )
    ]


def _run(  # noqa: PLR0913 - what a process is made of
    services: LocalServices,
    sockets: Sequence[socket.socket],
    where: str,
    host: str,
    *,
    place: Place | None,
    tracing: Tracing | None,
) -> None:
    settings = services.settings
    keeper = Keeper(
        services,
        address=where,
        limit_bytes=settings.score_file_mb * MEGABYTE,
        by_need=_by_need(settings),
        queue_us=settings.serve_queue_ms * 1_000,
        spans=tracing.spans if tracing else None,
    )
    board = Board(services.layout.serving, where, services.clock)
    limit_bytes = settings.serve_body_kb * KILOBYTE
    app = ServeApp(keeper, services.clock, board, tracing, limit_bytes=limit_bytes)
    tls = certificates_of(settings, services.home)
    app.beside += _beside(settings, app, keeper, host, tls=tls, shared=place is not None)
    server = server_of(app, certificates=tls, place=place)
    server.run(sockets=list(sockets))
    if not server.started:
        log = services.layout.logs / f"{_log_name(place)}.log"
        raise StateError(f"Online scoring could not start. {log} says why.")


def _by_need(settings: Settings) -> ByNeed | None:
    """What deployments that are loaded by need may take; none where all are loaded."""
    if settings.serve_load == "all":
        return None
    return ByNeed(settings.serve_memory_mb * MEGABYTE, settings.serve_idle_s * 1_000_000)


def server_of(
    app: ServeApp,
    *,
    certificates: Certificates | None = None,
    place: Place | None = None,
) -> uvicorn.Server:
    """The server that answers with an application.

    Args:
        app: The application.
        certificates: Its certificate; none without TLS.
        place: This process's among those that share the port; none where it is alone.
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
        **(certificates.for_uvicorn() if certificates else {}),
    )
    return _Server(config, app, place, certificates)
