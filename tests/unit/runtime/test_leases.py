from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING

import msgspec
import psutil
import pytest

from penstock.errors import UnavailableError
from penstock.ports import Put
from penstock.records import Lease, Process
from penstock.runtime import leases
from penstock.runtime.leases import Leases
from penstock.testing.locks_suite import LocksSuite
from penstock.testing.openers import open_leases

if TYPE_CHECKING:
    from collections.abc import Callable, Generator
    from pathlib import Path

    from penstock.ports import Locks
    from penstock.runtime import LocalServices


class TestLeases(LocksSuite):
    @pytest.fixture
    def opener(self, home: Path) -> Callable[[], Locks]:
        return partial(open_leases, home)


@pytest.fixture
def other() -> Generator[psutil.Process]:
    """A process that lives and does nothing."""
    with subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"]) as process:
        yield psutil.Process(process.pid)
        process.kill()


def held_by(services: LocalServices, process: psutil.Process, token: int = 7) -> Lease:
    lease = Lease(
        name="a",
        token=token,
        holder="another",
        process_id=process.pid,
        started_at=datetime.fromtimestamp(process.create_time(), tz=UTC),
        since=services.clock.now(),
    )
    services.metadata.write(Put(lease))
    return lease


def beat(services: LocalServices, process: psutil.Process, ago: timedelta) -> None:
    started = datetime.fromtimestamp(process.create_time(), tz=UTC)
    seen = services.clock.now() - ago
    record = Process(process_id=process.pid, kind="stream", started_at=started, seen_at=seen)
    services.metadata.write(Put(record))


def test_a_silent_holder_loses_it_and_a_living_one_does_not(
    services: LocalServices, other: psutil.Process
) -> None:
    held_by(services, other, token=2**62)
    ours = Leases(services)
    for ago in (timedelta(0), leases.LEASE - timedelta(seconds=2)):
        beat(services, other, ago)
        assert ours.take("a", "me") is None
    beat(services, other, leases.LEASE)
    taken = ours.take("a", "me")
    assert taken is not None
    assert (taken.token, taken.holder) == (2**62 + 1, "me")


def test_a_holder_that_never_beats_is_judged_by_the_process_table(
    services: LocalServices, other: psutil.Process
) -> None:
    lease = held_by(services, other)
    assert Leases(services).take("a", "me") is None
    started = lease.started_at - timedelta(seconds=9)
    services.metadata.write(Put(msgspec.structs.replace(lease, started_at=started)))
    assert Leases(services).take("a", "me") is not None, "the id belongs to a younger process"


def test_a_dead_process_that_nobody_asked_after_has_lost_it(services: LocalServices) -> None:
    with subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"]) as process:
        known = psutil.Process(process.pid)
        held_by(services, known)
        beat(services, known, timedelta(0))
        os.kill(process.pid, signal.SIGKILL)
        while known.status() != psutil.STATUS_ZOMBIE:
            time.sleep(0.01)
        assert Leases(services).take("a", "me") is not None


def test_who_lets_go_late_takes_nothing_away(services: LocalServices) -> None:
    ours = Leases(services)
    first = ours.take("a", "first")
    assert first is not None
    assert ours.take("a", "first") == first
    assert ours.take("a", "second") is None
    free = ours.release(first)
    assert (free.holder, free.token) == ("", first.token)
    second = ours.take("a", "second")
    assert second is not None
    assert second.token > first.token
    assert ours.release(first) == second
    assert services.metadata.read(Lease, "a") == second


def test_who_waits_asks_for_it(services: LocalServices, monkeypatch: pytest.MonkeyPatch) -> None:
    ours = Leases(services)
    lease = ours.take("a", "stream", group="v")
    assert lease is not None
    got: list[int] = []

    def want() -> None:
        with ours.hold("a", wait_s=30) as token:
            got.append(token)

    thread = threading.Thread(target=want)
    thread.start()
    while not (asked := services.metadata.read(Lease, "a")) or not asked.is_wanted(
        services.clock.now()
    ):
        time.sleep(0.01)
    assert got == []
    ours.release(lease)
    thread.join()
    assert got > [lease.token]
    monkeypatch.setattr(leases, "ASKED_FOR", timedelta(0))
    assert ours.take("a", "stream") is not None
    with pytest.raises(UnavailableError, match="was not let go"):
        ours.hold("a", wait_s=0.05).__enter__()


def test_an_interrupt_leaves_nothing_held(
    services: LocalServices, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = services.metadata.write

    def interrupted(*changes: Put) -> None:
        write(*changes)
        if isinstance(changes[0].record, Lease):
            monkeypatch.undo()
            raise KeyboardInterrupt

    monkeypatch.setattr(services.metadata, "write", interrupted)
    with pytest.raises(KeyboardInterrupt):
        services.leases.hold("a").__enter__()
    with services.leases.hold("a", wait_s=0):
        pass
