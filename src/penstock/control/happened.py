"""What happened, for whoever asks: the events of the platform by their place in the log."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import msgspec

from penstock.errors import InputError
from penstock.ports import EVENTS_TOPIC

if TYPE_CHECKING:
    from penstock.ports import EventLog, LogEntry

__all__ = ["Happened", "HappenedPage", "happened_after", "newest_happened"]

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
LOOKED_AT = 10_000
"""Events that are looked at for those of a kind before an answer is given all the same."""


class Happened(msgspec.Struct, frozen=True, kw_only=True):
    """An event, and where to go on after it. Holds identifiers, never data.

    Attributes:
        cursor: Its place among all events: 1, 2, 3 ...
        event_id: Derived from what happened.
        kind: What happened; one that this version does not know is of a newer one.
        subject: To whom: a source, a view, a model, a deployment, a monitor.
        ids: Identifiers of what it is about.
        at: When.
    """

    cursor: int
    event_id: str
    kind: str
    subject: str
    ids: Mapping[str, str]
    at: datetime


class HappenedPage(msgspec.Struct, frozen=True, kw_only=True):
    """Some events, oldest first.

    Attributes:
        events: The events; there may be none of a kind where there are more to look at.
        next: The cursor after which to go on.
        end: Cursor of the newest event; there is more to look at where it is greater than ``next``.
    """

    events: Sequence[Happened]
    next: int
    end: int


class _Kept(msgspec.Struct):
    event_id: str
    kind: str
    subject: str
    ids: Mapping[str, str]
    at_us: int


def happened_after(log: EventLog, *, after: int, limit: int, kind: str = "") -> HappenedPage:
    """At most so many events after a cursor, oldest first.

    Args:
        log: The event log.
        after: The cursor; 0 for from the beginning.
        limit: At most so many.
        kind: Only events of this kind; empty for all.

    Raises:
        InputError: There was no event at the cursor yet.
    """
    end = log.end(EVENTS_TOPIC)
    if after > end:
        raise InputError(
            f"There is no event {after} to go on after; the newest is {end}. The cursor is of "
            "another project, or of one that was restored since: begin anew, with after=0 for all.",
            after=after,
            end=end,
        )
    found: list[Happened] = []
    for entry in log.read(EVENTS_TOPIC, after=after, limit=LOOKED_AT if kind else limit):
        if len(found) == limit:
            break
        after = entry.offset
        found += _of_kind(entry, kind)
    return HappenedPage(events=found, next=after, end=max(after, end))


def newest_happened(log: EventLog, *, limit: int, kind: str = "") -> HappenedPage:
    """The newest events, at most so many, oldest of them first.

    Args:
        log: The event log.
        limit: At most so many.
        kind: Only events of this kind; empty for all.
    """
    end = upper = log.end(EVENTS_TOPIC)
    step = LOOKED_AT if kind else limit
    found: list[Happened] = []
    while upper and len(found) < limit:
        lower = max(0, upper - step)
        page = log.read(EVENTS_TOPIC, after=lower, limit=upper - lower)
        found[:0] = [one for entry in page for one in _of_kind(entry, kind)]
        upper = lower
    return HappenedPage(events=found[-limit:], next=end, end=end)


def _of_kind(entry: LogEntry, kind: str) -> list[Happened]:
    kept = msgspec.json.decode(entry.payload, type=_Kept)
    if kind and kept.kind != kind:
        return []
    event = Happened(
        cursor=entry.offset,
        event_id=kept.event_id,
        kind=kept.kind,
        subject=kept.subject,
        ids=kept.ids,
        at=EPOCH + timedelta(microseconds=kept.at_us),
    )
    return [event]
