"""Events are read by their place, all of them or of a kind, once and in order."""

from __future__ import annotations

from contextlib import closing
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest

from penstock.adapters.sqlite import SqliteEventLog
from penstock.adapters.system import SystemClock
from penstock.control import happened, happened_after, newest_happened
from penstock.errors import InputError
from penstock.ports import EVENTS_TOPIC, announce
from penstock.records import Event

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from penstock.ports import EventLog
    from penstock.records import EventKind

AT = datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=UTC)
AT_US = 1_767_323_045_678_901
READY = (3, 6, 9)
"""Places of the events of the kind ``scores.ready`` among ten."""


@pytest.fixture
def log(tmp_path: Path) -> Iterator[EventLog]:
    with closing(SqliteEventLog(tmp_path / "events.db", SystemClock())) as opened:
        for place in range(1, 11):
            kind: EventKind = "scores.ready" if place in READY else "raw.ingested"
            event = Event(
                event_id=f"{kind}:{place}",
                kind=kind,
                subject="btc",
                ids={"number": str(place)},
                at_us=AT_US,
            )
            announce(opened, event)
        yield opened


@pytest.mark.parametrize("kind", ["", "scores.ready"])
@pytest.mark.parametrize("limit", [1, 2, 3, 10, 100])
@pytest.mark.parametrize("looked_at", [1, 4, 100])
def test_pages_have_each_event_once(
    log: EventLog, monkeypatch: pytest.MonkeyPatch, kind: str, limit: int, looked_at: int
) -> None:
    monkeypatch.setattr(happened, "LOOKED_AT", looked_at)
    wanted = list(READY) if kind else list(range(1, 11))
    found: list[int] = []
    after, end = 0, 1
    while after < end:
        page = happened_after(log, after=after, limit=limit, kind=kind)
        assert len(page.events) <= limit
        assert page.next > after
        found += [one.cursor for one in page.events]
        after, end = page.next, page.end

    newest = newest_happened(log, limit=limit, kind=kind)

    assert found == wanted
    assert (after, end) == (10, 10)
    assert [one.cursor for one in newest.events] == wanted[-limit:]
    assert (newest.next, newest.end) == (10, 10)


def test_an_event_says_what_happened_to_whom_and_when(log: EventLog) -> None:
    (one,) = newest_happened(log, limit=1, kind="scores.ready").events

    assert (one.event_id, one.kind, one.subject) == ("scores.ready:9", "scores.ready", "btc")
    assert (one.ids, one.at) == ({"number": "9"}, AT)


def test_a_cursor_that_there_is_not_is_refused(log: EventLog, tmp_path: Path) -> None:
    assert happened_after(log, after=10, limit=5).events == []
    with pytest.raises(InputError, match="no event 11 to go on after; the newest is 10"):
        happened_after(log, after=11, limit=5)
    with closing(SqliteEventLog(tmp_path / "none.db", SystemClock())) as empty:
        assert newest_happened(empty, limit=5).events == []
        assert happened_after(empty, after=0, limit=5).end == 0


def test_an_event_of_a_newer_version_is_shown(log: EventLog) -> None:
    newer = b'{"event_id":"n","kind":"new.kind","subject":"s","ids":{},"at_us":1,"more":[]}'
    log.publish(EVENTS_TOPIC, [newer])

    (one,) = happened_after(log, after=10, limit=5).events

    assert one.kind == "new.kind"
