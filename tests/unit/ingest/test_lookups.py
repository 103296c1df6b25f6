"""Records completed from other sources, over real stores: against an oracle, and by case."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import TYPE_CHECKING, cast

import msgspec
import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import penstock as ps
from penstock.errors import InputError, NotFoundError, NotReadyError
from penstock.ingest import (
    Lookups,
    accept_events,
    delete_records,
    ingest_files,
    ingest_log,
    raw_records,
    remaining_records,
)
from penstock.records import Batch, Deletion, LookedUp
from penstock.testing.oracle import naive_lookup

if TYPE_CHECKING:
    from collections.abc import Mapping

    from penstock.runtime import LocalServices
    from penstock.spec import Source

Record = dict[str, object]

HOUR_US = 3_600_000_000
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
NAMES = count(1)
USUAL = settings().max_examples
thorough = settings(
    max_examples=25 if USUAL == 100 else max(USUAL // 10, 1),
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)


def merchants(name: str = "merchants", known_after: str = "", **changes: object) -> Source:
    fields: dict[str, object] = {
        "entity": ps.Entity("merchant"),
        "timestamp": "since",
        "schema": {"merchant": ps.String, "since": ps.Timestamp, "risk": ps.Float64},
        "nullable": ["risk"],
        "known_after": known_after,
    }
    return ps.Source(name, **(fields | changes))  # type: ignore[arg-type]  # built by name


def payments(*lookups: ps.Lookup, name: str = "payments", **changes: object) -> Source:
    fields: dict[str, object] = {
        "entity": ps.Entity("user"),
        "timestamp": "ts",
        "schema": {"user": ps.String, "ts": ps.Timestamp, "merchant": ps.String,
                   "amount": ps.Float64},
        "nullable": ["merchant"],
        "lookups": lookups,
    }  # fmt: skip
    return ps.Source(name, **(fields | changes))  # type: ignore[arg-type]  # built by name


def risk(source: Source | None = None, within: str = "") -> ps.Lookup:
    return ps.Lookup(
        source or merchants(), on="merchant", columns={"merchant_risk": "risk"}, within=within
    )


def at(time_us: int) -> str:
    return (EPOCH + timedelta(microseconds=time_us)).isoformat()


def send(
    services: LocalServices, source: Source, *records: Record, lookups: Lookups | None = None
) -> Batch:
    stamp = source.timestamp
    body = json.dumps([{**one, stamp: at(int(str(one[stamp])))} for one in records])
    accept_events(services, source, body.encode(), "application/json")
    batch = ingest_log(services, source, lookups=lookups)
    assert batch is not None
    return batch


def merchant(key: str, hour: int, value: float | None) -> Record:
    return {"merchant": key, "since": hour * HOUR_US, "risk": value}


def payment(user: str, hour: int, key: str | None, amount: float = 1.0) -> Record:
    return {"user": user, "ts": hour * HOUR_US, "merchant": key, "amount": amount}


def delete(services: LocalServices, source: Source, key: str, at_us: int | None = None) -> bool:
    asked = Deletion(delete_id=services.ids.new(), keys=(key,), at_us=at_us)
    try:
        delete_records(services, source, asked)
    except (NotFoundError, NotReadyError):
        return False
    return True


def found(services: LocalServices, source: Source, column: str = "merchant_risk") -> list[object]:
    rows = raw_records(services.tables, source).sort("_batch", "_row").collect()
    return rows[column].to_list()


# What happens: records of a merchant, of a payment, or a deletion of a merchant's records.
hours = st.integers(-3, 6)
keys = st.sampled_from(["m", "n", "o"])
merchant_records = st.builds(merchant, keys, hours, st.sampled_from([None, 0.0, 0.5, 1.0]))
payment_records = st.builds(
    payment,
    st.sampled_from(["a", "b"]),
    hours,
    st.sampled_from(["m", "n", "o", "unheard of", None]),
    st.sampled_from([1.0, 2.0, 3.0]),
)
steps = st.one_of(
    st.lists(merchant_records, min_size=1, max_size=5).map(lambda rows: ("merchants", rows)),
    st.lists(payment_records, min_size=1, max_size=5).map(lambda rows: ("payments", rows)),
    st.tuples(st.just("delete"), st.tuples(keys, st.one_of(st.none(), hours))),
)


def lived_through(
    services: LocalServices, history: list[tuple[str, object]], source: Source, *, keep: bool
) -> list[tuple[Record, Mapping[str, object]]]:
    """Let a history happen; each record that is stored, with what the oracle finds for it."""
    lookup = source.lookups[0]
    other = lookup.into
    lookups = Lookups(services.tables) if keep else None
    alive: list[Record] = []
    expected: list[tuple[Record, Mapping[str, object]]] = []
    for kind, what in history:
        if kind == "merchants":
            rows: list[Record] = what  # type: ignore[assignment]  # by its kind
            send(services, other, *rows)
            alive += [row for n, row in enumerate(rows) if row not in [*alive, *rows[:n]]]
        elif kind == "payments":
            rows = what  # type: ignore[assignment]  # by its kind
            batch = send(services, source, *rows, lookups=lookups)
            before = len(expected)
            for row in rows:
                known_us = int(str(row["ts"])) + source.known_after_us
                seen = naive_lookup(lookup, alive, row["merchant"], known_us)
                if row not in [one for one, _ in expected]:
                    expected.append((row, seen))
            (told,) = batch.lookups
            assert (told.source, told.view) == (other.name, lookup.view.name if lookup.view else "")
            assert told.missing <= batch.stored == len(expected) - before
        else:
            key, hour = cast("tuple[str, int | None]", what)
            at_us = None if hour is None else hour * HOUR_US
            if delete(services, other, key, at_us):
                alive = [
                    one
                    for one in alive
                    if one["merchant"] != key or at_us not in {None, one["since"]}
                ]
    return expected


@thorough
@given(
    history=st.lists(steps, max_size=12),
    known_after=st.tuples(st.sampled_from(["", "1h"]), st.sampled_from(["", "1h", "2h"])),
    within=st.sampled_from(["", "1h", "90m", "3h"]),
    keep=st.booleans(),
)
def test_what_is_found_is_what_the_oracle_finds(
    services: LocalServices,
    history: list[tuple[str, object]],
    known_after: tuple[str, str],
    within: str,
    *,
    keep: bool,
) -> None:
    number = next(NAMES)
    other = merchants(f"merchants{number}", known_after=known_after[0])
    source = payments(risk(other, within), name=f"payments{number}", known_after=known_after[1])
    expected = lived_through(services, history, source, keep=keep)
    if expected:
        assert found(services, source) == [value["merchant_risk"] for _, value in expected]


def test_a_record_is_completed_with_what_was_known_when_it_was(services: LocalServices) -> None:
    other, source = merchants(known_after="1h"), payments(risk(merchants(known_after="1h")))
    send(services, other, merchant("m", 1, 0.1), merchant("m", 3, 0.3))

    batch = send(
        services,
        source,
        *(payment("a", hour, "m") for hour in (1, 2, 3, 4)),
        payment("a", 9, "unheard of"),
        payment("a", 9, None),
    )

    assert found(services, source) == [None, 0.1, 0.1, 0.3, None, None]
    assert batch.lookups == (LookedUp(source="merchants", on="merchant", last_batch=1, missing=3),)


def test_what_comes_later_changes_nothing(services: LocalServices) -> None:
    other, source = merchants(), payments(risk())
    send(services, other, merchant("m", 1, 0.1))
    send(services, source, payment("a", 5, "m"))

    send(services, other, merchant("m", 2, 0.2))
    delete(services, other, "m")
    send(services, source, payment("b", 5, "m"))

    assert found(services, source) == [0.1, None]


def test_nothing_is_found_before_the_other_source_has_records(services: LocalServices) -> None:
    source = payments(risk())

    batch = send(services, source, payment("a", 5, "m"))

    assert found(services, source) == [None]
    assert batch.lookups == (LookedUp(source="merchants", on="merchant", last_batch=0, missing=1),)


def test_of_two_known_at_one_time_the_later_arrival_counts(services: LocalServices) -> None:
    other, source = merchants(), payments(risk())
    send(services, other, merchant("m", 1, 0.1), merchant("m", 1, 0.2))
    send(services, source, payment("a", 1, "m"))
    send(services, other, merchant("m", 1, 0.3))
    send(services, source, payment("b", 1, "m"))

    assert found(services, source) == [0.2, 0.3]


def test_what_is_found_stays_true_for_less_than_within(services: LocalServices) -> None:
    other, source = merchants(), payments(risk(within="2h"))
    send(services, other, merchant("m", 1, 0.1))
    send(services, source, payment("a", 1, "m"), payment("a", 2, "m"), payment("a", 3, "m"))

    assert found(services, source) == [0.1, 0.1, None]


def test_the_newest_record_counts_even_where_it_has_no_value(services: LocalServices) -> None:
    other, source = merchants(), payments(risk())
    send(services, other, merchant("m", 1, 0.1), merchant("m", 2, None))

    batch = send(services, source, payment("a", 3, "m"))

    assert found(services, source) == [None]
    assert batch.lookups[0].missing == 0


def test_duplicates_and_bad_records_look_nothing_up(services: LocalServices) -> None:
    source = payments(risk(), expect=[ps.positive("amount")])
    bad = payment("a", 5, "m", amount=-1.0)

    batch = send(services, source, payment("a", 5, "m"), payment("a", 5, "m"), bad)

    assert (batch.stored, batch.duplicates, batch.quarantined) == (1, 1, 1)
    assert batch.lookups[0].missing == 1


def test_a_record_that_comes_again_is_a_duplicate_whatever_it_would_find(
    services: LocalServices,
) -> None:
    other, source = merchants(), payments(risk())
    send(services, source, payment("a", 5, "m"))
    send(services, other, merchant("m", 1, 0.1))

    batch = send(services, source, payment("a", 5, "m"))

    assert (batch.stored, batch.duplicates) == (0, 1)
    assert found(services, source) == [None]


def test_whole_numbers_are_keys_too(services: LocalServices) -> None:
    shops = ps.Source(
        "shops",
        entity=ps.Entity("shop", dtype=ps.Int64),
        timestamp="since",
        schema={"shop": ps.Int64, "since": ps.Timestamp, "city": ps.String, "open": ps.Boolean},
    )
    orders = ps.Source(
        "orders",
        entity=ps.Entity("user"),
        timestamp="ts",
        schema={"user": ps.String, "ts": ps.Timestamp, "place": ps.Int64},
        lookups=[
            ps.Lookup(shops, on="place", columns={"city": "city", "open": "open", "since": "since"})
        ],
    )
    send(services, shops, {"shop": -3, "since": 0, "city": "Bonn", "open": True})
    send(services, orders, {"user": "a", "ts": 5, "place": -3}, {"user": "a", "ts": 5, "place": 3})

    assert found(services, orders, "city") == ["Bonn", None]
    assert found(services, orders, "open") == [True, None]
    assert found(services, orders, "since") == [EPOCH, None]


def test_chains_are_followed(services: LocalServices) -> None:
    categories = ps.Source(
        "categories",
        entity=ps.Entity("category"),
        timestamp="since",
        schema={"category": ps.String, "since": ps.Timestamp, "fee": ps.Float64},
    )
    schema = {"merchant": ps.String, "since": ps.Timestamp, "category": ps.String}
    fee = ps.Lookup(categories, on="category", columns={"fee": "fee"})
    shops = merchants(schema=schema, nullable=[], lookups=[fee])
    through = payments(
        ps.Lookup(shops, on="merchant", columns={"fee": "fee", "category": "category"}),
        ps.Lookup(categories, on="category", columns={"fee_now": "fee"}),
    )
    send(services, categories, {"category": "food", "since": 0, "fee": 0.1})
    send(services, shops, {"merchant": "m", "since": HOUR_US, "category": "food"})
    send(services, categories, {"category": "food", "since": 2 * HOUR_US, "fee": 0.2})

    send(services, through, payment("a", 3, "m"))

    assert found(services, through, "fee") == [0.1]  # as it was known when the merchant came
    assert found(services, through, "fee_now") == [0.2]


def test_files_find_what_came_before_them(services: LocalServices) -> None:
    other, source = merchants(), payments(risk())
    (services.home / "m.csv").write_text("merchant,since,risk\nm,2026-01-01T00:00:00Z,0.1\n")
    header = "user,ts,merchant,amount\n"
    (services.home / "a.csv").write_text(header + "a,2026-01-02T00:00:00Z,m,1\n")
    (services.home / "b.csv").write_text(header + "b,2026-01-02T00:00:00Z,m,1\n")
    ingest_files(services, other, paths=["m.csv"])

    batches = ingest_files(services, source, paths=["a.csv", "b.csv"])

    assert found(services, source) == [0.1, 0.1]
    assert [one.missing for batch in batches for one in batch.lookups] == [0, 0]
    (again,) = ingest_files(services, source, paths=["a.csv"])
    assert (again.duplicates, again.lookups) == (1, ())


def test_what_waits_for_the_other_source_is_taken_in_first(services: LocalServices) -> None:
    other, source = merchants(), payments(risk())

    def wait(one: Source, **record: object) -> None:
        accept_events(services, one, json.dumps(record).encode(), "application/json")

    wait(other, merchant="m", since=at(HOUR_US), risk=0.1)
    wait(source, user="a", ts=at(2 * HOUR_US), merchant="m", amount=1.0)
    delete_records(services, source, Deletion(delete_id="b", keys=("a",)))  # takes in what waits
    wait(other, merchant="m", since=at(3 * HOUR_US), risk=0.3)
    (services.home / "a.csv").write_text("user,ts,merchant,amount\nc,1970-01-01T04:00:00Z,m,1\n")
    ingest_files(services, source, paths=["a.csv"])

    assert found(services, source) == [0.1, 0.3]


def test_rows_from_before_the_lookup_was_declared_stay_null(services: LocalServices) -> None:
    bare, source = payments(), payments(risk())
    send(services, merchants(), merchant("m", 1, 0.1))
    send(services, bare, payment("a", 5, "m"))
    before = services.tables.version("raw/payments")

    assert found(services, source) == [None]  # the table does not even have the column
    send(services, source, payment("b", 5, "m"))

    assert found(services, source) == [None, 0.1]
    old = remaining_records(
        services.tables, source, version=before, columns=["user", "merchant_risk"]
    )
    assert old.collect().rows() == [("a", None)]
    (asked,) = raw_records(services.tables, source, version=before).collect().to_dicts()
    assert asked["merchant_risk"] is None


def test_a_lookup_that_is_declared_no_more_leaves_its_column(services: LocalServices) -> None:
    bare, source = payments(), payments(risk())
    send(services, merchants(), merchant("m", 1, 0.1))
    send(services, source, payment("a", 5, "m"))

    send(services, bare, payment("b", 5, "m"))
    delete(services, bare, "a")
    send(services, source, payment("c", 5, "m"))

    assert found(services, source) == [0.1, None, 0.1]


def test_a_column_never_takes_another_type(services: LocalServices) -> None:
    send(services, payments(risk()), payment("a", 5, "m"))
    named = merchants(schema={"merchant": ps.String, "since": ps.Timestamp, "risk": ps.String})

    with pytest.raises(InputError, match="'merchant_risk', looked up before, is Float64"):
        send(services, payments(risk(named)), payment("b", 5, "m"))

    assert len(services.metadata.find(Batch)) == 1  # nothing was begun


def test_a_column_of_the_platform_s_own_schema_is_not_taken_for_a_lookup(
    services: LocalServices,
) -> None:
    send(services, payments(), payment("a", 5, "m"))
    fewer = payments(schema={"user": ps.String, "ts": ps.Timestamp, "merchant": ps.String})

    with pytest.raises(InputError, match="they never change"):
        send(services, fewer, payment("b", 5, "m"))


def test_batches_from_before_lookups_can_be_read() -> None:
    stored = msgspec.json.encode(
        {"source": "s", "number": 1, "batch_id": "s-1-0", "origin": "file:a", "sha256": "0",
         "state": "stored", "arrived_at": "2026-01-01T00:00:00Z"}
    )  # fmt: skip

    assert msgspec.json.decode(stored, type=Batch).lookups == ()


@pytest.fixture
def completed(services: LocalServices) -> Source:
    send(services, merchants(), merchant("m", 1, 0.1))
    source = payments(risk())
    send(services, source, payment("a", 5, "m"))
    return source


def test_compaction_keeps_what_was_found(services: LocalServices, completed: Source) -> None:
    send(services, completed, payment("b", 5, "m"))
    services.tables.compact("raw/payments")

    rows = services.tables.scan("raw/payments").sort("_batch").collect()
    assert rows["merchant_risk"].to_list() == [0.1, 0.1]
    assert rows.schema["merchant_risk"] == pl.Float64
