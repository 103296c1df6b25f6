"""A process of a project, for tests that ask it over HTTP."""

from __future__ import annotations

import os
import signal
import ssl
import subprocess
import sys
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

import httpx

from .ports import free_port

if TYPE_CHECKING:
    from collections.abc import Generator, Sequence
    from pathlib import Path

    from .served_project import ServedProject

__all__ = ["running", "serving"]

READY_S = 60.0


@contextmanager
def serving(project: ServedProject, process_kind: str = "serve") -> Generator[httpx.Client]:
    """Run ``penstock serve`` until the block ends; killed then.

    Args:
        project: The project.
        process_kind: ``api`` for the control plane in its place.

    Yields:
        A client of its administrator, once it is ready.

    Raises:
        RuntimeError: It ended, or is not ready within a minute.
    """
    port = str(free_port())
    command = [sys.executable, "-m", "penstock.cli", process_kind, "--home", str(project.home)]
    with running(project, [*command, "--port", port], port) as http:
        yield http


@contextmanager
def running(
    project: ServedProject,
    command: Sequence[str],
    port: str,
    *,
    cert: Path | None = None,
    shows: Path | None = None,
) -> Generator[httpx.Client]:
    """Run a command that serves a project until the block ends; killed then.

    Args:
        project: The project.
        command: The command.
        port: Where it answers.
        cert: Its certificate, where it answers over TLS.
        shows: The folder of the client's own certificate, ``cert.pem`` and ``key.pem``.

    Yields:
        A client of its administrator, once it is ready.

    Raises:
        RuntimeError: It ended, or is not ready within a minute.
    """
    # Where it hangs is said by its own fault handler, when it is ended for it.
    tells = os.environ | {"PYTHONFAULTHANDLER": "1"}
    process = subprocess.Popen(command, env=tells)  # noqa: S603 - our own command
    headers = {"Authorization": f"Bearer {project.token}"}
    url = f"{'https' if cert else 'http'}://127.0.0.1:{port}"
    trusted = ssl.create_default_context(cafile=cert)
    if shows is not None:
        trusted.load_cert_chain(shows / "cert.pem", shows / "key.pem")
    try:
        with httpx.Client(base_url=url, headers=headers, verify=trusted, timeout=20) as http:
            _wait_ready(http, process)
            yield http
    finally:
        process.kill()
        process.wait()


def _wait_ready(http: httpx.Client, process: subprocess.Popen[bytes]) -> None:
    end_s, last = time.monotonic() + READY_S, ""
    while time.monotonic() < end_s and process.poll() is None:
        try:
            reply = http.get("/v2/health/ready")
            if reply.is_success:
                return
            last = f"{reply.status_code} {reply.text}"
        except httpx.TransportError as error:
            last = repr(error)
        time.sleep(0.05)
    if process.poll() is not None:
        raise RuntimeError(f"The process ended with {process.returncode} before it was ready.")
    process.send_signal(signal.SIGABRT)
    process.wait()
    raise RuntimeError(
        f"The process is not ready within {READY_S:g} s; the last answer was {last}. What it was "
        "about is in its standard error."
    )
