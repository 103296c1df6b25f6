"""The process ``penstock api``: the control plane on an address."""

from __future__ import annotations

from typing import TYPE_CHECKING

import structlog
import uvicorn

from penstock.runtime import (
    Heartbeat,
    check_bind,
    check_port,
    configure_logs,
    leave,
    open_services,
    stop_on_signals,
    url_of,
)

from .api_app import build_app
from .tls import RenewingServer, certificates_of

if TYPE_CHECKING:
    from pathlib import Path

    from penstock.runtime import LocalServices

__all__ = ["api"]

GRACE_S = 5


def api(home: Path, *, host: str | None = None, port: int | None = None) -> None:
    """Run the control plane until SIGTERM or SIGINT; what is in flight then is still answered.

    Args:
        home: The project folder.
        host: The address to bind to; the settings' when left out.
        port: The port; the settings' when left out.

    Raises:
        NotReadyError: The folder has not been initialised.
        SettingsError: The port is in use, or the address can be reached from elsewhere without
            TLS or consent.
    """
    # uvicorn raises the signal it got once more at its end; here it only sets the event.
    with stop_on_signals(), open_services(home, kind="api") as services:
        settings = services.settings
        address, number = host or settings.api_host, port or settings.api_port
        check_bind(settings, address, origin="--host" if host else "api_host")
        check_port(address, number, setting="api_port")
        configure_logs(services.layout.logs, "api", level=settings.log_level)
        url = url_of(settings, address, number)
        with Heartbeat(services, address=url):
            structlog.get_logger("penstock.api").info("api answers", address=url)
            _serve(services, address, number)
    leave()


def _serve(services: LocalServices, host: str, port: int) -> None:
    certificates = certificates_of(services.settings, services.home)
    config = uvicorn.Config(
        build_app(services),
        host=host,
        port=port,
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=GRACE_S,
        **(certificates.for_uvicorn() if certificates else {}),
    )
    server = RenewingServer(config)
    server.certificates = certificates
    server.run()
