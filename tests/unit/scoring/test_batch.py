from __future__ import annotations

import shutil
from datetime import timedelta
from typing import TYPE_CHECKING

import msgspec
import numpy as np
import polars as pl
import pytest

from penstock.control import champion_of
from penstock.deployment import RouteEdit, change_routes, deploy, load_engine
from penstock.errors import NotFoundError, NotReadyError
from penstock.features import point_in_time
from penstock.ingest import ingest_files
from penstock.plan import Catalogue
from penstock.ports import EVENTS_TOPIC, Put
from penstock.registry import get_version, promote, read_manifest, write_manifest
from penstock.runtime import open_services
from penstock.scoring import (
    Fleet,
    ServedVersion,
    build_fleet,
    load_served,
    pin_batch,
    read_target,
    score_batch,
    scores_in,
)
from penstock.testing.children import child
from penstock.testing.parts_child import CountingExecutor, finished_parts, score_until
from penstock.testing.served_project import HOURS, START, SYMBOLS, candles

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from penstock.ports import Services
    from penstock.runtime import LocalServices
    from penstock.testing.served_project import ServedProject


@pytest.fixture
def services(served: ServedProject) -> Iterator[LocalServices]:
    with open_services(served.home, actor="tester") as opened:
        yield opened


def _ingest_more(services: LocalServices, folder: Path, hours: int) -> None:
    path = folder / "more.parquet"
    candles(SYMBOLS, START + timedelta(hours=HOURS), hours, 9).write_parquet(path)
    ingest_files(services, Catalogue.load(services.metadata).source("candles"), paths=[path])


def test_a_batch_scores_each_new_row_once(services: LocalServices, tmp_path: Path) -> None:
    deploy(services, "btc", version=1)

    first = score_batch(services, "btc")
    again = score_batch(services, "btc")
    _ingest_more(services, tmp_path, 5)
    second = score_batch(services, "btc")

    assert (first.rows, first.number, first.version) == (HOURS * 3, 1, "direction@1")
    assert (again.rows, again.number) == (0, 1)
    assert (second.rows, second.number) == (15, 2)
    frame = services.tables.scan("scores/btc").collect()
    assert len(frame) == HOURS * 3 + 15
    assert frame["prediction_id"].n_unique() == len(frame)
    assert frame.select("entity", "at_us").is_unique().all()
    told = services.log.read(EVENTS_TOPIC, after=0, limit=1_000)
    ready = [entry for entry in told if b'"scores.ready"' in entry.payload]
    assert len(ready) == 2


def test_a_batch_is_of_a_pinned_champion(services: LocalServices) -> None:
    deploy(services, "btc", version=1)
    change_routes(services, "btc", RouteEdit(pins={"champion": 1}), wait_s=0)
    promote(services, "direction", 2)

    assert score_batch(services, "btc").version == "direction@1"
    assert champion_of(services, "btc") == ("direction", 1)


def test_a_batch_is_of_what_was_pinned(services: LocalServices, tmp_path: Path) -> None:
    deploy(services, "btc", version=1)
    pinned = pin_batch(services, "btc")
    _ingest_more(services, tmp_path, 5)
    first = score_batch(services, "btc", pinned=pinned)
    late = score_batch(services, "btc", pinned=pinned)
    rest = score_batch(services, "btc")
    assert (first.rows, first.number) == (HOURS * 3, 1)
    assert (late.rows, late.number) == (0, 1)
    assert (rest.rows, rest.number) == (15, 2)
    nothing = msgspec.structs.replace(pinned, batches={}, versions={})
    assert score_batch(services, "btc", pinned=nothing).rows == 0


def test_a_batch_score_is_the_model_s_answer_to_its_features(services: LocalServices) -> None:
    deploy(services, "btc", version=2)
    score_batch(services, "btc")

    scores = scores_in(services.tables.scan("scores/btc").collect())
    record = get_version(services.metadata, "direction", 2)
    folder = services.artifacts.path(record.package)
    engine = load_engine(folder, read_manifest(folder))

    x = np.array([score.features for score in scores], dtype=np.float64)
    np.testing.assert_array_equal(engine.predict(x), [score.prediction for score in scores])
    one = scores[0]
    assert (one.route, one.origin, one.engine, one.progress) == (
        "batch",
        "batch",
        engine.name_of(len(x)),
        {"momentum": 1},
    )
    assert any(None in score.features for score in scores)


