"""kill -9 of a process that deletes, again and again: a deletion is whole or not at all."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl
import pytest

from penstock.errors import NotReadyError
from penstock.features import OnlineReader, built_to, point_in_time, space_of
from penstock.ingest import remaining_records
from penstock.records import Batch
from penstock.runtime import open_services
from penstock.testing.oracle import naive_feature, naive_remaining
from penstock.testing.ports import free_port
from penstock.testing.redis_server import need_redis, redis_server
from penstock.testing.zygotes import kill_until_through

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from penstock.runtime import LocalServices

ZYGOTE = Path(__file__).with_name("delete_zygote.py")
KILLS = 14
LONGEST_LIFE_S = 0.6
Record = dict[str, object]


@pytest.fixture(scope="module")
def zygote() -> Any:  # noqa: ANN401 - a module
    """What the children do."""
    spec = importlib.util.spec_from_file_location("delete_zygote", ZYGOTE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def is_deletion(record: Mapping[str, object]) -> bool:
    return "x" not in record


def batches_of(zygote: Any) -> list[list[Record]]:  # noqa: ANN401 - a module
    """What each batch brings or takes away, by number."""
    found: list[list[Record]] = []
    for step in range(zygote.STEPS):
        hours = [step, step + 100]
        found.append(
            [
                {"key": key, "ts": hour * zygote.HOUR_US, "x": float(step)}
                for key in zygote.KEYS
                for hour in hours
            ]
        )
        asked = zygote.deletion(step)
        found.append([{"key": asked.keys[0], "ts": asked.at_us}])
    return found


@pytest.fixture(params=["lmdb", "redis"])
def home(
    request: pytest.FixtureRequest,
    tmp_path: Path,
    zygote: Any,  # noqa: ANN401 - a module
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Path]:
    """A project with a file for each step, its online features here or there."""
    folder = tmp_path / "home"
    (folder / ".penstock").mkdir(parents=True)
    for step, records in enumerate(batches_of(zygote)[::2]):
        lines = [
            f"{record['key']},{pl.Series([record['ts']]).cast(pl.Datetime('us'))[0]:%Y-%m-%dT%H:%M:%SZ},"
            f"{record['x']}"
            for record in records
        ]
        (folder / f"{step:02}.csv").write_text("key,ts,x\n" + "\n".join(lines))
    if request.param == "lmdb":
        yield folder
        return
    need_redis()
    port = free_port()
    with redis_server(tmp_path / "redis", port, "--save", ""):
        monkeypatch.setenv("PENSTOCK_ONLINE_URL", f"redis://127.0.0.1:{port}/0")
        yield folder


def check_online(
    services: LocalServices,
    zygote: Any,  # noqa: ANN401 - a module
    batches: list[list[Record]],
) -> int:
    """What is read is what is left after the batches that it says it holds; how many those are."""
    if built_to(services.online, space_of(zygote.VIEW)) is None:
        return 0
    reader = OnlineReader(services.online, [zygote.VIEW])
    try:
        found = reader.read_settled(list(zygote.KEYS), 0)
    except NotReadyError:
        return 0
    seen = [step for batch in batches[: found.progress["v"]] for step in batch]
    left = naive_remaining(zygote.VIEW, seen, is_deletion)
    for place, key in enumerate(zygote.KEYS):
        own = [record for record in left if record["key"] == key]
        at_us = int(found.as_of_us[place])
        expected = [
            value
            for feature in zygote.VIEW.features
            for value in naive_feature(zygote.VIEW, feature, own, at_us)
        ]
        wanted = [np.nan if value is None else value for value in expected]
        np.testing.assert_array_equal(found.values[place], wanted)
    return found.progress["v"]


@pytest.mark.slow
def test_deletions_are_whole_however_often_the_process_is_killed(
    home: Path,
    zygote: Any,  # noqa: ANN401 - a module
) -> None:
    batches = batches_of(zygote)
    reached = 0

    def look(lives: int) -> None:
        nonlocal reached
        if lives % 4 == 0:
            with open_services(home) as services:
                now = check_online(services, zygote, batches)
            assert now >= reached
            reached = now

    command = [str(ZYGOTE), str(home)]
    killed = kill_until_through(command, kills=KILLS, longest_s=LONGEST_LIFE_S, between=look)
    assert killed > 0
    with open_services(home) as services:
        assert check_online(services, zygote, batches) == len(batches)
        check_books(services, zygote, batches)


def check_books(
    services: LocalServices,
    zygote: Any,  # noqa: ANN401 - a module
    batches: list[list[Record]],
) -> None:
    """Each deletion is a batch, a tombstone, an audit entry and an event, once."""
    found = services.metadata.find(Batch)
    assert [batch.number for batch in found] == list(range(1, len(batches) + 1))
    assert {batch.state for batch in found} == {"stored"}
    ids = [batch.deletion.delete_id for batch in found if batch.deletion]
    assert ids == [f"d-{step}" for step in range(zygote.STEPS)]
    stones = services.tables.scan("tombstones/readings").collect()
    assert sorted(stones["_batch"]) == list(range(2, len(batches) + 1, 2))
    left = naive_remaining(zygote.VIEW, [s for batch in batches for s in batch], is_deletion)
    rows = remaining_records(services.tables, zygote.READINGS).collect()
    stored = sorted(zip(rows["key"], rows["ts"].dt.epoch("us"), strict=True))
    assert stored == sorted((record["key"], record["ts"]) for record in left)
    assert sum(batch.deleted for batch in found) == sum(b.stored for b in found) - len(left)
    spine = pl.DataFrame({"key": zygote.KEYS}).with_columns(
        at=pl.lit(10**15).cast(pl.Datetime("us", "UTC"))
    )
    counts = point_in_time(services.tables, [zygote.VIEW], spine)["v.n"].to_list()
    assert counts == [sum(record["key"] == key for record in left) for key in zygote.KEYS]
    actions = [entry.action for entry in services.metadata.audit()]
    assert actions.count("delete") == zygote.STEPS
    assert services.metadata.verify_audit() == len(actions)
    log = services.log.read("events", after=0, limit=1000)
    told = [entry.payload for entry in log if b"raw.deleted" in entry.payload]
    assert len(told) == zygote.STEPS
