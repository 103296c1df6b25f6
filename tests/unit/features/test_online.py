from __future__ import annotations

import os
import signal
import string
import subprocess
import sys
import threading
from typing import TYPE_CHECKING

import msgspec
import numpy as np
import polars as pl
import pytest

from penstock.errors import InputError, NotReadyError
from penstock.features import (
    OnlineReader,
    built_to,
    lock_of,
    point_in_time,
    refresh,
    space_of,
)
from penstock.spec import Aggregate, DType, Entity, FeatureView, col
from penstock.testing.strategies import source

if TYPE_CHECKING:
    from pathlib import Path

    from tests.unit.features.conftest import World

HOUR_US = 3_600_000_000
VIEW = FeatureView(
    name="v",
    source=source("1h"),
    derive={"ratio": col("x") / col("y")},
    features=(
        Aggregate(op="count", over="1h", name="n"),
        Aggregate(op="last", column="x", name="x"),
        Aggregate(op="mean", column="ratio", over="6h", name="mean"),
        Aggregate(op="std", column="ratio", name="std"),
    ),
)
OTHER = FeatureView(
    name="w", source=source("1h"), features=(Aggregate(op="max", column="n", over="2d", name="m"),)
)


def make_records(count: int, seed: int, keys: str = "abc") -> list[dict[str, object]]:
    rng = np.random.default_rng(seed)
    return [
        {
            "key": str(rng.choice(list(keys))),
            "ts": int(rng.integers(0, 40)) * HOUR_US // 2,
            "x": float(rng.normal()),
            "y": float(rng.integers(0, 4)),
            "n": int(rng.integers(-9, 9)),
        }
        for _ in range(count)
    ]


def assert_same_as_offline(world: World, views: list[FeatureView]) -> None:
    """Law 3 over real stores: what is read online is what the raw tables give at ``as_of``."""
    reader = OnlineReader(world.online, views)
    keys = [*"abcz"] * 6
    values, as_of_us = reader.read(keys, np.arange(len(keys)) * HOUR_US)
    spine = pl.DataFrame({"key": keys, "at": pl.Series(as_of_us).cast(pl.Datetime("us", "UTC"))})
    frame = point_in_time(world.tables, views, spine, batches=reader.progress())
    expected = frame.select(pl.col(reader.names).cast(pl.Float64).fill_null(np.nan)).to_numpy()
    np.testing.assert_allclose(values, expected, rtol=1e-9, atol=1e-12)


def test_batches_are_folded_once_and_read_as_offline(world: World) -> None:
    world.ingest(VIEW.source, make_records(200, 1))
    first = world.refresh(VIEW)
    assert (first.first_batch, first.last_batch, first.records) == (1, 1, 200)
    assert first.from_zero
    again = world.refresh(VIEW)
    assert (again.first_batch, again.last_batch, again.records) == (2, 1, 0)
    assert not again.from_zero
    for seed in (2, 3, 4):
        world.ingest(VIEW.source, make_records(30, seed))
    later = world.refresh(VIEW)
    assert (later.first_batch, later.last_batch, later.records) == (2, 4, 90)
    world.ingest(VIEW.source, [])
    assert world.refresh(VIEW).last_batch == 5
    world.refresh(OTHER)
    assert_same_as_offline(world, [VIEW, OTHER])
    assert OnlineReader(world.online, [VIEW, OTHER]).progress() == {"v": 5, "w": 5}


def test_records_that_no_window_reaches_are_stored_and_counted(world: World) -> None:
    def ingest(*hours: int, key: str = "a") -> None:
        world.ingest(OTHER.source, [{"key": key, "ts": h * HOUR_US, "n": h} for h in hours])

    ingest(0, 100, 200)
    assert world.refresh(OTHER).too_late == 0  # a first build: what is old did not come late
    ingest(199, 201)
    assert world.refresh(OTHER).too_late == 0
    ingest(3, 4, 150, 202)
    ingest(3, key="b")
    later = world.refresh(OTHER)
    assert (later.records, later.too_late) == (5, 3)
    assert world.refresh(OTHER).too_late == 0
    assert world.tables.scan("raw/readings").collect().height == 10
    assert_same_as_offline(world, [OTHER])
    assert refresh(world.tables, world.online, world.locks, OTHER, again=True).too_late == 0


def test_reading_by_name(world: World) -> None:
    world.ingest(VIEW.source, [{"key": "a", "ts": 0, "x": 2.0, "y": 4.0}])
    world.refresh(VIEW)
    reader = OnlineReader(world.online, [VIEW])
    assert reader.names == ("v.n", "v.x", "v.mean", "v.std")
    assert reader.read_one("a", 0) == {"v.n": 1, "v.x": 2.0, "v.mean": 0.5, "v.std": None}
    assert reader.read_one("a", 9 * HOUR_US)["v.n"] == 0
    assert reader.read_one("b", 0) == {"v.n": 0, "v.x": None, "v.mean": None, "v.std": None}
    values, as_of_us = reader.read(["a", "b"], 5)
    assert as_of_us.tolist() == [HOUR_US, 5]
    assert values[:, 0].tolist() == [1, 0]
    assert reader.read([], 5)[0].shape == (0, 4)


