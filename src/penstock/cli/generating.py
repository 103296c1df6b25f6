"""The command that writes a client of a deployment."""

from __future__ import annotations

import os
from pathlib import Path  # noqa: TC003 - Typer reads the annotations
from typing import TYPE_CHECKING, Any

import httpx
import typer
from rich.markup import escape

from penstock.client.generated import client_files, package_of
from penstock.errors import AccessError, ConflictError, NotReadyError, UnavailableError
from penstock.runtime import living_processes, open_services

from .failures import UsageError
from .humanise import plural

if TYPE_CHECKING:
    from collections.abc import Mapping

    from .screen import Screen

__all__ = ["client"]

TIMEOUT_S = 30.0
MARK = "penstock client"
UNAUTHENTICATED = 401


def client(
    screen: Screen,
    deployment: str = typer.Argument(help="The deployment."),
    out: Path = typer.Option(help="The folder to write the package to; made when it is missing."),
    url: str = typer.Option(
        "",
        "--url",
        help="Where 'penstock serve' answers, with the token in PENSTOCK_TOKEN; the project's own "
        "process otherwise.",
    ),
) -> None:
    """Write a typed Python client of a deployment."""
    if url:
        address, token = url.rstrip("/"), os.environ.get("PENSTOCK_TOKEN", "")
    else:
        address, token = _own(screen)
    found = client_files(_document(address, token, verify=bool(url)), deployment, address)
    _write(out, found)
    told = {"package": package_of(deployment), "folder": str(out), "files": sorted(found)}
    where = escape(str(out))
    screen.show(
        told,
        f"[green]✓[/] {told['package']} is in {where}, {plural(len(found), 'file')}.",
        f"  Next: pip install {where}",
    )


def _own(screen: Screen) -> tuple[str, str]:
    """Where the project's serving process answers, and its token."""
    with open_services(screen.home) as services:
        for process in living_processes(services, kind="serve"):
            if process.address:
                return process.address, services.token
    raise NotReadyError(
        "No serving process runs, and a client is made from what one says. Run 'penstock serve', "
        "or name one with --url."
    )


def _document(where: str, token: str, *, verify: bool) -> Mapping[str, Any]:
    headers = {"authorization": f"Bearer {token}"} if token else {}
    try:
        # The project's own process has a certificate of this machine.
        told = httpx.get(f"{where}/openapi.json", headers=headers, timeout=TIMEOUT_S, verify=verify)
        document: dict[str, Any] = told.json() if told.is_success else {}
    except (httpx.InvalidURL, httpx.UnsupportedProtocol) as error:
        raise UsageError(
            f"--url {where!r} is no address: {error} Write it like http://localhost:8001."
        ) from error
    except (httpx.HTTPError, ValueError) as error:
        raise UnavailableError(
            f"{where} does not describe itself: {error}. Give the address of 'penstock serve'.",
            address=where,
        ) from error
    if told.status_code == UNAUTHENTICATED:
        why = "does not know that token" if token else "asks for a token"
        raise AccessError(f"{where} {why}. Put yours in PENSTOCK_TOKEN.")
    if "paths" not in document or "components" not in document:
        raise UnavailableError(
            f"{where} answered {told.status_code} and no description. Give the address of "
            "'penstock serve'.",
            address=where,
        )
    return document


def _write(out: Path, found: Mapping[str, str]) -> None:
    """Write all files, or none where that would overwrite somebody's own.

    Raises:
        ConflictError: One is there that no earlier run has written.
    """
    for name in found:
        path = out / name
        if path.exists() and path.name != "py.typed" and MARK not in path.read_text("utf-8"):
            raise ConflictError(
                f"{path} was not made by 'penstock client'. Give another --out, or move it away."
            )
    for name, content in found.items():
        path = out / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content, encoding="utf-8")