def test_a_batch_that_dies_before_it_is_stored_is_done_once(
    services: LocalServices, monkeypatch: pytest.MonkeyPatch
) -> None:
    deploy(services, "btc", version=1)
    append = services.tables.append

    def die_after(name: str, frame: pl.DataFrame, *, app: str, number: int) -> bool:
        append(name, frame, app=app, number=number)
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(services.tables, "append", die_after)
        with pytest.raises(KeyboardInterrupt):
            score_batch(services, "btc")

    deploy(services, "btc", version=2)
    again = score_batch(services, "btc")

    assert (again.rows, again.number) == (0, 1)
    assert len(services.tables.scan("scores/btc").collect()) == HOURS * 3
    told = services.log.read(EVENTS_TOPIC, after=0, limit=1_000)
    (ready,) = [entry.payload for entry in told if b'"scores.ready"' in entry.payload]
    assert msgspec.json.decode(ready)["ids"]["version"] == "direction@1"


@pytest.mark.slow
@pytest.mark.timeout(180)  # worker processes start, on a busy machine
def test_a_batch_killed_between_parts_computes_the_others_only(
    services: LocalServices, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PENSTOCK_FEATURES_MEMORY_MB", "16")
    monkeypatch.setenv("PENSTOCK_FEATURES_WORKERS", "2")
    deploy(services, "btc", version=1)
    _ingest_more(services, tmp_path, 20_000)
    with child(score_until, services.home, "btc", 1) as worker:
        (said,) = worker.listen(1)
        assert "done" not in worker.kill()
    assert isinstance(said, str)
    with open_services(services.home, actor="tester") as small:
        kept = finished_parts(small)
        counting = CountingExecutor(small.executor)
        monkeypatch.setattr(type(small), "executor", counting)
        scored = score_batch(small, "btc")
        assert 0 < kept < int(said.rpartition(" ")[2])
        assert counting.tasks == int(said.rpartition(" ")[2]) - kept
        assert finished_parts(small) == 0
        frame = small.tables.scan("scores/btc").collect().sort("at_us", "entity")
        spine = frame.select(
            pl.col("entity").alias("symbol"),
            pl.col("at_us").cast(pl.Datetime("us", "UTC")).alias("at"),
        )
        views = Catalogue.load(small.metadata).deployment("btc").model.dataset.views
        undisturbed = point_in_time(
            small.tables, views, spine, memory_bytes=small.features_memory_bytes // 2
        ).select(pl.concat_list(pl.exclude("symbol", "at").cast(pl.Float64)))
    assert scored.rows == len(frame) == 3 * (HOURS + 20_000)
    assert frame["features"].to_list() == undisturbed.to_series().to_list()


def test_batches_need_a_deployment_and_a_champion(services: LocalServices) -> None:
    with pytest.raises(NotFoundError, match="Did you mean 'btc'"):
        score_batch(services, "btcc")
    with pytest.raises(NotReadyError, match="penstock deploy btc"):
        score_batch(services, "btc")


def test_a_fleet_has_what_the_aliases_say(services: LocalServices) -> None:
    deploy(services, "btc", version=1)
    deploy(services, "btc", version=2)
    target = read_target(services.metadata, Fleet().target)

    fleet = build_fleet(services, Fleet(), target)

    assert fleet.versions == {
        "btc/champion": "direction@2",
        "btc/previous": "direction@1",
        "split/champion": "direction@2",
        "split/shadow": "direction@2",
    }
    assert fleet.errors == {}
    assert fleet.revision == {"direction": target.aliases["direction"].revision}
    shared = {id(lane.version) for lane in fleet.lanes.values()}
    assert len(shared) == 2
    assert read_target(services.metadata, target) == target


def test_what_did_not_change_is_carried_over(services: LocalServices) -> None:
    deploy(services, "btc", version=1)
    before = build_fleet(services, Fleet(), read_target(services.metadata, Fleet().target))
    before.endpoints["btc"].counters.fall_back("constant", "late")

    deploy(services, "btc", version=2)
    after = build_fleet(services, before, read_target(services.metadata, before.target))

    assert after.endpoints["btc"].writer is before.endpoints["btc"].writer
    assert after.endpoints["btc"].counters.fallbacks == {("constant", "late"): 1}
    assert after.lanes["btc/previous"].version is before.lanes["btc/champion"].version
    assert after.lanes["split/shadow"] is before.lanes["split/shadow"]


def test_what_cannot_be_loaded_leaves_the_old_version(services: LocalServices) -> None:
    deploy(services, "btc", version=2)
    deploy(services, "btc", version=1)
    record = get_version(services.metadata, "direction", 2)
    for model in services.artifacts.path(record.package).glob("model.*"):
        model.chmod(0o600)
        model.write_bytes(b"rust")
    before = build_fleet(services, Fleet(), read_target(services.metadata, Fleet().target))
    promote(services, "direction", 2)

    after = build_fleet(services, before, read_target(services.metadata, before.target))

    assert after.versions["btc/champion"] == "direction@1"
    assert set(after.errors) >= {"btc/champion", "split/champion"}
    assert "damaged" in after.errors["btc/champion"]


def test_a_first_version_that_cannot_be_loaded_is_said(services: LocalServices) -> None:
    deploy(services, "btc", version=1)

    def fail(_services: Services, model: str, number: int) -> ServedVersion:
        raise NotReadyError(f"{model}@{number} is asleep.")

    target = read_target(services.metadata, Fleet().target)
    fleet = build_fleet(services, Fleet(), target, load=fail)

    assert fleet.endpoints["btc"].champion is None
    assert fleet.endpoints["btc"].no_champion == "direction@1 is asleep."


def test_online_and_batch_see_the_same_features(services: LocalServices) -> None:
    deploy(services, "btc", version=2)
    score_batch(services, "btc")
    served = load_served(services, "direction", 2)
    last = services.tables.scan("scores/btc").sort("at_us").tail(3).collect()
    scores = scores_in(last)

    values, as_of_us, progress, _ = served.read(
        [score.entity for score in scores], np.array([score.at_us for score in scores])
    )

    expected = np.array([score.features for score in scores], dtype=np.float64)
    np.testing.assert_allclose(values, expected, rtol=1e-9)
    assert as_of_us.tolist() == [score.at_us for score in scores]
    assert progress == [{"momentum": 1}] * len(scores)
    np.testing.assert_allclose(served.predict(values), [score.prediction for score in scores])


def test_rows_of_entities_that_a_view_knows_nothing_of_are_counted(
    services: LocalServices,
) -> None:
    """The version reads a source that has records of two of the three symbols."""
    version = get_version(services.metadata, "direction", 1)
    folder = services.scratch / "other"
    shutil.copytree(services.artifacts.path(version.package), folder)
    for path in (folder, *folder.iterdir()):
        path.chmod(0o755)
    manifest = read_manifest(folder)
    text = msgspec.json.encode(manifest.definitions)
    text = text.replace(b"source/candles", b"source/others").replace(b'"candles"', b'"others"')
    write_manifest(folder, msgspec.structs.replace(manifest, definitions=msgspec.json.decode(text)))
    changed = msgspec.structs.replace(version, package=services.artifacts.put(folder))
    services.metadata.write(Put(changed))
    raw = services.tables.scan("raw/candles").collect()
    rest = raw.filter(raw["symbol"] != "ETH")
    services.tables.append("raw/others", rest, app="raw/others", number=1)
    promote(services, "direction", 1)

    scored = score_batch(services, "btc")

    assert (scored.rows, scored.unknown) == (HOURS * 3, {"momentum": HOURS})
