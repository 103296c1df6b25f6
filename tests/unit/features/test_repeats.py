"""Law 3 from the intake on, where messages come again: batch = stream = naive over what counts."""

from __future__ import annotations

import json
import math
import tempfile
from collections import Counter
from dataclasses import dataclass, field
from datetime import UTC, timedelta
from pathlib import Path
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

import msgspec
import numpy as np
import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import penstock as ps
from penstock.algebra import compile_view, may_leave
from penstock.errors import NotFoundError
from penstock.features import OnlineReader, check_online, point_in_time, refresh
from penstock.ingest import accept_events, delete_records, ingest_files, ingest_log
from penstock.records import Deletion
from penstock.runtime import LocalServices, open_services
from penstock.spec import FeatureView, Source
from penstock.testing.oracle import naive_remaining
from penstock.testing.strategies import SCHEMA, feature_views, is_deletion, repeated_histories

from .conftest import POLARS
from .test_deletes import EPOCH, HOUR_US, KEYS, Record, assert_row, batches_of, naive_row

if TYPE_CHECKING:
    from collections.abc import Mapping

    from penstock.records import Batch

BERLIN = ZoneInfo("Europe/Berlin")
# Around 1970, and around the hours in which Europe's clocks go forward and back.
ERAS_US = [0, 1_711_846_800_000_000, 1_729_990_800_000_000]
LONGEST = 20
USUAL = settings().max_examples
thorough = settings(
    max_examples=6 if USUAL == 100 else USUAL,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)


@dataclass
class NaiveIntake:
    """What counts, one message after the other, against everything that counts before it."""

    view: FeatureView
    left: list[Record] = field(default_factory=list)

    def take(self, records: list[Record]) -> tuple[int, int, int]:
        """How many records are stored, are duplicates, are quarantined."""
        counts = Counter(self._verdict(record) for record in records)
        return counts["stored"], counts["duplicate"], counts["quarantined"]

    def _verdict(self, record: Record) -> str:
        own = {name: None if is_nan(value) else value for name, value in record.items()}
        if {math.inf, -math.inf} & set(own.values()):
            return "quarantined"
        same = [one for one in self.left if (one["key"], one["ts"]) == (own["key"], own["ts"])]
        if not same:
            self.left.append(own)
            return "stored"
        return "duplicate" if own in same else "quarantined"

    def delete(self, step: Record) -> int:
        """How many records a deletion takes away."""
        before = len(self.left)
        left = naive_remaining(self.view, [*self.left, step], is_deletion)
        self.left = [dict(record) for record in left]
        return before - len(self.left)


@dataclass
class Door:
    """Hands batches to the intake of a source, as messages or as a file."""

    services: LocalServices
    source: Source
    naive: NaiveIntake
    files: set[bytes] = field(default_factory=set)
    handed: int = 0

    def hand(self, batch: list[Record], *, as_file: bool) -> None:
        """Take in a batch, and see that it became what the naive intake makes of it."""
        self.handed += 1
        if is_deletion(batch[0]):
            self._delete(batch[0])
        elif as_file:
            self._file(batch)
        else:
            body = "\n".join(message(record, place) for place, record in enumerate(batch))
            accept_events(self.services, self.source, body.encode(), "application/x-ndjson")
            taken = ingest_log(self.services, self.source)
            assert taken is not None
            assert counts_of(taken) == self.naive.take(batch)

    def _file(self, batch: list[Record]) -> None:
        path = self.services.home / f"{self.handed}.parquet"
        frame_of(batch).write_parquet(path)
        (taken,) = ingest_files(self.services, self.source, paths=[path])
        content = path.read_bytes()
        # A file of bytes that were taken in is not looked into, whatever has been deleted since.
        known = content in self.files
        self.files.add(content)
        assert counts_of(taken) == ((0, len(batch), 0) if known else self.naive.take(batch))

    def _delete(self, step: Record) -> None:
        at_us = None if step["ts"] is None else int(str(step["ts"]))
        deletion = Deletion(
            delete_id=f"d-{self.handed}", keys=(str(step["key"]),), at_us=at_us, reason="asked to"
        )
        gone = self.naive.delete(step)
        if gone:
            assert delete_records(self.services, self.source, deletion).deleted == gone
        else:
            with pytest.raises(NotFoundError):
                delete_records(self.services, self.source, deletion)


def is_nan(value: object) -> bool:
    return isinstance(value, float) and math.isnan(value)


