"""A process of a project, for tests that ask it over HTTP."""

from __future__ import annotations

import subprocess
import sys
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

import httpx

from .redis_server import free_port

if TYPE_CHECKING:
    from collections.abc import Generator, Sequence

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
def running(project: ServedProject, command: Sequence[str], port: str) -> Generator[httpx.Client]:
    """Run a command that serves a project until the block ends; killed then.

    Args:
        project: The project.
        command: The command.
        port: Where it answers.

    Yields:
        A client of its administrator, once it is ready.

    Raises:
        RuntimeError: It ended, or is not ready within a minute.
    """
    process = subprocess.Popen(command)  # noqa: S603 - our own command
    headers = {"Authorization": f"Bearer {project.token}"}
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", headers=headers, timeout=20) as http:
            _wait_ready(http, process)
            yield http
    finally:
        process.kill()
        process.wait()


def _wait_ready(http: httpx.Client, process: subprocess.Popen[bytes]) -> None:
    end_s = time.monotonic() + READY_S
    while time.monotonic() < end_s and process.poll() is None:
        try:
            if http.get("/v2/health/ready").is_success:
                return
        except httpx.TransportError:
            pass
        time.sleep(0.05)
    raise RuntimeError("The process ended, or is not ready within a minute.")
