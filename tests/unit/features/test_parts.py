"""Parts of a computation are what one process computes, wherever they run and are killed."""

from __future__ import annotations

from contextlib import closing
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import msgspec
import numpy as np
import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

import penstock as ps
from penstock.adapters.processes import ProcessExecutor
from penstock.errors import UnavailableError
from penstock.features import Parts, UnknownEntities, Wanted, backfill, parts_of, point_in_time
from penstock.runtime import open_services
from penstock.testing.children import child
from penstock.testing.oracle import naive_feature, naive_remaining, naive_tolerance
from penstock.testing.parts_child import CountingExecutor, backfill_until, finished_parts
from penstock.testing.strategies import deleted_histories, feature_views, is_deletion, times

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.unit.features.conftest import World

    from penstock.runtime import LocalServices
    from penstock.spec import FeatureView

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
HOUR_US = 3_600_000_000
Records = list[dict[str, object]]
Points = list[tuple[str | None, int]]


@pytest.fixture(scope="module")
def executor() -> Iterator[ProcessExecutor]:
    with closing(ProcessExecutor(2)) as opened:
        yield opened


def spine_of(points: Points) -> pl.DataFrame:
    at = pl.Series("at", [at for _, at in points], dtype=pl.Int64)
    return pl.DataFrame(
        {"row": range(len(points)), "key": [key for key, _ in points]},
        schema_overrides={"key": pl.String},
    ).with_columns(at.cast(pl.Datetime("us", "UTC")))


