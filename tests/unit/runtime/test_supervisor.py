from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from typing import TYPE_CHECKING

import psutil
import pytest

from penstock.errors import NotReadyError, SettingsError, UnavailableError
from penstock.runtime import ProcessStatus, supervisor, up
from penstock.runtime.children import Child
from penstock.runtime.supervisor import Supervisor, Ward
from penstock.testing.ports import free_port

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Sequence
    from pathlib import Path
    from typing import Self

    from penstock.runtime import LocalServices

PATIENCE_S = 20.0
ANSWERS = """
import http.server, sys
class Answer(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200 if self.path == "/v2/health/live" else 404)
        self.end_headers()
http.server.HTTPServer(("127.0.0.1", int(sys.argv[1])), Answer).serve_forever()
"""
DIES = "import sys; print('one'); print('two'); sys.exit(3)"
DEAF = (
    "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
    "print('deaf', flush=True); time.sleep(60)"
)


@pytest.fixture
def port() -> int:
    return free_port()


class Watched:
    """A supervisor at work in a thread, and what it told."""

    def __init__(self, services: LocalServices, children: list[Child]) -> None:
        self.told: list[list[ProcessStatus]] = []
        self.times: list[tuple[float, ProcessStatus]] = []
        self.stop = threading.Event()
        self._supervisor = Supervisor(services, [Ward(child) for child in children], self._listen)
        self._thread = threading.Thread(target=self._supervisor.run, args=(self.stop,))

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop.set()
        self._thread.join()

    def _listen(self, statuses: Sequence[ProcessStatus]) -> None:
        self.told.append(list(statuses))
        self.times.append((time.monotonic(), statuses[0]))

    def until(self, holds: Callable[[ProcessStatus], bool]) -> ProcessStatus:
        end_s = time.monotonic() + PATIENCE_S
        while time.monotonic() < end_s:
            for statuses in list(self.told):
                if holds(statuses[0]):
                    return statuses[0]
            time.sleep(0.01)
        raise AssertionError(self.told)


def child_of(script: str, folder: Path, *arguments: str, address: str = "") -> Child:
    command = [sys.executable, "-c", script, *arguments]
    return Child("serve", command, folder / "serve.out", address=address)


def test_it_says_when_a_child_answers_and_starts_it_again(
    services: LocalServices, tmp_path: Path, port: int
) -> None:
    address = f"http://127.0.0.1:{port}"
    child = child_of(ANSWERS, tmp_path, str(port), address=address)
    with Watched(services, [child]) as watched:
        first = watched.until(lambda status: status.state == "ready")
        os.kill(first.process_id, signal.SIGKILL)
        second = watched.until(lambda status: status.state == "ready" and status.restarts == 1)

    assert watched.told[0][0].state == "starting"
    assert first.address == address
    assert second.process_id != first.process_id
    assert second.detail.startswith("signal 9")
    assert watched.told[-1][0].state == "stopped"
    assert not psutil.pid_exists(second.process_id)


def test_one_that_always_dies_is_started_ever_more_seldom(
    services: LocalServices, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(supervisor, "FIRST_BACKOFF_S", 0.05)
    monkeypatch.setattr(supervisor, "TICK_S", 0.01)
    with Watched(services, [child_of(DIES, tmp_path)]) as watched:
        watched.until(lambda status: status.restarts == 4)
        died = watched.until(lambda status: status.state == "restarting")
    # On a busy machine it has died again before it was seen alive.
    first = {status.restarts: at_s for at_s, status in reversed(watched.times)}
    last = {status.restarts: at_s for at_s, status in watched.times}
    pauses = [first[number] - last[number - 1] for number in range(1, 5)]

    assert died.detail == "exit code 3\none\ntwo"
    assert pauses[0] >= 0.05
    assert pauses[3] >= 0.4


def test_one_that_does_not_stop_is_killed(
    services: LocalServices, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(supervisor, "STOP_WITHIN_S", 0.3)
    with Watched(services, [child_of(DEAF, tmp_path)]) as watched:
        status = watched.until(lambda status: status.process_id > 0)
        while "deaf" not in (tmp_path / "serve.out").read_text():
            time.sleep(0.01)

    assert not psutil.pid_exists(status.process_id)
    assert [statuses[0].state for statuses in watched.told][-2:] == ["stopping", "stopped"]


def test_a_listener_that_fails_leaves_nothing_behind(
    services: LocalServices, tmp_path: Path
) -> None:
    child = child_of(DEAF, tmp_path)

    def fail(_statuses: Sequence[ProcessStatus]) -> None:
        raise ValueError

    with pytest.raises(ValueError):  # noqa: PT011 - it is the listener's own
        Supervisor(services, [Ward(child)], fail).run(threading.Event())
    assert not child.runs


@pytest.fixture
def supervised(tmp_path: Path) -> Generator[tuple[subprocess.Popen[bytes], int]]:
    """A parent with one child, and the child's id."""
    script = (
        "import sys, time; from pathlib import Path; from penstock.runtime.children import Child\n"
        f"child = Child('c', [sys.executable, '-c', {DEAF!r}], Path(sys.argv[1]) / 'out')\n"
        "child.start(); print(child.process_id, flush=True); time.sleep(60)"
    )
    with subprocess.Popen(
        [sys.executable, "-c", script, str(tmp_path)], stdout=subprocess.PIPE
    ) as parent:
        assert parent.stdout is not None
        yield parent, int(parent.stdout.readline())
        parent.kill()
        parent.wait()


def test_children_die_with_a_parent_that_is_killed(
    supervised: tuple[subprocess.Popen[bytes], int],
) -> None:
    parent, child_id = supervised
    child = psutil.Process(child_id)
    parent.kill()
    parent.wait()

    gone, alive = psutil.wait_procs([child], timeout=PATIENCE_S)
    assert (gone, alive) == ([child], [])


def test_up_takes_a_project(tmp_path: Path) -> None:
    with pytest.raises(NotReadyError):
        up(tmp_path, stop=threading.Event())


def test_up_finds_a_port_in_use_before_it_starts_anything(home: Path) -> None:
    told: list[object] = []
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        holder.listen()
        number = holder.getsockname()[1]
        (home / "penstock.toml").write_text(f"serve_port = {number}\n")
        with pytest.raises(SettingsError, match=rf"Port {number} .*serve_port"):
            up(home, processes=["worker", "serve"], on_change=told.append, stop=threading.Event())

    assert told == []


def test_up_starts_as_many_streams_as_the_settings_say(home: Path) -> None:
    (home / "penstock.toml").write_text("stream_processes = 2\nstream_partitions = 4\n")
    told: list[Sequence[ProcessStatus]] = []
    stop = threading.Event()

    def listen(statuses: Sequence[ProcessStatus]) -> None:
        told.append(statuses)
        if all(status.state == "ready" for status in statuses):
            stop.set()

    up(home, processes=["stream"], on_change=listen, stop=stop)

    assert [status.name for status in told[-1]] == ["stream", "stream-2"]
    assert len({status.process_id for status in told[0]}) == 2
    assert {path.name for path in (home / ".penstock/logs").glob("stream*")} == {
        "stream.log", "stream.out", "stream-2.log", "stream-2.out",
    }  # fmt: skip


def test_up_runs_once_in_a_folder(home: Path, services: LocalServices) -> None:
    with services.locks.hold("up"), pytest.raises(UnavailableError, match="run already") as refused:
        up(home, processes=[], stop=threading.Event())
    assert f"process {os.getpid()}" in refused.value.message
