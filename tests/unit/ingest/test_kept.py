"""Records kept in memory are those of the table, whatever came and was deleted."""

from __future__ import annotations

import json
from itertools import count, pairwise
from typing import TYPE_CHECKING

import polars as pl
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import penstock as ps
from penstock.ingest import accept_events, delete_records, ingest_log, remaining_records
from penstock.ingest.kept import CELL_BYTES, KeptRecords
from penstock.records import Deletion

if TYPE_CHECKING:
    from penstock.algebra import Keyed
    from penstock.runtime import LocalServices
    from penstock.spec import Source

NAMES = count(1)
USUAL = settings().max_examples
thorough = settings(
    max_examples=15 if USUAL == 100 else max(USUAL // 20, 1),
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)


def rates() -> Source:
    return ps.Source(
        f"rates{next(NAMES)}",
        entity=ps.Entity("key"),
        timestamp="ts",
        schema={"key": ps.String, "ts": ps.Timestamp, "rate": ps.Float64},
    )


def send(services: LocalServices, source: Source, *rates: tuple[str, int]) -> int:
    """Store records as a batch; its number."""
    rows = [{"key": key, "ts": f"2026-01-01T00:{n:02}:00Z", "rate": n / 4} for key, n in rates]
    accept_events(services, source, json.dumps(rows).encode(), "application/json")
    batch = ingest_log(services, source)
    assert batch is not None
    return batch.number


def rows(parts: tuple[Keyed, ...]) -> list[tuple[object, ...]]:
    return sorted(row for part in parts for row in part.records.iter_rows())


rates_sent = st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 59)), max_size=9)


@thorough
@given(st.lists(st.one_of(rates_sent, st.sampled_from("abc")), min_size=1, max_size=8))
def test_what_is_kept_is_what_counts(
    services: LocalServices, history: list[list[tuple[str, int]] | str]
) -> None:
    source = rates()
    kept = KeptRecords(services.tables, source, ["rate"])
    known = dict.fromkeys("abc", False)
    for step in history:
        if isinstance(step, list) and step:
            last = send(services, source, *step)
            known |= {key: True for key, _ in step}
        elif isinstance(step, str) and known[step]:
            asked = Deletion(delete_id=services.ids.new(), keys=(step,))
            last, known[step] = delete_records(services, source, asked).number, False
        else:
            continue

        parts = kept.parts(last)

        assert parts is not None
        columns = ["key", "ts", "_batch", "_row", "rate"]
        records = remaining_records(services.tables, source, columns=columns).collect()
        assert rows(parts) == sorted(records.iter_rows())
        heights = [part.records.height for part in parts]
        assert all(older > 2 * newer for older, newer in pairwise(heights))
        newest = [part.records["_batch"].max() for part in parts]
        oldest = [part.records["_batch"].min() for part in parts]
        assert all(
            before is None or after is None or before < after  # type: ignore[operator]  # numbers
            for before, after in zip(newest, oldest[1:], strict=False)
        )


def test_it_does_not_go_back(services: LocalServices) -> None:
    source = rates()
    kept = KeptRecords(services.tables, source, ["rate"])
    first, second = send(services, source, ("a", 1)), send(services, source, ("a", 2))

    assert kept.parts(0) is None
    assert kept.parts(second) is not None
    assert kept.parts(first) is None


def test_too_many_are_not_kept(services: LocalServices) -> None:
    source = rates()
    room_for_three = 3 * 5 * CELL_BYTES
    kept = KeptRecords(services.tables, source, ["rate"], most_bytes=room_for_three)
    few = kept.parts(send(services, source, ("a", 1), ("a", 2)))
    some = kept.parts(send(services, source, ("a", 3)))
    many = kept.parts(send(services, source, ("a", 4)))
    later = kept.parts(send(services, source, ("a", 5)))

    assert few is not None
    assert some is not None
    assert sum(part.records.height for part in some) == 3
    assert (many, later) == (None, None)


def test_only_new_batches_are_read_again(services: LocalServices) -> None:
    source = rates()
    kept = KeptRecords(services.tables, source, ["rate"])
    first = send(services, source, *[("a", minute) for minute in range(9)])
    before = kept.parts(first)
    after = kept.parts(send(services, source, ("b", 1)))

    assert before is not None
    assert after is not None
    assert after[0] is before[0]
    assert after[1].records.select(pl.len()).item() == 1
