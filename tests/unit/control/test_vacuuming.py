"""Old versions of stored features go, and none that a dataset or a model names."""

from __future__ import annotations

import json
import os
import time
from datetime import timedelta
from typing import TYPE_CHECKING, cast

import msgspec
import pytest

import penstock as ps
from penstock.control import (
    VacuumSchedule,
    due,
    pinned_versions,
    start,
    step_functions,
    vacuum_features,
    vacuum_raw,
)
from penstock.datasets import build, load
from penstock.errors import NotFoundError, StateError
from penstock.features import Wanted, backfill, stored_features
from penstock.ingest import accept_events, ingest_log
from penstock.plan import Catalogue
from penstock.ports import Delete
from penstock.records import Aliases, DatasetSnapshot
from penstock.runtime import open_services
from penstock.testing.served_project import START

if TYPE_CHECKING:
    from penstock.runtime import LocalServices
    from penstock.spec import Dataset, FeatureView

HOUR_US = 3_600_000_000
START_US = int(START.timestamp()) * 1_000_000


@pytest.fixture
def dataset(scored: LocalServices) -> Dataset:
    """The dataset of the project's model, with its view as it was stored."""
    declared = Catalogue.load(scored.metadata).model("direction").dataset
    (view,) = declared.base_views
    return ps.Dataset(
        "later",
        spine=declared.spine,
        features=[view],
        label=declared.label,
        split=declared.split,
        stored={view.name: "600d"},
    )


def fill(services: LocalServices, view: FeatureView, first: int, last: int) -> str:
    """One backfill for each day from the first to the last, so that there are many commits."""
    table = ""
    for day in range(first, last):
        wanted = Wanted(
            from_us=START_US + 6 * day * HOUR_US, until_us=START_US + 6 * (day + 1) * HOUR_US
        )
        table = backfill(services.tables, services.locks, view, wanted).table
    return table


def files(services: LocalServices, table: str) -> int:
    return len(list((services.layout.tables / table).glob("*.parquet")))


def age(services: LocalServices, table: str, hours: int = 2) -> None:
    """Let some hours pass since everything in the table happened; see ``vacuum_features``."""
    folder = services.layout.tables / table
    log = folder / "_delta_log"
    then_ms = int(time.time() * 1_000) - 3_600_000 * hours
    for path in log.glob("*.json"):
        lines = [msgspec.json.decode(line) for line in path.read_bytes().splitlines()]
        for line in lines:
            if "remove" in line:
                line["remove"]["deletionTimestamp"] = then_ms
        path.write_bytes(b"\n".join(map(msgspec.json.encode, lines)) + b"\n")
    for path in log.glob("*checkpoint*"):
        path.unlink()
    for path in folder.glob("*.parquet"):
        os.utime(path, (then_ms / 1e3, then_ms / 1e3))


def test_what_a_dataset_names_stays_and_the_rest_goes(
    scored: LocalServices, dataset: Dataset
) -> None:
    (view,) = dataset.base_views
    table = fill(scored, view, 0, 10)
    snapshot = build(scored, dataset)
    rows = load(scored, snapshot)
    fill(scored, view, 10, 12)
    unnamed = scored.tables.version(table)
    fill(scored, view, 12, 30)
    newest = stored_features(scored.tables, view, rows.select("symbol", "at"))
    before = files(scored, table)
    assert before < 30 + 2, "twenty appends were merged into one file"
    age(scored, table)
    # Another process, which has nothing of the table in memory.
    with open_services(scored.home) as fresh:
        told = vacuum_features(fresh, older_than_h=1, dry_run=True)
        assert files(scored, table) == before
        done = vacuum_features(fresh, older_than_h=1)
        assert done == told
        (one,) = done
        assert (one.table, one.kept, one.busy) == (table, (snapshot.tables[table],), False)
        assert before - files(scored, table) == one.files > 0
        assert vacuum_features(fresh, older_than_h=1) == []
        entry = fresh.metadata.audit()[-1]
        assert (entry.action, entry.subject) == ("vacuum features", f"table/{table}")
        again = stored_features(
            fresh.tables,
            view,
            rows.select("symbol", "at"),
            version=snapshot.tables[table],
            max_age_us=600 * 24 * HOUR_US,
        )
        assert again.equals(rows.select(again.columns))
        assert stored_features(fresh.tables, view, rows.select("symbol", "at")).equals(newest)
        with pytest.raises(NotFoundError, match=f"Version {unnamed} .* was vacuumed"):
            fresh.tables.scan(table, version=unnamed)


