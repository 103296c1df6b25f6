from __future__ import annotations

import json
import signal
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from penstock.ports import announce
from penstock.records import Event
from penstock.runtime import open_services

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from penstock.ports import Services
    from penstock.records import EventKind

    from .conftest import Said

    Call = Callable[..., Said]


def _say(services: Services, kind: EventKind, number: int) -> None:
    event = Event(
        event_id=f"{kind}:{number}",
        kind=kind,
        subject="btc[all]",
        ids={"number": str(number)},
        at_us=services.clock.now_us(),
    )
    announce(services.log, event)


@pytest.fixture
def home(tmp_path: Path, call: Call) -> Path:
    """A project in which two batches were taken in, and one was scored."""
    folder = tmp_path / "shop"
    assert call("init", "--home", folder).code == 0
    with open_services(folder) as services:
        _say(services, "raw.ingested", 1)
        _say(services, "scores.ready", 1)
        _say(services, "raw.ingested", 2)
    return folder


def test_the_newest_events_and_those_after_a_cursor(home: Path, call: Call) -> None:
    listed = call("events", "--home", home)
    newest = call("events", "--limit", 2, "--home", home, "--json").value
    ready = call("events", "--kind", "scores.ready", "--home", home, "--json").value
    first = call("events", "--after", 0, "--limit", 1, "--home", home)
    none = call("events", "--kind", "run.failed", "--home", home)
    wrong = call("events", "--kind", "score.ready", "--home", home)
    beyond = call("events", "--after", 4, "--home", home)

    assert listed.out.count("raw.ingested") == 2
    assert "btc[all]" in listed.out
    assert [one["cursor"] for one in newest["events"]] == [2, 3]
    assert [one["event_id"] for one in ready["events"]] == ["scores.ready:1"]
    assert "There is more: --after 1" in first.out
    assert "No such event yet." in none.out
    assert wrong.code == 2
    assert "Did you mean 'scores.ready'" in wrong.err
    assert beyond.code == 1
    assert "the newest is 3" in " ".join(beyond.err.split())


@pytest.mark.slow
def test_events_are_followed_as_they_come(home: Path) -> None:
    words = ("events", "--follow", "--after", "1", "--kind", "scores.ready", "--home", str(home))
    with subprocess.Popen(
        (sys.executable, "-m", "penstock.cli", *words, "--json"), stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        before = json.loads(process.stdout.readline())
        with open_services(home) as services:
            _say(services, "raw.ingested", 3)
            _say(services, "scores.ready", 2)
        came = json.loads(process.stdout.readline())
        process.send_signal(signal.SIGINT)
        left = process.stdout.read()

    assert (before["cursor"], before["event_id"]) == (2, "scores.ready:1")
    assert (came["cursor"], came["event_id"]) == (5, "scores.ready:2")
    assert left == b""
