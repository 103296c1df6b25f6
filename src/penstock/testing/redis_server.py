"""A Redis of one's own, for tests and benchmarks: started on a free port, gone afterwards."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Generator
    from pathlib import Path

__all__ = ["need_redis", "redis_server"]

REQUIRED = "PENSTOCK_TEST_SERVICES"
START_S = 10.0


def need_redis() -> None:
    """Skip the test where no Redis can be started; fail it where the environment asks for one."""
    if shutil.which("redis-server") is None:
        if os.environ.get(REQUIRED):
            pytest.fail(f"redis-server is not installed, and {REQUIRED} says it has to be.")
        pytest.skip("redis-server is not installed")


@contextmanager
def redis_server(folder: Path, port: int, *options: str) -> Generator[subprocess.Popen[bytes]]:
    """Run a Redis until the block ends.

    Args:
        folder: Where it keeps what it keeps; made when it is not there.
        port: Where it listens.
        options: More of its options.

    Raises:
        TimeoutError: It does not listen within ten seconds.
    """
    folder.mkdir(exist_ok=True)
    command = ["redis-server", "--port", str(port), "--bind", "127.0.0.1", "--dir", str(folder)]
    with subprocess.Popen([*command, *options], stdout=subprocess.DEVNULL) as child:  # noqa: S603 - our own server
        try:
            _wait_for(port)
            yield child
        finally:
            child.terminate()
            child.wait(10)


def _wait_for(port: int) -> None:
    end = time.monotonic() + START_S
    while time.monotonic() < end:
        with socket.socket() as trial:
            if trial.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.02)
    raise TimeoutError(f"redis-server does not listen at port {port}.")
