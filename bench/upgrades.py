"""Requests at 64 connections while versions change and processes are killed: how many fail.

Two serving processes share the load. A connection whose process is killed goes over to the other;
what was under way on it is counted by itself, everything else that is not answered with 200 has
failed.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import tempfile
import threading
import time
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from penstock.testing.redis_server import redis_server

from .figure import Figure
from .project import DECLARED, answers, build, command, free_port, run, token_of

if TYPE_CHECKING:
    from collections.abc import Callable

CONNECTIONS = 64
REQUESTS, QUICK = 1_000_000, 60_000
DEVICES = 40
WAIT_S = 300.0
AWAY_S = 2.0
CANARY = """
from penstock.spec import Checks
import msgspec
endpoint = msgspec.structs.replace(
    endpoint, canary=ps.Canary(steps=[0.2, 0.6], every="3s", min_scores=500, latency=50.0))
"""


class Client:
    """Asks on many connections without a pause, in a thread of its own.

    Args:
        ports: Where the serving processes answer.
        token: The caller's token.
        wanted: How many requests, at least; it goes on until ``enough`` is set too.

    Attributes:
        done: Requests answered with 200.
        failed: What else came, the first few in words.
        failures: How many failed.
        lost: Requests that were under way on a connection of a killed process.
        killed: Ports whose process was killed on purpose.
        enough: Set when everything has happened that is to happen.
    """

    def __init__(self, ports: list[int], token: str, wanted: int) -> None:
        self.done = self.failures = self.lost = 0
        self.failed: list[str] = []
        self.killed: set[int] = set()
        self.enough = threading.Event()
        self.took_s = 0.0
        self._ports, self._wanted = ports, wanted
        head = (
            "POST /v1/deployments/boosted/predict HTTP/1.1\r\nHost: bench\r\n"
            f"Content-Type: application/json\r\nAuthorization: Bearer {token}\r\n"
        )
        bodies = [json.dumps({"entity": {"device": number}}) for number in range(DEVICES)]
        self._requests = [
            f"{head}Content-Length: {len(body)}\r\n\r\n{body}".encode() for body in bodies
        ]
        self._thread = threading.Thread(target=lambda: asyncio.run(self._all()))

    def start(self) -> None:
        """Begin to ask."""
        self._thread.start()

    def join(self) -> None:
        """Wait until all has been asked."""
        self._thread.join()

    async def _all(self) -> None:
        began = time.monotonic()
        await asyncio.gather(*[self._connection(number) for number in range(CONNECTIONS)])
        self.took_s = time.monotonic() - began

    async def _connection(self, number: int) -> None:
        place = number
        while not self._over():
            port = self._ports[place % len(self._ports)]
            if port in self.killed:
                place += 1
                continue
            try:
                reader, writer = await asyncio.open_connection("127.0.0.1", port)
            except OSError as error:
                if port not in self.killed:
                    self._fail(f"connect: {error}")
                place += 1
                continue
            await self._ask(reader, writer, number, port)
            with suppress(OSError):
                writer.close()

    async def _ask(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, number: int, port: int
    ) -> None:
        """Ask until all is done or the connection ends."""
        while not self._over():
            number += 1
            try:
                writer.write(self._requests[number % DEVICES])
                head = await reader.readuntil(b"\r\n\r\n")
                lower = head.lower()
                at = lower.index(b"content-length:") + len(b"content-length:")
                body = await reader.readexactly(int(lower[at : lower.index(b"\r\n", at)]))
            except (OSError, asyncio.IncompleteReadError) as error:
                if port in self.killed:
                    self.lost += 1
                else:
                    self._fail(f"connection: {error!r}")
                return
            if head.startswith(b"HTTP/1.1 200"):
                self.done += 1
            else:
                self._fail(f"{head[:40]!r} {body[:300]!r}")

    def _over(self) -> bool:
        return self.enough.is_set() and self.done >= self._wanted

    def _fail(self, what: str) -> None:
        self.failures += 1
        if len(self.failed) < 5:
            self.failed.append(what)


class _Store:
    """A Redis that keeps what it is told, and can be killed.

    Args:
        folder: Where it keeps it.
        stack: Ends it.
    """

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        self._folder, self._port, self._stack = folder, free_port(), stack
        self.url = f"redis://127.0.0.1:{self._port}/0"
        self._child = self._started()

    def restart(self) -> None:
        """Kill it, leave it away for a moment, and wait until requests have had it again."""
        self._child.kill()
        self._child.wait()
        time.sleep(AWAY_S)
        self._child = self._started()
        time.sleep(AWAY_S)

    def _started(self) -> subprocess.Popen[bytes]:
        return self._stack.enter_context(
            redis_server(self._folder, self._port, "--appendonly", "yes")
        )


def measure(*, quick: bool) -> list[Figure]:
    """Take the figures."""
    with tempfile.TemporaryDirectory(prefix="penstock-bench-") as folder, ExitStack() as stack:
        home = Path(folder) / "home"
        home.mkdir()
        store = _Store(Path(folder) / "redis", stack)
        (home / "penstock.toml").write_text(f'online_url = "{store.url}"\n', encoding="utf-8")
        build(home)
        (home / "project.py").write_text(DECLARED + CANARY, encoding="utf-8")
        run(home, "apply")
        run(home, "train", "boosted", "--no-promote")
        return _figures(home, stack, store, QUICK if quick else REQUESTS)


def _figures(home: Path, stack: ExitStack, store: _Store, wanted: int) -> list[Figure]:
    token = token_of(home)
    ports = [free_port(), free_port()]
    servers = [_serve(home, stack, port) for port in ports]
    client = Client(ports, token, wanted)
    happened: dict[str, tuple[float, int]] = {}

    def happen(what: str, act: Callable[[], None]) -> None:
        before, began = client.failures, time.monotonic()
        act()
        happened[what] = (time.monotonic() - began, client.failures - before)

    worker = _start(stack, "worker", "--home", str(home))
    client.start()
    try:
        happen("canary of 2 steps, its worker killed", lambda: _canary(home, stack, worker))
        happen("rollback", lambda: run(home, "rollback", "boosted"))
        happen("hot reload", lambda: run(home, "rollback", "boosted", "--to", "2"))
        happen("kill and start of the store", store.restart)
        happen(
            "kill of a serving process", lambda: _kill(home, stack, client, ports[1], servers[1])
        )
    finally:
        client.enough.set()
        client.join()
    note = "; ".join(f"{what}: {took_s:.1f} s" for what, (took_s, _) in happened.items())
    return [
        Figure(
            what=f"failed of {client.done:,} requests at {CONNECTIONS} connections",
            ours=float(client.failures),
            unit="values",
            budget=0.0,
            note=f"{note}; {'; '.join(client.failed) or 'none failed'}",
        ),
        Figure(
            what="lost on connections of the killed process",
            ours=float(client.lost),
            unit="values",
            budget=float(CONNECTIONS),
        ),
        Figure(
            what="rate meanwhile, client and servers on the same cores",
            ours=client.done / client.took_s,
            unit="1/s",
        ),
    ]


def _start(stack: ExitStack, *arguments: str) -> subprocess.Popen[bytes]:
    child = subprocess.Popen(
        command(*arguments), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    stack.callback(child.wait)
    stack.callback(child.kill)
    return child


def _serve(home: Path, stack: ExitStack, port: int) -> subprocess.Popen[bytes]:
    child = _start(stack, "serve", "--home", str(home), "--port", str(port))
    _until(lambda: answers(f"http://127.0.0.1:{port}/v2/health/ready"))
    return child


def _canary(home: Path, stack: ExitStack, worker: subprocess.Popen[bytes]) -> None:
    """A canary to its end; the worker that looks after it is killed in its first step."""
    run(home, "deploy", "boosted", "--version", "2")
    worker.kill()
    _start(stack, "worker", "--home", str(home))
    _until(lambda: _state(home) not in {"canary", "promoting"})
    if _state(home) != "done":
        raise RuntimeError(f"the canary ended as {_state(home)}")


def _kill(
    home: Path, stack: ExitStack, client: Client, port: int, server: subprocess.Popen[bytes]
) -> None:
    """Kill a serving process with its connections open, and start another beside the first."""
    client.killed.add(port)
    server.kill()
    server.wait()
    _serve(home, stack, free_port())


def _state(home: Path) -> str:
    asked = command("deploy", "boosted", "--status", "--json", "--home", str(home))
    shown = subprocess.run(asked, capture_output=True, check=True).stdout
    return str(json.loads(shown)["state"])


def _until(holds: Callable[[], bool]) -> None:
    end_s = time.monotonic() + WAIT_S
    while not holds():
        if time.monotonic() > end_s:
            raise RuntimeError("it did not happen in time")
        time.sleep(0.2)