def test_a_model_keeps_its_version_when_the_dataset_s_record_is_gone(
    scored: LocalServices, monkeypatch: pytest.MonkeyPatch
) -> None:
    for one in scored.metadata.find(DatasetSnapshot):
        scored.metadata.write(Delete(one))
    assert pinned_versions(scored)["raw/candles"]
    monkeypatch.setattr("penstock.control.vacuuming.read_manifest", _damaged)
    with pytest.raises(StateError, match=r"direction@1 .* none are removed: damaged"):
        pinned_versions(scored)
    for pointers in scored.metadata.find(Aliases):
        scored.metadata.write(Delete(pointers))
    # Nobody answers with either.
    assert pinned_versions(scored) == {}


def _damaged(_: object) -> object:
    raise StateError("damaged")


def test_raw_tables_lose_what_was_merged_and_no_record(scored: LocalServices) -> None:
    source = Catalogue.load(scored.metadata).source("candles")
    table = "raw/candles"
    (kept,) = pinned_versions(scored)[table]
    pinned = scored.tables.scan(table, version=kept).collect()
    for hour in (241, 242, 243):
        ts = (START + timedelta(hours=hour)).isoformat()
        row = {"symbol": "BTC", "ts": ts, "open": 9.0, "close": 8.0, "volume": 5.0}
        accept_events(scored, source, json.dumps(row).encode(), "application/json")
        assert ingest_log(scored, source) is not None
    unnamed = scored.tables.version(table)
    scored.tables.compact(table)
    before, size = scored.tables.scan(table).collect(), files(scored, table)
    age(scored, table, hours=23)
    assert vacuum_raw(scored, older_than_h=1) == []
    age(scored, table, hours=25)
    with open_services(scored.home) as fresh:
        told = vacuum_raw(fresh, older_than_h=1, dry_run=True)
        assert vacuum_raw(fresh, older_than_h=48) == []
        done = vacuum_raw(fresh, older_than_h=1)
        assert done == told
        (one,) = done
        assert (one.table, one.kept) == (table, (kept,))
        assert size - files(scored, table) == one.files >= 3
        assert fresh.metadata.audit()[-1].action == "vacuum raw"
        assert (
            fresh.tables.scan(table)
            .collect()
            .sort("ts", "symbol")
            .equals(before.sort("ts", "symbol"))
        )
        assert fresh.tables.scan(table, version=kept).collect().equals(pinned)
        with pytest.raises(NotFoundError, match=f"Version {unnamed} .* was vacuumed"):
            fresh.tables.scan(table, version=unnamed)
        # Records go on coming in, and are counted on from where they were.
        assert ingest_log(fresh, source) is None
        assert fresh.tables.applied(table, table) == before["_batch"].max()


def test_a_table_that_is_written_to_is_left_alone(scored: LocalServices, dataset: Dataset) -> None:
    (view,) = dataset.base_views
    table = fill(scored, view, 0, 2)
    with scored.locks.hold(f"features/{table}"):
        (one,) = vacuum_features(scored, older_than_h=1)
    assert one.busy
    assert vacuum_features(scored, older_than_h=1) == []


def test_leftovers_of_killed_computations_go(scored: LocalServices) -> None:
    old, new = (scored.scratch / "parts" / "dataset" / name / "v-1" for name in ("a", "b"))
    for folder in (old, new):
        folder.mkdir(parents=True)
        (folder / "0.values.arrow").touch()
    then_s = time.time() - 7_200
    os.utime(old / "0.values.arrow", (then_s, then_s))
    os.utime(old, (then_s, then_s))
    vacuum_features(scored, older_than_h=3)
    assert old.exists()
    vacuum_features(scored, older_than_h=1)
    assert not old.exists()
    assert new.exists()


def test_the_worker_vacuums_once_in_each_interval(scored: LocalServices, dataset: Dataset) -> None:
    (view,) = dataset.base_views
    schedule = VacuumSchedule(HOUR_US, 5)
    now = scored.clock.now()
    now_us = scored.clock.now_us() + HOUR_US
    table = fill(scored, view, 0, 1)
    (submission,) = due(scored, now_us=now_us, vacuum=schedule)
    assert submission.run_id == f"vacuum-features-{now + timedelta(hours=1):%Y%m%dT%H00}"
    assert submission.parameters == {"older_than_h": 5}
    start(scored, submission)
    assert due(scored, now_us=now_us, vacuum=schedule) == []
    assert due(scored, now_us=now_us) == []
    with scored.locks.hold(f"features/{table}"):
        done = step_functions(scored)["vacuum.features"](submission.parameters, {})
    (one,) = cast("list[dict[str, object]]", done["tables"])
    assert (one["table"], one["files"], one["busy"]) == (table, 0, True)
