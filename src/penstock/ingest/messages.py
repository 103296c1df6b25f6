"""Messages of a source's topic as records."""

from __future__ import annotations

import hashlib
from collections import Counter
from typing import TYPE_CHECKING

import polars as pl

from .columns import Faults, merged, typed
from .intake import Intake
from .json_records import json_cells
from .parsed import Parsed

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from penstock.ports import EventLog, LogEntry
    from penstock.spec import Source

__all__ = ["GROUP", "messages_intake"]

GROUP = "raw"
"""Whose offset of a topic says which of its messages are in the tables."""


def messages_intake(log: EventLog, source: Source, topic: str, first: int, last: int) -> Intake:
    """The messages of a topic from offset ``first`` to ``last`` as an intake."""
    entries = log.read(topic, after=first - 1, limit=last - first + 1)
    parts: list[bytes] = []
    for entry in entries:
        parts += (len(entry.payload).to_bytes(8, "big"), entry.payload)
    digest = hashlib.sha256(b"".join(parts))

    def parse(_: datetime) -> Parsed:
        return _parsed(source, entries)

    return Intake(
        origin=f"log:{topic}:{first}-{last}",
        sha256=digest.hexdigest(),
        parse=parse,
        commit=lambda: log.commit(topic, GROUP, last),
        senders=Counter(entry.sender for entry in entries if entry.sender),
    )


def _parsed(source: Source, entries: Sequence[LogEntry]) -> Parsed:
    """The messages as the source's columns; a record arrived when the log took it."""
    cells = json_cells(
        [entry.payload for entry in entries], source.schema, optional=list(source.schema)
    )
    columns: dict[str, pl.Series] = {}
    faults: list[Faults] = [cells.faults]
    for name, dtype in source.schema.items():
        columns[name], more = typed(cells.columns[name], dtype)
        faults.append(more)
    rows = pl.int_range(len(entries), dtype=pl.Int64, eager=True).alias("_row")
    arrived = pl.Series("_arrived_at", [entry.at_us for entry in entries], dtype=pl.Int64)
    arrived = arrived.cast(pl.Datetime("us")).dt.replace_time_zone("UTC")
    return Parsed(pl.DataFrame([*columns.values(), rows, arrived]), merged(*faults), cells.texts)
