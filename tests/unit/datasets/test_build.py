"""A dataset is correct at each row's time, pinned, and built once per content."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

import msgspec
import polars as pl
import pytest

import penstock as ps
from penstock.datasets import build, get_snapshot, load, spine_of
from penstock.errors import InputError, NotFoundError, NotReadyError
from penstock.records import DatasetSnapshot

if TYPE_CHECKING:
    from penstock.runtime import LocalServices
    from penstock.spec import Dataset, Source

    from .conftest import Ingest

ROWS = [("a", hour, [5.0, 6.0, 4.0][hour % 3]) for hour in range(16)]


def test_a_dataset_holds_what_was_known_and_what_came_true(
    services: LocalServices, direction: Dataset, ingest: Ingest
) -> None:
    ingest([*ROWS, ("b", 2, 1.0), ("b", 3, 2.0), ("b", 5, 1.0)])
    snapshot = build(services, direction)
    rows = load(services, snapshot)
    assert rows.columns == ["symbol", "at", "recent.last_close", "recent.count_3h", "up", "part"]
    assert (snapshot.rows, snapshot.unlabelled) == (16, 3)
    of_b = rows.filter(symbol="b")
    assert of_b["up"].to_list() == [True]
    assert of_b["recent.last_close"].to_list() == [1.0]
    of_a = rows.filter(symbol="a")
    start = of_a["at"][0]
    assert of_a["at"].to_list() == [start + timedelta(hours=hour) for hour in range(15)]
    assert of_a["recent.last_close"].to_list() == [close for _, _, close in ROWS[:15]]
    assert of_a["recent.count_3h"].to_list() == [1, 2, *[3] * 13]
    assert of_a["up"].to_list() == [hour % 3 != 1 for hour in range(15)]


def test_a_dataset_of_a_service_has_its_features_in_its_order(
    services: LocalServices, direction: Dataset, ingest: Ingest
) -> None:
    ingest(ROWS)
    (view,) = direction.base_views
    other = ps.FeatureView("other", source=view.source, features=[ps.count(), ps.max("close")])
    chosen = [view["count_3h"], other["max_close"], view["last_close"]]
    service = ps.FeatureService("scoring", features=chosen)
    whole = load(services, build(services, direction))
    snapshot = build(services, msgspec.structs.replace(direction, features=service))
    rows = load(services, snapshot)
    names = ("recent.count_3h", "other.max_close", "recent.last_close")
    assert snapshot.feature_names == names
    assert rows.columns == ["symbol", "at", *names, "up", "part"]
    assert rows.drop("other.max_close").equals(whole.select(*rows.drop("other.max_close").columns))
    assert (snapshot.service, snapshot.service_id) == ("scoring", service.service_id)
    listed = build(services, msgspec.structs.replace(direction, features=chosen))
    assert (listed.feature_names, listed.service, listed.service_id) == (names, "", "")
    assert load(services, listed).equals(rows)


def test_the_snapshot_says_what_it_is_made_of(
    services: LocalServices, direction: Dataset, ingest: Ingest
) -> None:
    ingest(ROWS[:9])
    ingest(ROWS[9:])
    snapshot = build(services, direction)
    assert snapshot.tables == {"raw/prices": services.tables.version("raw/prices")}
    assert snapshot.batches == {"prices": 2}
    assert snapshot.parts == {"train": 8, "validation": 3, "test": 4, "embargo": 0}
    assert snapshot.feature_names == ("recent.last_close", "recent.count_3h")
    assert snapshot.label_balance["train"] == 5 / 8
    assert snapshot.task == "classification"
    assert any("the test part has only 4 rows" in warning for warning in snapshot.warnings)
    assert len(load(services, snapshot, "validation")) == 3
    assert get_snapshot(services.metadata, snapshot.dataset_id) == snapshot


def test_building_again_changes_nothing(
    services: LocalServices, direction: Dataset, ingest: Ingest
) -> None:
    ingest(ROWS)
    first = build(services, direction)
    entries = len(services.metadata.audit())
    assert build(services, direction) == first
    assert len(services.metadata.audit()) == entries == 1


def test_more_records_make_another_dataset_and_leave_the_first(
    services: LocalServices, direction: Dataset, ingest: Ingest
) -> None:
    ingest(ROWS)
    first = build(services, direction)
    before = load(services, first)
    ingest([("a", 16, 9.0), ("a", 17, 8.0)])
    second = build(services, direction)
    assert second.dataset_id != first.dataset_id
    assert second.rows == first.rows + 2
    assert load(services, first).equals(before)
    # From the same versions, the same rows: what came later is not in them.
    assert load(services, second).head(len(before)).drop("part").equals(before.drop("part"))


def test_a_snapshot_whose_rows_were_removed_is_built_again(
    services: LocalServices, direction: Dataset, ingest: Ingest
) -> None:
    ingest(ROWS)
    snapshot = build(services, direction)
    services.artifacts.path(snapshot.artifact).unlink()
    assert build(services, direction).artifact == snapshot.artifact
    assert len(load(services, snapshot)) == 15


def test_a_dataset_without_a_label_keeps_every_record(
    services: LocalServices, direction: Dataset, ingest: Ingest
) -> None:
    ingest(ROWS)
    snapshot = build(services, msgspec.structs.replace(direction, label=None))
    assert (snapshot.rows, snapshot.unlabelled, snapshot.label_balance) == (16, 0, {})
    assert "up" not in load(services, snapshot).columns


def test_a_spine_is_one_row_per_record(
    services: LocalServices, prices: Source, ingest: Ingest
) -> None:
    ingest(ROWS[:2])
    first = services.tables.version("raw/prices")
    ingest([("b", 0, None)])
    spine = spine_of(services.tables, prices)
    assert spine["symbol"].to_list() == ["a", "b", "a"]
    assert spine["_batch"].to_list() == [1, 2, 1]
    assert spine.schema["at"] == pl.Datetime("us", "UTC")
    assert first is not None
    assert len(spine_of(services.tables, prices, {"raw/prices": first})) == 2


def test_nothing_ingested_says_what_to_run(services: LocalServices, direction: Dataset) -> None:
    with pytest.raises(NotReadyError, match="penstock ingest prices"):
        build(services, direction)
    with pytest.raises(NotReadyError, match="penstock ingest prices"):
        spine_of(services.tables, direction.spine)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([("a", 2 * hour, 1.0) for hour in range(9)], "stamped exactly 1h after another"),
        ([("a", hour, float(hour)) for hour in range(9)], "'up' of dataset 'direction' is true"),
        ([("a", 0, 1.0), ("a", 1, 2.0), ("a", 2, 1.0)], "part of dataset 'direction' would be"),
    ],
)
def test_rows_that_nothing_can_be_learned_from_are_refused(
    services: LocalServices,
    direction: Dataset,
    ingest: Ingest,
    rows: list[tuple[str, int, float]],
    message: str,
) -> None:
    ingest(rows)
    with pytest.raises(InputError, match=message):
        build(services, direction)
    assert services.metadata.find(DatasetSnapshot) == []


def test_a_source_whose_records_were_all_refused_is_said_to_be_empty(
    services: LocalServices, direction: Dataset, ingest: Ingest
) -> None:
    ingest(ROWS)
    raw = services.tables.scan("raw/prices").collect()
    other = msgspec.structs.replace(direction.spine, name="others")
    services.tables.append("raw/others", raw.clear(), app="raw/others", number=1)
    with pytest.raises(InputError, match="source 'others' has no records"):
        build(services, msgspec.structs.replace(direction, spine=other))


def test_columns_that_are_empty_in_every_record_make_no_label(
    services: LocalServices, direction: Dataset, ingest: Ingest
) -> None:
    ingest([("a", hour, None) for hour in range(4)])
    plain = msgspec.structs.replace(direction, label=ps.Label("high", ps.col("close") > 3))
    with pytest.raises(InputError, match="Its columns are empty in every record"):
        build(services, plain)


def test_a_label_named_like_another_column_is_refused(
    services: LocalServices, direction: Dataset, ingest: Ingest
) -> None:
    ingest(ROWS)
    clash = msgspec.structs.replace(direction, label=ps.Label("part", ps.col("close") > 5))
    with pytest.raises(InputError, match="give the label another name"):
        build(services, clash)


def test_an_unknown_snapshot_names_the_nearest(services: LocalServices) -> None:
    with pytest.raises(NotFoundError, match="dataset snapshot 'abc'"):
        get_snapshot(services.metadata, "abc")


def test_rows_of_entities_that_a_view_knows_nothing_of_are_warned_of(
    services: LocalServices, direction: Dataset, prices: Source, ingest: Ingest
) -> None:
    ingest([(symbol, hour, 100.0 + hour * 7 % 5) for hour in range(60) for symbol in ("A", "B")])
    raw = services.tables.scan("raw/prices").collect()
    of_a = raw.filter(raw["symbol"] == "A")
    services.tables.append("raw/volumes", of_a, app="raw/volumes", number=1)
    volumes = msgspec.structs.replace(prices, name="volumes")
    flow = ps.FeatureView("flow", source=volumes, features=[ps.count()])
    both = msgspec.structs.replace(direction, features=[*direction.views, flow])

    snapshot = build(services, both)

    (warning,) = [text for text in snapshot.warnings if "entities" in text]
    rows = snapshot.rows
    assert warning.startswith(f"{rows // 2} of {rows} rows are of entities that 'volumes' has no")
    assert "('B'): their features of view 'flow'" in warning
    assert build(services, direction).warnings == tuple(
        text for text in snapshot.warnings if text != warning
    )


def test_features_are_computed_within_the_memory_that_is_set(
    services: LocalServices,
    direction: Dataset,
    ingest: Ingest,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ingest([(f"s{row % 500}", row // 500, float(row * 7 % 11)) for row in range(60_000)])
    whole = build(services, direction)
    told: list[str] = []
    monkeypatch.setattr(
        services, "settings", services.settings.model_copy(update={"features_memory_mb": 4})
    )
    services.artifacts.path(whole.artifact).unlink()
    again = build(services, direction, progress=lambda what, _: told.append(what))

    assert len(told) > 2
    assert told[0] == f"features of recent: part 1 of {len(told)}"
    assert load(services, again).equals(load(services, whole))