@pytest.mark.parametrize("turn", [1, -1])
def test_views_that_know_different_batches_are_read_at_one_time(world: World, turn: int) -> None:
    world.ingest(VIEW.source, [{"key": "a", "ts": 0, "x": 2.0, "n": 1}])
    world.refresh(VIEW)
    world.ingest(VIEW.source, [{"key": "a", "ts": 5 * HOUR_US, "x": 3.0, "n": 2}])
    world.refresh(OTHER)
    views = [VIEW, OTHER][::turn]
    reader = OnlineReader(world.online, views)
    assert reader.progress() == {"v": 1, "w": 2}
    assert reader.read(["a"], 0)[1].tolist() == [6 * HOUR_US]
    assert reader.read_one("a", 0) == {
        "v.n": 0, "v.x": 2.0, "v.mean": None, "v.std": None, "w.m": 2.0,
    }  # fmt: skip
    assert_same_as_offline(world, views)


def test_a_refresh_that_fails_half_way_goes_on_from_there(world: World) -> None:
    world.ingest(VIEW.source, make_records(20, 0))
    world.refresh(VIEW)
    for seed in range(1, 6):
        world.ingest(VIEW.source, make_records(20, seed))

    def stop(what: str, share: float) -> None:
        assert what == "features of v"
        if share > 0.4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        refresh(world.tables, world.online, world.locks, VIEW, chunk_rows=1, progress=stop)
    assert world.online.progress(space_of(VIEW)) == 3
    assert world.refresh(VIEW).records == 60
    assert_same_as_offline(world, [VIEW])


def test_chunks_end_where_they_are_full(world: World) -> None:
    world.ingest(VIEW.source, [])
    world.refresh(VIEW)
    for size in (3, 3, 3, 3):
        world.ingest(VIEW.source, make_records(size, size))
    shares: list[float] = []
    refresh(
        world.tables, world.online, world.locks, VIEW, chunk_rows=5,
        progress=lambda _, share: shares.append(share),
    )  # fmt: skip
    assert shares == [0.6, 1.0]


def test_a_first_build_goes_part_by_part_and_nobody_reads_half_of_it(world: World) -> None:
    for seed in range(3):
        world.ingest(VIEW.source, make_records(40, seed, keys="abcdefghij"))
    reader = OnlineReader(world.online, [VIEW])
    shares: list[float] = []

    def look(_: str, share: float) -> None:
        shares.append(share)
        if share < 1:
            assert built_to(world.online, space_of(VIEW)) is None
            for broken in (lambda: reader.read([*"abcdefghijz"], 0), reader.progress):
                with pytest.raises(NotReadyError, match="penstock features build v"):
                    broken()

    done = refresh(world.tables, world.online, world.locks, VIEW, chunk_rows=40, progress=look)
    assert shares == [1 / 3, 2 / 3, 1.0]
    assert (done.records, done.first_batch, done.last_batch) == (120, 1, 3)
    assert reader.progress() == {"v": 3}
    world.ingest(VIEW.source, make_records(40, 9))
    assert world.refresh(VIEW).first_batch == 4
    assert_same_as_offline(world, [VIEW])


def test_a_first_build_that_fails_half_way_begins_again(world: World) -> None:
    for seed in range(3):
        world.ingest(VIEW.source, make_records(40, seed))

    def stop(_: str, share: float) -> None:
        if share > 0.4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        refresh(world.tables, world.online, world.locks, VIEW, chunk_rows=40, progress=stop)
    assert built_to(world.online, space_of(VIEW)) is None
    world.ingest(VIEW.source, make_records(40, 4))
    again = world.refresh(VIEW)
    assert again.from_zero
    assert again.records == 160
    assert_same_as_offline(world, [VIEW])


KILLED = """
import sys
from pathlib import Path
from penstock.adapters.delta import DeltaTables
from penstock.adapters.files import FileLocks
from penstock.adapters.lmdb import LmdbOnlineStore
from penstock.features import refresh
from penstock.spec import FeatureView
import msgspec

folder = Path(sys.argv[1])
view = msgspec.msgpack.decode((folder / "view").read_bytes(), type=FeatureView)
refresh(
    DeltaTables(folder / "tables"), LmdbOnlineStore(folder / "online"),
    FileLocks(folder / "locks"), view, chunk_rows=1,
    progress=lambda *_: (sys.stdout.write("x"), sys.stdout.flush()),
)
"""


