from __future__ import annotations

import subprocess
import sys
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import msgspec
import psutil
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from penstock.errors import UnavailableError
from penstock.features import lock_of
from penstock.ports import Delete, Put
from penstock.records import Lease, Process
from penstock.runtime import sharing
from penstock.runtime.sharing import Share

if TYPE_CHECKING:
    from collections.abc import Generator

    from penstock.runtime import LocalServices


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sharing, "LOOK_S", 0.0)
    monkeypatch.setattr(sharing, "SHY", timedelta(0))


@pytest.fixture
def sleeper() -> Generator[psutil.Process]:
    """A process that lives and does nothing."""
    code = "import time; time.sleep(600)"
    with subprocess.Popen([sys.executable, "-c", code]) as process:
        yield psutil.Process(process.pid)
        process.kill()


def settle(shares: list[Share], count: int, space: str = "v") -> list[list[int]]:
    """What each has after a few turns of all."""
    for _ in range(5):
        for share in shares:
            share.slots(space, count)
    return [share.slots(space, count) for share in shares]


def test_one_process_has_all(services: LocalServices) -> None:
    share = Share(services, holder="one")
    assert share.slots("v", 4) == [0, 1, 2, 3]
    assert share.has("ingest/candles")
    with share.hold(lock_of("v", 2)) as token:
        assert token > 0
    with pytest.raises(UnavailableError, match="another process's"), share.hold(lock_of("w", 0)):
        pass


@pytest.mark.parametrize(("processes", "count"), [(2, 4), (3, 4), (3, 8), (4, 2), (2, 1)])
def test_partitions_are_shared_out_evenly(
    services: LocalServices, processes: int, count: int
) -> None:
    shares = [Share(services, holder=str(number)) for number in range(processes)]
    found = settle(shares, count)
    assert sorted(slot for own in found for slot in own) == list(range(count))
    # Who has nothing and is not known by a heartbeat is not counted on: see the next test.
    shares[0].close()
    found = settle(shares[1:], count)
    assert sorted(slot for own in found for slot in own) == list(range(count))


def test_who_comes_later_gets_its_share(
    services: LocalServices, sleeper: psutil.Process, monkeypatch: pytest.MonkeyPatch
) -> None:
    share = Share(services, holder="one")
    assert len(share.slots("v", 8)) == 8
    monkeypatch.setattr(sharing, "SHY", timedelta(hours=1))
    beat(services, sleeper, timedelta(0))
    assert len(settle([share], 8)[0]) == 4
    # What was let go is left to the other for a while, and taken when it does not come.
    monkeypatch.setattr(sharing, "SHY", timedelta(0))
    services.metadata.write(Delete(services.metadata.find(Process)[0]))
    assert len(settle([share], 8)[0]) == 8


def beat(services: LocalServices, process: psutil.Process, ago: timedelta) -> None:
    started = datetime.fromtimestamp(process.create_time(), tz=UTC)
    seen = services.clock.now() - ago
    record = Process(process_id=process.pid, kind="stream", started_at=started, seen_at=seen)
    services.metadata.write(Put(record))


def test_what_a_silent_process_had_is_taken_over(
    services: LocalServices, sleeper: psutil.Process
) -> None:
    share = Share(services, holder="one")
    share.slots("v", 2)
    for lease in services.metadata.find(Lease):
        started = datetime.fromtimestamp(sleeper.create_time(), tz=UTC)
        theirs = msgspec.structs.replace(
            lease, holder="theirs", process_id=sleeper.pid, started_at=started
        )
        services.metadata.write(Put(theirs))
    beat(services, sleeper, timedelta(0))
    assert share.slots("v", 2) == []
    before = services.metadata.find(Lease)
    beat(services, sleeper, timedelta(seconds=7))
    assert share.slots("v", 2) == [0, 1]
    after = services.metadata.find(Lease)
    assert all(new.token > old.token for new, old in zip(after, before, strict=True))


def test_what_somebody_waits_for_is_let_go(services: LocalServices) -> None:
    share = Share(services, holder="one")
    share.slots("v", 2)
    (first, _) = services.metadata.find(Lease)
    until = services.clock.now() + timedelta(seconds=9)
    asked = msgspec.structs.replace(first, wanted_by="me", wanted_until=until)
    services.metadata.write(Put(asked))
    assert share.slots("v", 2) == [1]
    assert share.slots("v", 2) == [1], "it is kept for who asked"
    passed = msgspec.structs.replace(asked, holder="", wanted_until=services.clock.now())
    services.metadata.write(Put(passed))
    assert 0 in settle([share], 2)[0]


@settings(
    max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(turns=st.lists(st.tuples(st.integers(0, 2), st.booleans()), max_size=25))
def test_no_two_have_one_partition(services: LocalServices, turns: list[tuple[int, bool]]) -> None:
    """Whoever looks, closes and comes back in whatever order."""
    shares = [Share(services, holder=str(number)) for number in range(3)]
    for who, closes in turns:
        if closes:
            shares[who].close()
        else:
            shares[who].slots("v", 5)
        have = [share.slots("v", 5) if share is shares[who] else [] for share in shares]
        holders = {one.name: one.holder for one in services.metadata.find(Lease)}
        assert all(holders[lock_of("v", slot)] == str(who) for slot in have[who])
    for share in shares:
        share.close()
    assert {one.holder for one in services.metadata.find(Lease)} <= {""}
