"""Law 3 with columns looked up: batch = stream = naive over what each record found."""

from __future__ import annotations

import contextlib
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import numpy as np
import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import penstock as ps
from penstock.errors import NotFoundError, NotReadyError
from penstock.features import OnlineReader, check_online, point_in_time, refresh
from penstock.ingest import Lookups, accept_events, delete_records, ingest_log
from penstock.records import Deletion
from penstock.runtime import open_services
from penstock.testing.oracle import naive_feature, naive_lookup, naive_tolerance

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from penstock.runtime import LocalServices
    from penstock.spec import FeatureView, Source

Record = dict[str, object]

HOUR_US = 3_600_000_000
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
USUAL = settings().max_examples
thorough = settings(
    max_examples=20 if USUAL == 100 else USUAL,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)


@pytest.fixture
def next_services() -> Iterator[Callable[[], LocalServices]]:
    """Opens an empty project with each call, in place of the one before."""
    with contextlib.ExitStack() as current:

        def another() -> LocalServices:
            current.close()
            home = Path(current.enter_context(TemporaryDirectory()))
            (home / ".penstock").mkdir()
            return current.enter_context(open_services(home, actor="tester"))

        yield another


def paid(known_after: str, lookup: ps.Lookup) -> Source:
    return ps.Source(
        "payments",
        entity=ps.Entity("user"),
        timestamp="ts",
        schema={"user": ps.String, "ts": ps.Timestamp, "merchant": ps.String,
                "amount": ps.Float64},
        nullable=["merchant"],
        known_after=known_after,
        lookups=[lookup],
    )  # fmt: skip


def declared(known_after: tuple[str, str], within: str) -> FeatureView:
    merchants = ps.Source(
        "merchants",
        entity=ps.Entity("merchant"),
        timestamp="since",
        schema={"merchant": ps.String, "since": ps.Timestamp, "risk": ps.Float64,
                "category": ps.String},
        nullable=["risk", "category"],
        known_after=known_after[0],
    )  # fmt: skip
    columns = {"risk": "risk", "category": "category"}
    lookup = ps.Lookup(merchants, on="merchant", columns=columns, within=within)
    payments = paid(known_after[1], lookup)
    return ps.FeatureView(
        "habits",
        source=payments,
        derive={"exposure": ps.col("amount") * ps.col("risk")},
        features=[
            ps.last("risk"),
            ps.mean("risk", over="6h"),
            ps.sum("exposure", over="3h"),
            ps.max("exposure"),
            ps.count(over="6h", where=ps.col("category").eq("food")),
            ps.count("category"),
            ps.approx_distinct("category"),
        ],
    )


def declared_over_features(known_after: tuple[str, str], within: str) -> FeatureView:
    """As ``declared``, with features of merchants in the place of their columns."""
    merchants = declared(known_after, within).source.lookups[0].into
    rated = ps.FeatureView(
        "rated",
        source=merchants,
        derive={"double": ps.col("risk") * 2},
        features=[
            ps.mean("risk", over="3h"),
            ps.count(over="2h", name="changes"),
            ps.max("double", where=ps.col("category").eq("food"), name="highest"),
            ps.sum("double", over="5h"),
        ],
        ttl=within,
    )
    columns = {"risk": "mean_risk_3h", "changes": "changes", "highest": "highest"}
    payments = paid(known_after[1], ps.Lookup(rated, on="merchant", columns=columns))
    return ps.FeatureView(
        "habits",
        source=payments,
        derive={"exposure": ps.col("amount") / ps.col("risk")},
        features=[
            ps.last("risk"),
            ps.mean("exposure", over="6h"),
            ps.sum("changes", over="3h"),
            ps.max("exposure"),
            ps.count(over="6h", where=ps.col("changes") > 1),
            ps.min("highest"),
            ps.approx_distinct("changes"),
        ],
    )


hours = st.integers(-3, 9)
keys = st.sampled_from(["m", "n"])
merchant_records = st.fixed_dictionaries(
    {"merchant": keys, "since": hours.map(lambda hour: hour * HOUR_US),
     "risk": st.sampled_from([None, 0.25, 0.5, 1.0]),
     "category": st.sampled_from([None, "food", "travel"])}
)  # fmt: skip
payment_records = st.fixed_dictionaries(
    {"user": st.sampled_from(["a", "b"]), "ts": hours.map(lambda hour: hour * HOUR_US),
     "merchant": st.sampled_from(["m", "n", "o", None]),
     "amount": st.integers(1, 50).map(float)}
)  # fmt: skip
steps = st.one_of(
    st.tuples(st.just("merchants"), st.lists(merchant_records, min_size=1, max_size=4)),
    st.tuples(st.just("payments"), st.lists(payment_records, min_size=1, max_size=5)),
    st.tuples(st.just("payments"), st.lists(payment_records, min_size=1, max_size=5)),
    st.tuples(st.just("forget merchant"), keys),
    st.tuples(st.just("forget user"), st.sampled_from(["a", "b"])),
    st.tuples(st.just("refresh"), st.none()),
)