def counts_of(batch: Batch) -> tuple[int, int, int]:
    return batch.stored, batch.duplicates, batch.quarantined


def message(record: Record, place: int) -> str:
    """The record as JSON, its time as clocks in Berlin or in Greenwich show it."""
    at = EPOCH + timedelta(microseconds=int(str(record["ts"])))
    zone = BERLIN if place % 2 else UTC
    text = json.dumps(record | {"ts": at.astimezone(zone).isoformat()})
    return text.replace("NaN", "null").replace("Infinity", "1e999")


def frame_of(records: list[Record]) -> pl.DataFrame:
    """The records with their times as clocks in Berlin show them."""
    columns: Mapping[str, pl.Series] = {
        name: pl.Series([record[name] for record in records], dtype=POLARS[dtype], strict=False)
        for name, dtype in SCHEMA.items()
    }
    return pl.DataFrame(columns).with_columns(pl.col("ts").dt.convert_time_zone(BERLIN.key))


def complete(history: list[Record], era_us: int) -> list[Record]:
    """The steps in another era, with every column; a source without records deletes nothing."""
    first: Record = {"key": "a", "ts": 0}
    return [
        (step if is_deletion(step) else {**dict.fromkeys(SCHEMA), **step})
        | {"ts": None if step["ts"] is None else int(str(step["ts"])) + era_us}
        for step in [first, *history]
    ]


def assert_naive(services: LocalServices, view: FeatureView, left: list[Record], now: int) -> None:
    """What is read online and computed offline is naive over the records that are left."""
    reader = OnlineReader(services.online, [view])
    asked = KEYS * 4
    values, as_of_us = reader.read(asked, now + np.arange(len(asked)) * HOUR_US)
    spine = pl.DataFrame({"key": asked, "at": pl.Series(as_of_us).cast(pl.Datetime("us", "UTC"))})
    frames = [
        point_in_time(services.tables, [view], spine, batches=batches)
        for batches in (None, reader.progress())
    ]
    for place, (key, at_us) in enumerate(zip(asked, as_of_us.tolist(), strict=True)):
        expected = naive_row(view, [record for record in left if record["key"] == key], at_us)
        assert_row(values[place].tolist(), expected)
        for frame in frames:
            assert_row(list(frame.row(place)[2:]), expected)
    known = {str(record["key"]) for record in left}
    may_have_left = may_leave(compile_view(view))
    for key, there in zip(KEYS, reader.knows(KEYS), strict=True):
        assert there == (key in known) or (may_have_left and not there)
    if known:
        at = now + 50 * HOUR_US
        checks = check_online(services.tables, services.online, view, at_us=at)
        assert [check.mismatches for check in checks] == [0] * len(checks)


@thorough
@given(
    view=feature_views(),
    history=repeated_histories(LONGEST),
    era_us=st.sampled_from(ERAS_US),
    size=st.integers(1, 8),
    turns=st.lists(
        st.tuples(st.booleans(), st.booleans()), min_size=2 * LONGEST + 1, max_size=2 * LONGEST + 1
    ),
    chunk_rows=st.sampled_from([1, 4, 1_000]),
    partitions=st.sampled_from([1, 1, 3]),
    ahead_us=st.sampled_from([4 * HOUR_US, 1_000 * HOUR_US]),
)
def test_features_are_naive_over_what_counts_of_repeated_messages(  # noqa: PLR0917 - as a stream is
    view: FeatureView,
    history: list[Record],
    era_us: int,
    size: int,
    turns: list[tuple[bool, bool]],
    chunk_rows: int,
    partitions: int,
    ahead_us: int,
) -> None:
    declared = msgspec.structs.replace(view.source, expect=(ps.unique("key", "ts"),))
    view = msgspec.structs.replace(view, source=declared)
    naive = NaiveIntake(view)
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / ".penstock").mkdir()
        with open_services(Path(folder)) as services:
            door = Door(services, declared, naive)

            def fold() -> None:
                refresh(
                    services.tables, services.online, services.locks, view,
                    chunk_rows=chunk_rows, partitions=partitions, now_us=era_us + ahead_us,
                )  # fmt: skip

            steps = batches_of(complete(history, era_us), size)
            for (as_file, now), batch in zip(turns, steps, strict=False):
                door.hand(batch, as_file=as_file)
                if now:
                    fold()
            fold()
            assert_naive(services, view, naive.left, era_us)
