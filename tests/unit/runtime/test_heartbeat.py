from __future__ import annotations

import os
import subprocess
import sys
from datetime import timedelta
from typing import TYPE_CHECKING

import msgspec

from penstock.errors import UnavailableError
from penstock.records import Process
from penstock.runtime import Heartbeat, heartbeat, is_alive, living_processes, open_services

if TYPE_CHECKING:
    from pathlib import Path

    import pytest

    from penstock.ports import Put
    from penstock.runtime import LocalServices


def only(services: LocalServices) -> Process:
    (found,) = services.metadata.find(Process)
    return found


def test_a_process_is_known_while_it_lives(home: Path) -> None:
    with open_services(home, kind="serve") as services:
        with Heartbeat(services, address="http://127.0.0.1:1", executor_id="serve-1"):
            record = only(services)
            assert living_processes(services) == [record]
            assert living_processes(services, kind="serve") == [record]
            assert living_processes(services, kind="worker") == []
        assert services.metadata.find(Process) == []

    assert (record.process_id, record.kind) == (os.getpid(), "serve")
    assert (record.address, record.executor_id) == ("http://127.0.0.1:1", "serve-1")
    assert record.started_at < record.seen_at


def test_it_beats(services: LocalServices, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(heartbeat, "BEAT_S", 0.01)
    with Heartbeat(services):
        first = only(services)
        while only(services).seen_at == first.seen_at:
            pass
        later = only(services)

    assert msgspec.structs.replace(later, seen_at=first.seen_at) == first


def test_the_dead_are_told_from_the_living(services: LocalServices) -> None:
    with Heartbeat(services):
        here = only(services)
    now = here.seen_at
    with subprocess.Popen([sys.executable, "-c", ""]) as gone:
        gone.wait()
    another_start = here.started_at - timedelta(seconds=10)

    assert is_alive(here, now)
    assert is_alive(here, now + timedelta(seconds=29))
    assert not is_alive(here, now + timedelta(seconds=31))
    assert not is_alive(msgspec.structs.replace(here, process_id=gone.pid), now)
    assert not is_alive(msgspec.structs.replace(here, started_at=another_start), now)


def test_a_killed_process_is_not_among_the_living(services: LocalServices, home: Path) -> None:
    script = (
        "import sys; from pathlib import Path; from penstock.runtime import *\n"
        "services = open_services(Path(sys.argv[1]), kind='worker')\n"
        "with Heartbeat(services): print('beats', flush=True); sys.stdin.read()\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", script, str(home)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as child:
        assert child.stdout is not None
        child.stdout.readline()
        alive = living_processes(services, kind="worker")
        child.kill()

    assert [process.process_id for process in alive] == [child.pid]
    assert living_processes(services) == []
    assert only(services).process_id == child.pid


def test_a_store_that_is_busy_does_not_end_it(
    services: LocalServices, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(heartbeat, "BEAT_S", 0.01)
    metadata = services.metadata
    write = metadata.write
    refused: list[object] = []

    def busy(*changes: Put) -> None:
        if len(refused) < 3:
            refused.append(changes)
            raise UnavailableError("The store is locked. Try again.")
        write(*changes)

    with Heartbeat(services):
        first = only(services)
        monkeypatch.setattr(metadata, "write", busy)
        while only(services).seen_at == first.seen_at:
            pass
        monkeypatch.setattr(metadata, "write", write)

    assert len(refused) == 3
