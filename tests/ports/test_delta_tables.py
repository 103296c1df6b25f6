from __future__ import annotations

import resource
import shutil
from contextlib import closing
from functools import partial
from typing import TYPE_CHECKING

import polars as pl
import pytest
from deltalake import DeltaTable

from penstock.adapters.delta import DeltaTables
from penstock.errors import StateError
from penstock.testing.tables_suite import TablesSuite

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from penstock.ports import Tables

FRAME = pl.DataFrame({"a": [1, 2], "b": ["x", "y"]})


class TestDeltaTables(TablesSuite):
    @pytest.fixture
    def opener(self, tmp_path: Path) -> Callable[[], Tables]:
        return partial(DeltaTables, tmp_path / "state" / "tables")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A table of 30 appends, with a checkpoint at the 25th."""
    with closing(DeltaTables(tmp_path)) as tables:
        for number in range(1, 31):
            tables.append("raw/a", FRAME, app="app", number=number)
    return tmp_path / "raw" / "a"


def log_file(folder: Path, version: int) -> Path:
    return folder / "_delta_log" / f"{version:020}.json"


def test_files_that_are_large_enough_are_left_alone(tmp_path: Path) -> None:
    large = pl.DataFrame({"a": range(20_000)}).with_columns(b=pl.col("a").hash().cast(pl.String))
    with closing(DeltaTables(tmp_path)) as tables:
        tables.append("a", large, app="app", number=1)
        for number in range(2, 10):
            tables.append("a", FRAME, app="app", number=number)
        before = set(DeltaTable(tmp_path / "a").file_uris())
        tables.compact("a", below_bytes=100_000)
        after = set(DeltaTable(tmp_path / "a").file_uris())
        assert (len(before), len(after), len(before & after)) == (9, 2, 1)
        assert tables.scan("a").collect().height == 20_016
        tables.compact("a")
        assert len(DeltaTable(tmp_path / "a").file_uris()) == 1


def test_other_readers_can_open_it(folder: Path) -> None:
    table = DeltaTable(folder)
    assert table.transaction_version("app") == 30
    assert pl.scan_delta(table).collect().height == 60
    assert pl.scan_delta(str(folder), version=3).collect().height == 6
    assert (folder / "_delta_log" / "_last_checkpoint").exists()


def cut_short(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:30])


def last_log_cut_short(folder: Path) -> None:
    cut_short(log_file(folder, 30))


def last_log_empty(folder: Path) -> None:
    log_file(folder, 30).write_bytes(b"")


def last_log_overwritten(folder: Path) -> None:
    log_file(folder, 30).write_bytes(b"\x00\xff" * 300)


def log_in_the_middle_gone(folder: Path) -> None:
    log_file(folder, 28).unlink()


def checkpoint_overwritten(folder: Path) -> None:
    next((folder / "_delta_log").glob("*.checkpoint.parquet")).write_bytes(b"junk" * 99)


def log_gone(folder: Path) -> None:
    shutil.rmtree(folder / "_delta_log")


def log_emptied(folder: Path) -> None:
    log_gone(folder)
    (folder / "_delta_log").mkdir()


@pytest.mark.parametrize(
    "damage",
    [
        last_log_cut_short,
        last_log_empty,
        last_log_overwritten,
        log_in_the_middle_gone,
        checkpoint_overwritten,
        log_gone,
        log_emptied,
    ],
)
def test_damaged_log(folder: Path, damage: Callable[[Path], None]) -> None:
    damage(folder)
    with closing(DeltaTables(folder.parents[1])) as tables:
        for _ in range(2):
            with pytest.raises(StateError, match=r"'raw/a'.* is damaged"):
                tables.version("raw/a")
        with pytest.raises(StateError, match="damaged"):
            tables.append("raw/a", FRAME, app="app", number=31)
        assert tables.append("raw/b", FRAME, app="app", number=1)


@pytest.mark.parametrize("content", [b"junk", b""])
def test_damage_while_it_is_open(folder: Path, content: bytes) -> None:
    with closing(DeltaTables(folder.parents[1])) as tables:
        assert tables.version("raw/a") == 30
        log_file(folder, 31).write_bytes(content)
        for _ in range(2):
            with pytest.raises(StateError, match="damaged"):
                tables.version("raw/a")
        log_file(folder, 31).unlink()
        assert tables.version("raw/a") == 30
        assert tables.append("raw/a", FRAME, app="app", number=31)


@pytest.mark.parametrize("gone", [True, False])
def test_damaged_data(folder: Path, *, gone: bool) -> None:
    file = next(folder.glob("*.parquet"))
    with closing(DeltaTables(folder.parents[1])) as tables:
        assert tables.scan("raw/a").collect().height == 60
        if gone:
            file.unlink()
        else:
            cut_short(file)
        with pytest.raises(StateError, match="missing or cut short"):
            tables.scan("raw/a")


def test_folder_without_anything_becomes_a_table(tmp_path: Path) -> None:
    (tmp_path / "raw/a/_delta_log").mkdir(parents=True)
    with closing(DeltaTables(tmp_path)) as tables:
        assert tables.version("raw/a") is None
        assert tables.append("raw/a", FRAME, app="app", number=1)


def test_folder_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "raw").write_text("")
    with closing(DeltaTables(tmp_path)) as tables, pytest.raises(StateError, match="'raw/a'"):
        tables.append("raw/a", FRAME, app="app", number=1)


def test_a_write_that_has_no_room_leaves_nothing(folder: Path) -> None:
    before = sorted(folder.rglob("*"))
    rows = pl.DataFrame({"a": range(50_000), "b": [str(n * 7919 % 50_021) for n in range(50_000)]})
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    with closing(DeltaTables(folder.parents[1])) as tables:
        resource.setrlimit(resource.RLIMIT_FSIZE, (16_384, limit[1]))  # as a full disk would
        try:
            with pytest.raises(StateError, match=r"cannot be read or written: .*File too large"):
                tables.append("raw/a", rows, app="app", number=31)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limit)
        assert sorted(folder.rglob("*")) == before
        assert tables.append("raw/a", rows, app="app", number=31)


def test_pinned_listing_is_read_once(folder: Path) -> None:
    with closing(DeltaTables(folder.parents[1])) as tables:
        expected = tables.scan("raw/a", version=5).collect()
        assert expected.height == 10
        log_gone(folder)
        assert tables.scan("raw/a", version=5).collect().equals(expected)


@pytest.mark.parametrize("changed", [True, False])
def test_rows_go_while_others_are_written(
    folder: Path, monkeypatch: pytest.MonkeyPatch, *, changed: bool
) -> None:
    """An append that began before a removal, or a compaction, is committed after it."""
    write = pl.DataFrame.write_parquet
    turns: list[bool] = []

    def write_late(frame: pl.DataFrame, path: Path, **_: object) -> None:
        write(frame, path)
        if not turns:
            turns.append(True)
            with closing(DeltaTables(folder.parents[1])) as other:
                if changed:
                    assert other.remove("raw/a", "a", below=2) == 30
                else:
                    other.compact("raw/a")

    with closing(DeltaTables(folder.parents[1])) as tables:
        tables.version("raw/a")
        monkeypatch.setattr(pl.DataFrame, "write_parquet", write_late)
        assert tables.append("raw/a", FRAME, app="app", number=31)
        assert not tables.append("raw/a", FRAME, app="app", number=31)
        assert tables.scan("raw/a").collect().height == (32 if changed else 62)
