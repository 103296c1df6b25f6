"""Addresses the servers bind to."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING

import psutil

from penstock.errors import SettingsError

if TYPE_CHECKING:
    from .settings import Settings

__all__ = ["check_port", "url_of"]


def check_port(host: str, port: int, *, setting: str) -> None:
    """See whether a port can be bound now.

    Args:
        host: The address.
        port: The port.
        setting: Name of the setting that chose it, for the message.

    Raises:
        SettingsError: It is in use, may not be bound, or the address is not this machine's.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as trial:
        trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            trial.bind((host, port))
        except OSError as error:
            raise SettingsError(
                f"Port {port} of {host} cannot be used: {error.strerror}{_holder(port)}. "
                f"Expected a free port; stop what uses it, or set {setting} "
                f"(PENSTOCK_{setting.upper()}) to another.",
                host=host,
                port=port,
                setting=setting,
            ) from None


def url_of(settings: Settings, host: str, port: int) -> str:
    """The address as clients on this machine call it."""
    scheme = "https" if settings.tls_cert else "http"
    reachable = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104 - compared only
    shown = f"[{reachable}]" if ":" in reachable else reachable
    return f"{scheme}://{shown}:{port}"


def _holder(port: int) -> str:
    """Who listens on the port, as far as the system tells this user."""
    try:
        for connection in psutil.net_connections("tcp"):
            if connection.status == psutil.CONN_LISTEN and connection.laddr[1:] == (port,):
                return f" (process {connection.pid})" if connection.pid else ""
    except psutil.AccessDenied:
        return ""
    return ""
