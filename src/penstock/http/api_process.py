"""The process ``penstock api``: the control plane on an address."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING

import uvicorn

from penstock.errors import UnavailableError
from penstock.runtime import check_bind, open_services

from .api_app import build_app

if TYPE_CHECKING:
    from pathlib import Path

    from penstock.runtime import LocalServices, Settings

__all__ = ["api"]

GRACE_S = 5


def api(home: Path, *, host: str | None = None, port: int | None = None) -> None:
    """Run the control plane until it is told to stop; answers what is in flight before it ends.

    Args:
        home: The project folder.
        host: The address to bind to; the settings' when left out.
        port: The port; the settings' when left out.

    Raises:
        NotReadyError: The folder has not been initialised.
        SettingsError: The address can be reached from elsewhere without TLS or consent.
        UnavailableError: The port is taken.
    """
    with open_services(home, kind="api") as services:
        settings = services.settings
        address, number = host or settings.api_host, port or settings.api_port
        check_bind(settings, address, origin="--host" if host else "api_host")
        bound = _bind(address, number)
        _serve(services, settings, bound)


def _serve(services: LocalServices, settings: Settings, bound: socket.socket) -> None:
    home = services.home
    config = uvicorn.Config(
        build_app(services),
        log_level="warning",
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=GRACE_S,
        ssl_certfile=str(home / settings.tls_cert) if settings.tls_cert else None,
        ssl_keyfile=str(home / settings.tls_key) if settings.tls_key else None,
    )
    uvicorn.Server(config).run(sockets=[bound])


def _bind(host: str, port: int) -> socket.socket:
    """Take the port before anything else is loaded.

    Raises:
        UnavailableError: It is taken, or the address is not this machine's.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    bound = socket.socket(family, socket.SOCK_STREAM)
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        bound.bind((host, port))
    except OSError as error:
        bound.close()
        raise UnavailableError(
            f"The API cannot listen on {host}:{port}: {error.strerror}. Stop what uses the port, "
            "or choose another with --port or the setting api_port.",
            host=host,
            port=port,
        ) from error
    return bound
