"""A dataset of stored features: what was backfilled, as of each row, and which version of it."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

import msgspec
import polars as pl
import pytest
from tests.unit.datasets.conftest import START

import penstock as ps
from penstock.control import lineage
from penstock.datasets import build, load
from penstock.errors import DeclarationError, NotReadyError
from penstock.features import Wanted, backfill, stored_features
from penstock.ingest import delete_records
from penstock.ports import Put
from penstock.records import Batch, Deletion, StoredPin

if TYPE_CHECKING:
    from tests.unit.datasets.conftest import Ingest

    from penstock.runtime import LocalServices
    from penstock.spec import Dataset, FeatureView

HOUR_US = 3_600_000_000
START_US = int(START.timestamp()) * 1_000_000


@pytest.fixture
def stored(direction: Dataset) -> Dataset:
    return msgspec.structs.replace(direction, stored={"recent": "3h"})


def view_of(dataset: Dataset) -> FeatureView:
    (view,) = dataset.base_views
    return view


def fill(services: LocalServices, view: FeatureView, until_h: float, every_h: int = 4) -> str:
    wanted = Wanted(
        from_us=START_US,
        until_us=START_US + int(until_h * HOUR_US),
        every_us=every_h * HOUR_US,
    )
    return backfill(services.tables, services.locks, view, wanted).table


def remember(services: LocalServices) -> None:
    """The record of the batch that the fixture has put into the raw table."""
    batch = Batch(
        source="prices",
        number=1,
        batch_id="prices-1-x",
        origin="file:data/a.csv",
        sha256="0",
        state="stored",
        arrived_at=START,
    )
    services.metadata.write(Put(batch))


def prices(hours: range) -> list[tuple[str, int, float | None]]:
    return [(s, h, float(h * k % 11)) for s, k in (("a", 7), ("b", 5)) for h in hours]


def test_rows_have_what_was_stored_last_before_them(
    services: LocalServices, stored: Dataset, ingest: Ingest
) -> None:
    ingest(prices(range(60)))
    view = view_of(stored)
    table = fill(services, view, 61)
    snapshot = build(services, stored)
    version = services.tables.version(table)
    frame = load(services, snapshot)
    rows = services.tables.scan(table).collect()
    for row in frame.iter_rows(named=True):
        own = rows.filter(
            pl.col("symbol") == row["symbol"],
            pl.col("at") <= row["at"],
            pl.col("at") >= row["at"] - timedelta(hours=3),
        )
        newest = own.sort("at").tail(1).select(view.names).rows()
        assert tuple(row[name] for name in view.names) == (newest or [(None, None)])[0]
    assert frame.schema[view.names[1]] == pl.Int64
    assert 0 < frame[view.names[0]].null_count() < len(frame)
    assert snapshot.tables == {"raw/prices": 1, table: version}
    assert snapshot.stored == (
        StoredPin(
            view="recent",
            source="prices",
            table=table,
            version=version or 0,
            last_batch=1,
            max_age="3h",
        ),
    )
    empty = frame[view.names[0]].null_count()
    told = f"{empty} of {len(frame)} rows found no stored values of view 'recent'"
    assert [text for text in snapshot.warnings if "stored" in text] == [
        f"{told} that are at most 3h old"
    ]
    exact = build(services, msgspec.structs.replace(stored, stored={}))
    assert exact.dataset_id != snapshot.dataset_id
    assert exact.stored == ()


def test_a_pinned_version_gives_the_same_rows_whatever_is_stored_later(
    services: LocalServices, stored: Dataset, ingest: Ingest
) -> None:
    ingest(prices(range(60)))
    view = view_of(stored)
    table = fill(services, view, 61)
    first = build(services, stored)
    before = load(services, first)
    ingest([("a", 7, 99.0), ("b", 70, 1.0)])
    with_warning = build(services, stored)
    assert with_warning.warnings[-1] == (
        "stored features of view 'recent' are right up to raw batch 1 of 2; 'penstock features "
        "backfill recent' brings the rest in"
    )
    fill(services, view, 72)
    services.tables.compact(table)
    after = build(services, stored)
    assert after.dataset_id not in {first.dataset_id, with_warning.dataset_id}
    assert not [text for text in after.warnings if "right up to" in text]
    assert not load(services, after).equals(before)
    (pin,) = first.stored
    spine = before.select("symbol", "at")
    again = stored_features(
        services.tables, view, spine, version=pin.version, max_age_us=3 * HOUR_US
    )
    assert again.equals(before.select(again.columns))


def test_what_is_not_stored_as_declared_is_refused(
    services: LocalServices, stored: Dataset, ingest: Ingest
) -> None:
    ingest(prices(range(60)))
    with pytest.raises(NotReadyError, match="Nothing is stored of view 'recent'") as missing:
        build(services, stored)
    assert "penstock features backfill recent" in str(missing.value)
    assert "another version" not in str(missing.value)
    changed = msgspec.structs.replace(view_of(stored), ttl="90d")
    table = fill(services, changed, 61)
    with pytest.raises(NotReadyError, match=f"in {table} is of another version") as other:
        build(services, stored)
    assert other.value.facts["others"] == [table]
    fill(services, view_of(stored), 40)
    # The last row is known at 59:00, the last stored one at 36:00.
    with pytest.raises(NotReadyError, match=r"end at 2026-01-02T12:00:00.*23h before") as old:
        build(services, stored)
    assert old.value.facts["behind_us"] == 23 * HOUR_US
    assert build(services, msgspec.structs.replace(stored, stored={"recent": "23h"})).stored


def test_stored_rows_that_may_hold_deleted_records_are_refused(
    services: LocalServices, stored: Dataset, ingest: Ingest
) -> None:
    ingest(prices(range(60)))
    fill(services, view_of(stored), 61)
    remember(services)
    first = build(services, stored)
    deletion = Deletion(delete_id="wrong", keys=("a",), at_us=START_US + 7 * HOUR_US)
    delete_records(services, stored.spine, deletion)
    with pytest.raises(NotReadyError, match=r"deleted \(batch 2\) after .* to date \(batch 1\)"):
        build(services, stored)
    assert build(services, stored, versions=first.tables).dataset_id == first.dataset_id
    fill(services, view_of(stored), 61)
    assert build(services, stored).dataset_id != first.dataset_id


def test_on_demand_features_are_made_of_stored_ones(
    services: LocalServices, stored: Dataset, ingest: Ingest
) -> None:
    ingest(prices(range(60)))
    view = view_of(stored)
    fill(services, view, 61)
    twice = ps.OnDemandView(
        "twice", views=[view], features={"close": ps.col("recent.last_close") * 2}
    )
    both = msgspec.structs.replace(stored, features=[twice, view])
    frame = load(services, build(services, both))
    assert (frame["twice.close"] == frame["recent.last_close"] * 2).all()
    assert frame.drop("twice.close").equals(load(services, build(services, stored)))


def test_lineage_goes_through_the_stored_table(
    services: LocalServices, stored: Dataset, ingest: Ingest
) -> None:
    ingest(prices(range(60)))
    remember(services)
    table = fill(services, view_of(stored), 61)
    snapshot = build(services, stored)
    tables = {link.id: link for link in lineage(services, snapshot.dataset_id).comes_from}
    link = tables[f"{table}@{snapshot.tables[table]}"]
    assert link.detail == {"view": "recent", "last batch": 1, "at most": "3h old"}
    assert [inner.id for inner in link.links] == ["prices-1-x"]
    assert tables["raw/prices@1"].links == link.links


def test_a_declaration_says_what_is_wrong_with_stored(direction: Dataset) -> None:
    def declare(**how: object) -> Dataset:
        return ps.Dataset(
            "d",
            spine=direction.spine,
            features=direction.features,
            **how,  # type: ignore[arg-type]
        )

    assert declare(stored={"recent": "1h30m"}).stored_us == {"recent": 5_400_000_000}
    with pytest.raises(DeclarationError, match=r"names no view of it. Did you mean 'recent'"):
        declare(stored={"recnt": "1h"})
    with pytest.raises(DeclarationError, match="no duration"):
        declare(stored={"recent": "long"})
    with pytest.raises(DeclarationError, match="as_known=True"):
        declare(stored={"recent": "1h"}, as_known=True)
