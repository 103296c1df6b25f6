"""What the tests of the feature stage share: real tables, a real online store, real locks."""

from __future__ import annotations

import shutil
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, NamedTuple, cast

import polars as pl
import pytest
import redis

from penstock.adapters.delta import DeltaTables
from penstock.adapters.files import FileLocks
from penstock.adapters.lmdb import LmdbOnlineStore
from penstock.adapters.redis import RedisOnlineStore
from penstock.features import RefreshResult, refresh
from penstock.ports import Locks, OnlineStore, Tables
from penstock.spec import DType
from penstock.testing.ports import free_port
from penstock.testing.redis_server import need_redis, redis_server

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
    from contextlib import AbstractContextManager

    from penstock.spec import FeatureView, Source

POLARS: Mapping[DType, pl.DataType] = {
    DType.STRING: pl.String(),
    DType.FLOAT64: pl.Float64(),
    DType.INT64: pl.Int64(),
    DType.BOOLEAN: pl.Boolean(),
    DType.TIMESTAMP: pl.Datetime("us", "UTC"),
}


@dataclass
class World:
    """The ports of the stage over one folder."""

    tables: Tables
    online: OnlineStore
    locks: Locks
    batches: int = 0

    def ingest(
        self,
        source: Source,
        records: Sequence[Mapping[str, object]],
        arrived: datetime = datetime(2026, 1, 1, tzinfo=UTC),
    ) -> None:
        """Append records as the next raw batch, as the ingestion does."""
        self.batches += 1
        columns = {
            name: pl.Series([record.get(name) for record in records], dtype=pl.Int64).cast(
                POLARS[dtype]
            )
            if dtype == DType.TIMESTAMP
            else pl.Series([record.get(name) for record in records], dtype=POLARS[dtype])
            for name, dtype in source.schema.items()
        }
        frame = pl.DataFrame(columns).with_columns(
            pl.lit(self.batches, dtype=pl.Int64).alias("_batch"),
            pl.int_range(pl.len(), dtype=pl.Int64).alias("_row"),
            pl.lit(f"batch-{self.batches}").alias("_batch_id"),
            pl.lit(arrived).dt.cast_time_unit("us").alias("_arrived_at"),
        )
        name = f"raw/{source.name}"
        self.tables.append(name, frame, app=name, number=self.batches)

    def delete(
        self,
        source: Source,
        key: str,
        at_us: int | None = None,
        arrived: datetime = datetime(2026, 1, 1, tzinfo=UTC),
    ) -> None:
        """Delete records as the next raw batch, as the ingestion does."""
        self.batches += 1
        stamp = pl.Series([at_us], dtype=pl.Int64).cast(pl.Datetime("us", "UTC"))
        frame = pl.DataFrame({source.entity.name: [key], source.timestamp: stamp}).with_columns(
            pl.lit(self.batches, dtype=pl.Int64).alias("_batch"),
            pl.lit(arrived).dt.cast_time_unit("us").alias("_arrived_at"),
        )
        name, raw = f"tombstones/{source.name}", f"raw/{source.name}"
        self.tables.append(name, frame, app=name, number=self.batches)
        nothing = self.tables.scan(raw).limit(0).collect()
        self.tables.append(raw, nothing, app=raw, number=self.batches)

    def refresh(self, view: FeatureView) -> RefreshResult:
        """Bring new batches to the online store."""
        return refresh(self.tables, self.online, self.locks, view)


def open_world(folder: Path) -> World:
    """Open the ports over a folder."""
    return World(
        tables=DeltaTables(folder / "tables"),
        online=LmdbOnlineStore(folder / "online"),
        locks=FileLocks(folder / "locks"),
    )


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    """The stage's ports over an empty folder."""
    opened = open_world(tmp_path)
    yield opened
    opened.online.close()
    opened.tables.close()


@pytest.fixture
def new_world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[], World]]:
    """Opens the ports over another empty folder with each call."""
    opened: list[World] = []

    def another() -> World:
        opened.append(open_world(tmp_path_factory.mktemp("world")))
        return opened[-1]

    yield another
    for each in opened:
        each.online.close()
        each.tables.close()


@pytest.fixture
def next_world() -> Iterator[Callable[[], World]]:
    """Opens the ports over an empty folder with each call, in place of the ones before.

    Ten thousand examples would hold as many stores open, and leave as many folders.
    """
    with ExitStack() as current:

        def another() -> World:
            current.close()
            opened = open_world(Path(current.enter_context(TemporaryDirectory())))
            current.enter_context(closing(opened.tables))
            current.enter_context(closing(opened.online))
            return opened

        yield another


class Prepared(NamedTuple):
    """Ports to prepare, and copies of them to kill refreshes in.

    Attributes:
        world: The ports; once there are copies, nothing is written there any more.
        copied: Gives, by name, the same tables, and a store of one's own that holds what the first
            one held.
    """

    world: World
    copied: Callable[[str], AbstractContextManager[World]]


@contextmanager
def copied(world: World, folder: Path, name: str) -> Generator[World]:
    """The same tables, and a store of one's own that holds what the first one held."""
    world.online.close()  # a store is copied as it lies on disk
    shutil.copytree(folder / "online", folder / name)
    with closing(LmdbOnlineStore(folder / name)) as online:
        yield World(world.tables, online, world.locks)
    shutil.rmtree(folder / name)


@pytest.fixture
def lmdb(world: World, tmp_path: Path) -> Prepared:
    """The ports, with the store that is embedded."""
    return Prepared(world, partial(copied, world, tmp_path))


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """The port of a Redis of our own; skips where there is none to start."""
    need_redis()
    port = free_port()
    with redis_server(tmp_path_factory.mktemp("redis"), port, "--save", ""):
        yield port


@pytest.fixture
def in_redis(running: int, world: World) -> Iterator[Prepared]:
    """The ports, with the store in Redis."""
    url = f"redis://127.0.0.1:{running}/0#"
    with (
        closing(redis.Redis(port=running)) as client,
        closing(RedisOnlineStore(f"{url}first")) as first,
    ):
        client.flushdb()

        @contextmanager
        def copied(name: str) -> Generator[World]:
            for key in cast("list[bytes]", client.keys("first:*")):
                client.copy(key.decode(), name + key.decode().removeprefix("first"))
            with closing(RedisOnlineStore(f"{url}{name}")) as online:
                yield World(world.tables, online, world.locks)

        yield Prepared(World(world.tables, first, world.locks), copied)


@pytest.fixture(
    params=[
        pytest.param("lmdb", id="lmdb"),
        pytest.param("in_redis", id="redis", marks=pytest.mark.slow),
    ]
)
def prepared(request: pytest.FixtureRequest) -> Prepared:
    """The ports, with either online store."""
    return cast("Prepared", request.getfixturevalue(request.param))