@pytest.mark.slow
@pytest.mark.parametrize("built", [True, False], ids=["refresh", "first build"])
def test_a_killed_refresh_loses_and_doubles_nothing(
    world: World, tmp_path: Path, *, built: bool
) -> None:
    if built:
        world.ingest(VIEW.source, [])
        world.refresh(VIEW)
    for seed in range(40):
        world.ingest(VIEW.source, make_records(10, seed, keys=string.ascii_lowercase))
    (tmp_path / "view").write_bytes(msgspec.msgpack.encode(VIEW))
    process = subprocess.Popen(
        [sys.executable, "-c", KILLED, str(tmp_path)], stdout=subprocess.PIPE, env=os.environ
    )
    assert process.stdout is not None
    assert process.stdout.read(3) == b"xxx"
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stdout.close()
    done = world.online.progress(space_of(VIEW))
    assert done is not None
    assert 3 <= done < 41 if built else -26 < done < 0
    assert world.refresh(VIEW).last_batch == 40 + built
    assert_same_as_offline(world, [VIEW])
    shares = OnlineReader(world.online, [VIEW]).read([*"abc"], 0)[0]
    assert np.isfinite(shares[:, 3]).all()


def test_a_changed_view_is_built_beside_the_old_one(world: World) -> None:
    world.ingest(VIEW.source, make_records(50, 1))
    world.refresh(VIEW)
    changed = msgspec.structs.replace(VIEW, features=(Aggregate(op="count", name="n"),))
    assert space_of(changed) != space_of(VIEW)
    old, new = OnlineReader(world.online, [VIEW]), OnlineReader(world.online, [changed])
    before = old.read(["a"], 0)[0]
    for broken in (lambda: new.read(["a"], 0), new.progress):
        with pytest.raises(NotReadyError, match=r"another version.*penstock features build v"):
            broken()
    assert world.refresh(changed).from_zero
    assert new.read(["a"], 0)[0][0, 0] > 0
    np.testing.assert_array_equal(old.read(["a"], 0)[0], before)


def test_an_empty_store_and_an_empty_source_say_what_to_run(world: World) -> None:
    with pytest.raises(NotReadyError, match=r"not built yet\. Run 'penstock features build v'"):
        OnlineReader(world.online, [VIEW]).read(["a"], 0)
    with pytest.raises(NotReadyError, match="penstock ingest readings"):
        world.refresh(VIEW)


def test_keys_of_another_type_and_views_that_do_not_fit_are_refused(world: World) -> None:
    world.ingest(VIEW.source, make_records(5, 1))
    world.refresh(VIEW)
    with pytest.raises(InputError, match="Give keys of type string"):
        OnlineReader(world.online, [VIEW]).read([1], 0)
    with pytest.raises(InputError, match="no view is given"):
        OnlineReader(world.online, [])
    users = Entity(name="user", dtype=DType.INT64)
    schema = {**VIEW.source.schema, "user": DType.INT64}
    other = msgspec.structs.replace(
        OTHER, source=msgspec.structs.replace(VIEW.source, entity=users, schema=schema)
    )
    reader = OnlineReader(world.online, [VIEW, other])
    with pytest.raises(InputError, match="Give the keys of each by its name"):
        reader.read(["a"], 0)
    with pytest.raises(InputError, match="Did you mean 'users'"):
        reader.read({"key": ["a"], "users": [1]}, 0)
    with pytest.raises(InputError, match="unlike numbers of keys"):
        reader.read({"key": ["a"], "user": [1, 2]}, 0)
    unlike = msgspec.structs.replace(VIEW, ttl="1h")
    with pytest.raises(InputError, match="'v' is declared 2 times"):
        OnlineReader(world.online, [VIEW, unlike])


def test_whole_number_keys(world: World) -> None:
    numbered = msgspec.structs.replace(
        source(),
        entity=Entity(name="key", dtype=DType.INT64),
        schema={**source().schema, "key": DType.INT64},
    )
    view = msgspec.structs.replace(OTHER, source=numbered)
    world.ingest(numbered, [{"key": -7, "ts": 0, "n": 4}])
    world.refresh(view)
    reader = OnlineReader(world.online, [view])
    assert reader.read_one(-7, 0) == {"w.m": 4.0}
    for wrong in ("7", 2**70):
        with pytest.raises(InputError, match="Give keys of type int64"):
            reader.read_one(wrong, 0)


def test_one_refresh_of_a_view_at_a_time(world: World) -> None:
    world.ingest(VIEW.source, make_records(5, 1))
    other = threading.Thread(target=world.refresh, args=(VIEW,))
    with world.locks.hold(lock_of(space_of(VIEW), 0)):
        other.start()
        other.join(0.2)
        assert other.is_alive()
    other.join()
    assert world.online.progress(space_of(VIEW)) == 1