def send(services: LocalServices, source: Source, rows: list[Record], lookups: Lookups) -> None:
    stamp = source.timestamp
    body = [
        {**row, stamp: (EPOCH + timedelta(microseconds=int(str(row[stamp])))).isoformat()}
        for row in rows
    ]
    accept_events(services, source, json.dumps(body).encode(), "application/json")
    ingest_log(services, source, lookups=lookups)


def forget(services: LocalServices, source: Source, key: str) -> None:
    asked = Deletion(delete_id=services.ids.new(), keys=(key,))
    with contextlib.suppress(NotFoundError, NotReadyError):
        delete_records(services, source, asked)


class Naive:
    """What is stored of a history, kept in lists."""

    def __init__(self, view: FeatureView) -> None:
        self._payments = view.source
        self._lookup = view.source.lookups[0]
        self._merchants: list[Record] = []
        self.stored: list[Record] = []

    def step(self, kind: str, what: list[Record] | str) -> None:
        if isinstance(what, str):
            self._forget(kind, what)
            return
        for row in what:
            if kind == "merchants" and row not in self._merchants:
                self._merchants.append(row)
            elif kind == "payments" and row not in [self._arrived(one) for one in self.stored]:
                known_us = int(str(row["ts"])) + self._payments.known_after_us
                key = row["merchant"]
                self.stored.append(
                    {**row, **naive_lookup(self._lookup, self._merchants, key, known_us)}
                )

    def _arrived(self, record: Record) -> Record:
        return {name: record[name] for name in self._payments.schema}

    def _forget(self, kind: str, key: str) -> None:
        if kind == "forget merchant":
            self._merchants = [one for one in self._merchants if one["merchant"] != key]
        else:
            self.stored = [one for one in self.stored if one["user"] != key]


@thorough
@given(
    history=st.lists(steps, max_size=14),
    known_after=st.tuples(st.sampled_from(["", "1h"]), st.sampled_from(["", "2h"])),
    within=st.sampled_from(["", "2h"]),
    declare=st.sampled_from([declared, declared_over_features]),
)
def test_online_and_offline_are_naive_over_what_was_found(
    next_services: Callable[[], LocalServices],
    history: list[tuple[str, list[Record] | str | None]],
    known_after: tuple[str, str],
    within: str,
    declare: Callable[[tuple[str, str], str], FeatureView],
) -> None:
    services = next_services()
    view = declare(known_after, within)
    payments, merchants = view.source, view.source.lookups[0].into
    lookups, naive = Lookups(services.tables), Naive(view)

    def fold() -> None:
        refresh(services.tables, services.online, services.leases, view)

    # A source without records has no raw table yet, and nothing to compute.
    first: Record = {"user": "c", "ts": 0, "merchant": "m", "amount": 1.0}
    for kind, what in [("payments", [first]), *history]:
        if what is None:
            fold()
            continue
        naive.step(kind, what)
        if isinstance(what, list):
            send(services, merchants if kind == "merchants" else payments, what, lookups)
        else:
            forget(services, merchants if kind == "forget merchant" else payments, what)
    fold()

    reader = OnlineReader(services.online, [view])
    asked = ["a", "b", "c"] * 5
    values, as_of_us = reader.read(asked, np.arange(len(asked)) * HOUR_US)
    at = pl.Series(as_of_us).cast(pl.Datetime("us", "UTC"))
    frame = point_in_time(services.tables, [view], pl.DataFrame({"user": asked, "at": at}))
    for place, (key, at_us) in enumerate(zip(asked, as_of_us.tolist(), strict=True)):
        own = [record for record in naive.stored if record["user"] == key]
        offline = list(frame.row(place)[2:])
        for feature, online, batch in zip(view.features, values[place], offline, strict=True):
            (expected,) = naive_feature(view, feature, own, at_us)
            room = naive_tolerance(view, feature, own, at_us)
            for seen in (None if np.isnan(online) else online, batch):
                assert (seen is None) == (expected is None)
                assert seen is None or expected is None or abs(seen - expected) <= room
    checks = check_online(services.tables, services.online, view, at_us=50 * HOUR_US)
    assert [check.mismatches for check in checks] == [0] * len(checks)