@settings(
    max_examples=15,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(
    feature_views(),
    deleted_histories(),
    st.lists(st.tuples(st.sampled_from(["a", "b", "z", None]), times()), max_size=8),
    st.sampled_from([150, 500, 2_000]),
    st.integers(1, 3),
    st.booleans(),
)
def test_parts_are_the_whole_and_what_the_oracle_says(  # noqa: PLR0917 - what a history is made of
    new_world: Callable[[], World],
    executor: ProcessExecutor,
    tmp_path_factory: pytest.TempPathFactory,
    view: FeatureView,
    history: Records,
    points: Points,
    memory_bytes: int,
    at_once: int,
    as_known: bool,  # noqa: FBT001 - drawn
) -> None:
    world = new_world()
    world.ingest(view.source, [])
    for step in history:  # raw tables hold no infinity
        step |= {name: None for name in ("x", "y") if str(step.get(name)) in {"nan", "inf", "-inf"}}
        if is_deletion(step):
            at = step["ts"]
            world.delete(view.source, str(step["key"]), at if at is None else int(str(at)), EPOCH)
        else:
            world.ingest(view.source, [step], arrived=EPOCH)
    records = naive_remaining(view, history, is_deletion)
    spine = spine_of([*points, *points[:2]])
    folder = tmp_path_factory.mktemp("parts")
    unknown: list[UnknownEntities] = []
    with Parts(executor, folder / "own", at_once=at_once) as parts:
        apart = point_in_time(
            world.tables,
            [view],
            spine,
            as_known=as_known,
            memory_bytes=memory_bytes * at_once,
            parts=parts,
            notice=unknown.append,
        )
    assert not (folder / "own").exists()
    alone: list[UnknownEntities] = []
    one = point_in_time(
        world.tables,
        [view],
        spine,
        as_known=as_known,
        memory_bytes=memory_bytes,
        notice=alone.append,
    )
    assert_frame_equal(apart, one, check_exact=True)
    assert unknown == alone
    assert apart.select(spine.columns).equals(spine)
    whole = point_in_time(world.tables, [view], spine, as_known=as_known)
    assert_frame_equal(apart, whole, rel_tol=1e-9)
    for (key, at_us), row in zip(points, apart.iter_rows(named=True), strict=False):
        own = [record for record in records if record["key"] == key and key is not None]
        for feature in view.features if not as_known else ():
            room = naive_tolerance(view, feature, own, at_us)
            naives = naive_feature(view, feature, own, at_us)
            for name, naive in zip(feature.names, naives, strict=True):
                value = row[f"{view.name}.{name}"]
                assert (value is None) if naive is None else abs(value - naive) <= room


def test_what_is_kept_is_only_for_the_same_computation(
    world: World, executor: ProcessExecutor, tmp_path: Path
) -> None:
    """One folder, never emptied: whatever is asked, the answer is its own."""
    records = [{"key": f"k{hour % 5}", "ts": hour * HOUR_US, "x": 1.0} for hour in range(60)]
    world.ingest(VIEW.source, records[::2])
    world.ingest(VIEW.source, records[1::2], arrived=datetime(1970, 1, 2, tzinfo=UTC))
    world.ingest(VIEW.source, [{"key": key, "ts": HOUR_US, "x": 9.0} for key in ("k0", "k2")])
    spine = spine_of([(f"k{place % 5}", 9 * place * HOUR_US) for place in range(12)])
    later = spine.with_columns(pl.col("at") + timedelta(hours=1))
    asked: list[tuple[FeatureView, pl.DataFrame, dict[str, object]]] = [
        (VIEW, spine, {}),
        (VIEW, later, {}),
        (VIEW, later.with_columns(key=pl.col("key").reverse()), {}),
        (VIEW, spine, {"as_known": True}),
        (VIEW, spine, {"batches": {"v": 1}}),
        (VIEW, spine, {"batches": {"v": np.arange(12) % 2 + 1}}),
        (VIEW, spine, {"versions": {"raw/readings": 2}}),
        (msgspec.structs.replace(VIEW, ttl="5h"), spine, {}),
    ]
    parts = Parts(executor, tmp_path / "own", at_once=2)
    for view, points, how in asked:
        own = point_in_time(world.tables, [view], points, memory_bytes=6_000, parts=parts, **how)  # type: ignore[arg-type]  # as the table above has it
        alone = point_in_time(world.tables, [view], points, memory_bytes=3_000, **how)  # type: ignore[arg-type]  # the same
        assert own.equals(alone)
    assert len(list((tmp_path / "own").iterdir())) == len(asked), (
        "each was computed in parts, by itself"
    )


VIEW = ps.FeatureView(
    "v",
    source=ps.Source(
        "readings",
        entity=ps.Entity("key"),
        timestamp="ts",
        schema={"key": ps.String, "ts": ps.Timestamp, "x": ps.Float64},
    ),
    features=[ps.mean("x", over="6h"), ps.std("x", over="1d"), ps.last("x"), ps.count(over="2h")],
)
ROWS, ENTITIES = 240_000, 40


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project with more records than fit into the memory set, in two raw batches."""
    monkeypatch.setenv("PENSTOCK_FEATURES_MEMORY_MB", "16")
    monkeypatch.setenv("PENSTOCK_FEATURES_WORKERS", "2")
    (tmp_path / "home" / ".penstock").mkdir(parents=True)
    draw = np.random.default_rng(5)
    frame = pl.DataFrame(
        {
            "key": [f"k{place}" for place in draw.integers(0, ENTITIES, ROWS)],
            "ts": pl.Series(draw.integers(0, 2_000 * HOUR_US, ROWS)).cast(pl.Datetime("us", "UTC")),
            "x": draw.normal(size=ROWS),
            "_batch": np.sort(draw.integers(1, 3, ROWS)),
            "_row": np.arange(ROWS),
        }
    ).with_columns(pl.col("ts").alias("_arrived_at"))
    with open_services(tmp_path / "home") as services:
        services.tables.append("raw/readings", frame, app="raw/readings", number=2)
    return tmp_path / "home"


@pytest.fixture
def services(home: Path) -> Iterator[LocalServices]:
    with open_services(home, actor="tester") as opened:
        yield opened


def spine_in(services: LocalServices) -> pl.DataFrame:
    rows = services.tables.scan("raw/readings", columns=["key", "ts"]).collect()
    return rows.rename({"ts": "at"}).sample(5_000, with_replacement=True, seed=3)


def compute(services: LocalServices, parts: Parts | None, **how: object) -> pl.DataFrame:
    # With one process, the same share of the memory.
    share = services.features_memory_bytes // (1 if parts else 2)
    return point_in_time(
        services.tables,
        [VIEW],
        spine_in(services),
        memory_bytes=share,
        parts=parts,
        **how,  # type: ignore[arg-type]  # as the test has it
    )


@pytest.mark.slow
@pytest.mark.timeout(180)  # worker processes start, on a busy machine
def test_what_fails_leaves_the_parts_that_are_finished(
    services: LocalServices, monkeypatch: pytest.MonkeyPatch
) -> None:
    counting = CountingExecutor(services.executor)
    parts = Parts(counting, services.scratch / "parts" / "own", at_once=2)
    told: list[tuple[str, float]] = []

    def stop(what: str, share: float) -> None:
        told.append((what, share))
        if len(told) == 2:
            raise UnavailableError("a worker died")

    with pytest.raises(UnavailableError), parts:
        compute(services, parts, progress=stop)
    all_parts = counting.tasks
    assert told[0] == (f"features of v: part 1 of {all_parts}", 1 / all_parts)
    with parts:
        frame = compute(services, parts)
        again = counting.tasks - all_parts
        assert 0 < again <= all_parts - 2
        # What depends on anything else is another computation.
        monkeypatch.setattr("penstock.features.parts.LAYOUT", 99)
        assert compute(services, parts).equals(frame)
        assert counting.tasks == 2 * all_parts + again
    assert frame.equals(compute(services, None))
    assert finished_parts(services) == 0


@pytest.mark.slow
@pytest.mark.timeout(180)  # worker processes start, on a busy machine
@pytest.mark.parametrize("last", ["number", "of each row"])
def test_parts_see_no_batch_after_the_last(services: LocalServices, last: str) -> None:
    rows = len(spine_in(services))
    batch = 1 if last == "number" else np.arange(rows, dtype=np.int64) % 2 + 1
    with parts_of(services, "own") as parts:
        frame = compute(services, parts, batches={"v": batch})
    assert frame.equals(compute(services, None, batches={"v": batch}))
    assert not frame.equals(compute(services, None))


@pytest.mark.slow
@pytest.mark.timeout(180)  # worker processes start, on a busy machine
@pytest.mark.parametrize("pause_at", [1, 3])
def test_a_backfill_killed_between_parts_computes_the_others_only(
    home: Path, pause_at: int
) -> None:
    wanted = Wanted(from_us=0, until_us=500 * HOUR_US, every_us=HOUR_US)
    with child(backfill_until, home, VIEW, wanted, pause_at) as worker:
        worker.listen(pause_at)
        assert "done" not in worker.kill()
    with open_services(home, actor="tester") as services:
        kept = finished_parts(services)
        assert kept >= pause_at
        counting = CountingExecutor(services.executor)
        folder = services.scratch / "parts" / "backfill" / "v"
        parts = Parts(counting, folder, at_once=2)
        memory_bytes = services.features_memory_bytes
        result = backfill(
            services.tables, services.locks, VIEW, wanted, memory_bytes=memory_bytes, parts=parts
        )
        stored = services.tables.scan(result.table).collect().sort("at", "key")
        told = worker.said[0]
        assert isinstance(told, str)
        assert counting.tasks == int(told.rpartition(" ")[2]) - kept > 0
        assert finished_parts(services) == 0
        undisturbed = point_in_time(
            services.tables, [VIEW], stored.select("key", "at"), memory_bytes=memory_bytes // 2
        )
    assert len(stored) == result.computed > 0
    assert stored.select(undisturbed.columns).equals(undisturbed)
