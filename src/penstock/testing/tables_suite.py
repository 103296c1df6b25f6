"""What every implementation of ``Tables`` must keep."""
# ruff: noqa: S101, PLR2004 - a suite asserts, and literal expectations are its point

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from datetime import UTC, datetime
from threading import Barrier
from typing import TYPE_CHECKING

import polars as pl
import pytest

from penstock.errors import InputError, NotFoundError
from penstock.ports import Vacuumed

from .children import child
from .tables_removal_suite import TablesRemovalSuite

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from multiprocessing.connection import Connection

    from penstock.ports import Tables

__all__ = ["TablesSuite"]

_ROWS = 50
_NOON = datetime(2026, 1, 1, 12, 0, 0, 123456, tzinfo=UTC)
_EVERY_TYPE = pl.DataFrame(
    {
        "flag": [True, None, False],
        "small": [1, None, -(2**31)],
        "large": [2**62, None, -1],
        "real": [0.1, None, float("nan")],
        "text": ["ä\x00'", None, ""],
        "bytes": [b"\xff", None, b""],
        "day": [_NOON.date(), None, _NOON.date()],
        "at": [_NOON, None, datetime(1960, 1, 1, tzinfo=UTC)],
        "reals": [[1.5, None], None, []],
        "texts": [["a", None], None, []],
        "pair": [{"a": 1, "b": "x"}, {"a": None, "b": None}, {"a": 2, "b": ""}],
    },
    schema_overrides={"small": pl.Int32, "at": pl.Datetime("us", "UTC")},
)


class TablesSuite(TablesRemovalSuite):
    """Subclass it and override the fixture ``opener``."""

    @pytest.fixture
    def opener(self) -> Callable[[], Tables]:
        """Opens the same tables each time; pickles, so that other processes can open them."""
        raise NotImplementedError

    @pytest.fixture
    def tables(self, opener: Callable[[], Tables]) -> Iterator[Tables]:
        """The tables, none at first."""
        with closing(opener()) as opened:
            yield opened

    def test_no_table(self, tables: Tables) -> None:
        """Without a table there is no version, no number and no name; scanning it is an error."""
        assert tables.version("raw/a") is None
        assert tables.applied("raw/a", "app") == 0
        assert tables.names() == []
        for ask in (tables.scan, tables.compact):
            with pytest.raises(NotFoundError, match="no table 'raw/a'"):
                ask("raw/a")

    def test_rows_read_back(self, tables: Tables, opener: Callable[[], Tables]) -> None:
        """Every type and null reads back as it was, here and through the next object."""
        assert tables.append("raw/a", _EVERY_TYPE, app="app", number=1)
        with closing(opener()) as other:
            for reader in (tables, other):
                assert reader.scan("raw/a").collect().equals(_EVERY_TYPE)
                assert reader.scan("raw/a").collect_schema() == _EVERY_TYPE.schema

    def test_number_is_written_once(self, tables: Tables, opener: Callable[[], Tables]) -> None:
        """A number that is in, or below one that is, is not written again, by whatever object."""
        assert tables.append("a", _rows(3), app="app", number=3)
        with closing(opener()) as other:
            for again in (tables, other):
                assert not again.append("a", _rows(3), app="app", number=3)
                assert not again.append("a", _rows(9), app="app", number=2)
            assert other.append("a", _rows(4), app="app", number=4)
        assert tables.append("a", _rows(5), app="another", number=1)
        assert _counts(tables) == {3: _ROWS, 4: _ROWS, 5: _ROWS}
        assert (tables.applied("a", "app"), tables.applied("a", "another")) == (4, 1)
        assert tables.applied("a", "nobody") == 0

    def test_empty_frame_records_the_number(self, tables: Tables) -> None:
        """An empty frame makes the table and takes its number, and adds no row."""
        empty = _rows(1).clear()
        assert tables.append("a", empty, app="app", number=1)
        assert tables.scan("a").collect().equals(empty)
        assert tables.append("a", _rows(2), app="app", number=2)
        assert tables.append("a", empty, app="app", number=3)
        assert not tables.append("a", _rows(3), app="app", number=3)
        assert tables.applied("a", "app") == 3
        assert _counts(tables) == {2: _ROWS}

    def test_a_version_knows_the_numbers_it_has_seen(
        self, tables: Tables, opener: Callable[[], Tables]
    ) -> None:
        """Of a pinned version, the numbers that were in by then, also after a compaction."""
        seen: list[tuple[int, int, int]] = []
        for number in range(1, 40):
            frame = _EVERY_TYPE if number % 3 else _EVERY_TYPE.clear()
            tables.append("a", frame, app="one" if number % 2 else "two", number=number)
            newest = tables.version("a")
            assert newest is not None
            seen.append((newest, tables.applied("a", "one"), tables.applied("a", "two")))
        tables.compact("a")
        with closing(opener()) as other:
            for reader in (tables, other):
                for version, one, two in [*seen, *seen[::-1]]:
                    assert reader.applied("a", "one", version=version) == one
                    assert reader.applied("a", "two", version=version) == two
                assert reader.applied("a", "none", version=0) == 0
        newest = tables.version("a")
        assert newest is not None
        assert tables.applied("a", "one", version=newest) == 39
        for unknown in (-1, newest + 1):
            with pytest.raises(NotFoundError, match=f"versions 0 to {newest}"):
                tables.applied("a", "one", version=unknown)
        with pytest.raises(NotFoundError, match="no table 'b'"):
            tables.applied("b", "one", version=0)

    def test_pinned_version_stays(self, tables: Tables) -> None:
        """Each version holds the appends up to it, for ever, also after compaction."""
        versions: list[int] = []
        for number in range(1, 5):
            tables.append("a", _rows(number), app="app", number=number)
            versions.append(tables.version("a") or 0)
        assert versions == sorted(set(versions))
        pinned = [tables.scan("a", version=version) for version in versions]
        tables.compact("a")
        tables.append("a", _rows(5), app="app", number=5)
        for number, (version, lazy) in enumerate(zip(versions, pinned, strict=True), start=1):
            expected = set(range(1, number + 1))
            assert set(lazy.collect()["n"]) == expected
            assert set(tables.scan("a", version=version).collect()["n"]) == expected
        for unknown in (-1, 99):
            with pytest.raises(NotFoundError, match="version"):
                tables.scan("a", version=unknown)

    def test_compaction_changes_no_row(self, tables: Tables) -> None:
        """Compaction is a new version with the same rows and numbers; a second one does nothing."""
        for number in range(1, 40):
            tables.append("a", _rows(number), app="app", number=number)
        before = tables.scan("a").collect().sort("n", "i")
        version = tables.version("a")
        tables.compact("a")
        assert (tables.version("a") or 0) > (version or 0)
        assert tables.scan("a").collect().sort("n", "i").equals(before)
        assert tables.applied("a", "app") == 39
        compacted = tables.version("a")
        tables.compact("a")
        assert tables.version("a") == compacted

    def test_scan_is_lazy(self, tables: Tables) -> None:
        """Columns come in the asked order, and filters are pushed down to the files."""
        for number in (1, 2):
            tables.append("a", _rows(number), app="app", number=number)
        narrow = tables.scan("a", columns=["text", "n"])
        assert narrow.collect_schema().names() == ["text", "n"]
        filtered = narrow.filter(pl.col("n") == 2)
        assert filtered.collect().height == _ROWS
        assert "SELECTION" in filtered.explain()
        assert tables.scan("a").select(pl.len()).collect().item() == 2 * _ROWS
        with pytest.raises(NotFoundError, match="Did you mean 'text'"):
            tables.scan("a", columns=["texd"])

    def test_other_columns_are_refused(self, tables: Tables) -> None:
        """Other columns or types are refused with all that differs, and nothing is written."""
        rows = _rows(1)
        tables.append("a", rows, app="app", number=1)
        version = tables.version("a")
        wrong = {
            "column 'text' is missing": rows.drop("text"),
            "column 'more' is not in the table": rows.with_columns(more=1),
            "column 'n' is String, expected Int64": rows.cast({"n": pl.String}),
            "column 'n' is Int32": rows.cast({"n": pl.Int32}),
            "column 'real' is Int64": rows.cast({"real": pl.Int64}),
        }
        for message, frame in wrong.items():
            with pytest.raises(InputError, match=message):
                tables.append("a", frame, app="app", number=2)
        both = rows.drop("text").with_columns(more=1)
        with pytest.raises(InputError, match=r"'text' is missing; .*'more' is not in the table"):
            tables.append("a", both, app="app", number=2)
        assert tables.version("a") == version
        assert tables.applied("a", "app") == 1

    def test_widened(self, tables: Tables, opener: Callable[[], Tables]) -> None:
        """New columns are null in the rows before; older versions stay without them."""
        wide = {"real": pl.Float64(), "reals": pl.List(pl.Float64()), "text": pl.String()}
        tables.widen("a", wide)
        assert tables.version("a") is None
        old = pl.DataFrame({"text": ["x", "y"]})
        with closing(opener()) as other:
            tables.append("a", old, app="app", number=1)
            before = other.version("a")
            tables.widen("a", wide)
            after = tables.version("a")
            other.widen("a", wide)
            assert other.version("a") == after
            new = pl.DataFrame({"text": ["z"], "real": [0.5], "reals": [[1.5]]})
            assert other.append("a", new, app="app", number=2)
            for reader in (tables, other):
                found = reader.scan("a").sort("text").collect()
                expected = pl.concat([old, new], how="diagonal").select(found.columns)
                assert found.equals(expected)
                assert reader.scan("a").filter(pl.col("real") == 0.5).collect().height == 1
                assert reader.scan("a", version=before).collect().sort("text").equals(old)
            tables.compact("a")
            assert other.scan("a").select(pl.col("real").sum()).collect().item() == 0.5

    def test_widened_while_written(self, tables: Tables, opener: Callable[[], Tables]) -> None:
        """A writer does not notice that another widens the table meanwhile."""
        with closing(opener()) as other, ThreadPoolExecutor(1) as pool:
            frame = pl.DataFrame({"text": ["x"]})
            tables.append("a", frame, app="app", number=1)
            names = [f"c{number}" for number in range(8)]
            widening = pool.submit(lambda: [other.widen("a", {name: pl.Int64()}) for name in names])
            written = 1
            while not widening.done() or written < 4:
                known = tables.scan("a").collect_schema()
                fitting = frame.with_columns(
                    pl.lit(None, dtype=pl.Int64).alias(name) for name in known if name != "text"
                )
                try:
                    tables.append("a", fitting, app="app", number=written + 1)
                except InputError:
                    continue  # it was widened after its columns were read
                written += 1
            widening.result()
            assert tables.scan("a").collect().height == written
            assert set(names) <= set(tables.scan("a").collect_schema())

    def test_order_and_nulls_do_not_matter(self, tables: Tables) -> None:
        """Columns are matched by name, and one of nothing but nulls takes the table's type."""
        tables.append("a", _rows(1), app="app", number=1)
        turned = _rows(2).select("text", "n", "i", pl.lit(None).alias("real"))
        tables.append("a", turned, app="app", number=2)
        second = tables.scan("a").filter(pl.col("n") == 2).collect()
        assert second.schema == _rows(1).schema
        assert second["real"].null_count() == _ROWS

    @pytest.mark.parametrize(
        "frame",
        [
            pl.DataFrame(),
            pl.DataFrame({"x": [None]}),
            pl.DataFrame({"x": [_NOON.replace(tzinfo=None)]}),
            pl.DataFrame({"x": [_NOON]}, schema={"x": pl.Datetime("ms", "UTC")}),
            pl.DataFrame({"x": [[_NOON]]}, schema={"x": pl.List(pl.Datetime("ns", "UTC"))}),
            pl.DataFrame({"x": [1]}, schema={"x": pl.UInt32}),
            pl.DataFrame({"x": ["a"]}, schema={"x": pl.Categorical}),
        ],
        ids=["no column", "null", "naive", "ms", "list of ns", "unsigned", "categorical"],
    )
    def test_types_that_would_change_are_refused(self, tables: Tables, frame: pl.DataFrame) -> None:
        """No table is made from a frame whose types would read back as others."""
        with pytest.raises(InputError, match="No table 'a' can be made"):
            tables.append("a", frame, app="app", number=1)
        assert tables.version("a") is None

    def test_names(self, tables: Tables, opener: Callable[[], Tables]) -> None:
        """Names are sorted and chosen by their beginning, whoever made the tables."""
        for name in ("scores/b", "raw/a-1.x", "raw/b", "top"):
            tables.append(name, _rows(1), app="app", number=1)
        with closing(opener()) as other:
            assert other.names() == ["raw/a-1.x", "raw/b", "scores/b", "top"]
            assert other.names("raw/") == ["raw/a-1.x", "raw/b"]

    @pytest.mark.parametrize("name", ["", "..", "../a", "a/../b", "/a", "a/", "a//b", "a b", ".a"])
    def test_wrong_names(self, tables: Tables, name: str) -> None:
        """A name that could lead out of the store is refused."""
        with pytest.raises(InputError, match="no name of a table"):
            tables.append(name, _rows(1), app="app", number=1)

    def test_numbers_count_from_one(self, tables: Tables) -> None:
        """Number 0 is refused: it could not be told from never."""
        with pytest.raises(InputError, match="count from 1"):
            tables.append("a", _rows(1), app="app", number=0)

    def test_threads_share_one_object(self, tables: Tables) -> None:
        """Writers of different names do not lose each other's rows."""
        with ThreadPoolExecutor(4) as pool:
            done = pool.map(
                lambda n: tables.append("a", _rows(n), app=f"app{n % 4}", number=n), range(1, 21)
            )
            written = {n for n, was in enumerate(done, start=1) if was}
        assert set(_counts(tables)) == written
        assert set(_counts(tables).values()) == {_ROWS}

    def test_race_for_a_number(self, tables: Tables, opener: Callable[[], Tables]) -> None:
        """Of several who write the same number at once exactly one is told that it did."""
        barrier = Barrier(3, timeout=10)

        def append(_: int) -> list[bool]:
            with closing(opener()) as other:
                written: list[bool] = []
                for number in range(1, 11):
                    barrier.wait()
                    written.append(other.append("a", _rows(number), app="app", number=number))
            return written

        with ThreadPoolExecutor(3) as pool:
            written = list(pool.map(append, range(3)))
        assert [sum(told) for told in zip(*written, strict=True)] == [1] * 10
        assert _counts(tables) == dict.fromkeys(range(1, 11), _ROWS)

    def test_race_to_create(self, tables: Tables, opener: Callable[[], Tables]) -> None:
        """Of several who write first, each gets its rows into the one table."""
        names = [f"created/{number}" for number in range(10)]
        barrier = Barrier(3, timeout=10)

        def append(writer: int) -> list[bool]:
            with closing(opener()) as other:
                written: list[bool] = []
                for name in names:
                    barrier.wait()
                    written.append(other.append(name, _rows(writer), app=f"{writer}", number=1))
            return written

        with ThreadPoolExecutor(3) as pool:
            assert list(pool.map(append, range(3))) == [[True] * len(names)] * 3
        for name in names:
            assert _counts(tables, name) == dict.fromkeys(range(3), _ROWS)

    def test_compactions_at_once(self, tables: Tables, opener: Callable[[], Tables]) -> None:
        """Several compactions and appends at once lose and double no row, in any version."""

        def append(start: int) -> None:
            for number in range(start, start + 12):
                tables.append("a", _rows(number), app=f"app{start}", number=number)

        def compact(_: int) -> None:
            with closing(opener()) as other:
                for _ in range(4):
                    other.compact("a")

        tables.append("a", _rows(1), app="app", number=1)
        with ThreadPoolExecutor(5) as pool:
            compactions = pool.map(compact, range(3))
            appends = pool.map(append, (100, 200))
            assert [*compactions, *appends] == [None] * 5
        for version in range((tables.version("a") or 0) + 1):
            assert set(_counts(tables, version=version).values()) <= {_ROWS}
        assert len(_counts(tables)) == 25

    def test_vacuum(self, tables: Tables, opener: Callable[[], Tables]) -> None:
        """The newest version and those to keep stay readable, all else is free to go."""
        with pytest.raises(NotFoundError, match="no table 'a'"):
            tables.vacuum("a", keep=[], older_than_h=0)
        versions = self._compacted_thrice(tables)
        before = _counts(tables)
        nothing = Vacuumed(files=0, size_bytes=0)
        assert tables.vacuum("a", keep=[], older_than_h=1) == nothing
        kept = {versions[0], versions[3]}
        told = tables.vacuum("a", keep=kept, older_than_h=0, dry_run=True)
        assert told.files > 0
        assert told.size_bytes > 0
        assert all(_counts(tables, version=version) for version in versions)
        with closing(opener()) as other:
            assert other.vacuum("a", keep=[*kept, 99, -1], older_than_h=0) == told
            for reader in (tables, other):
                assert _counts(reader) == before
                assert reader.applied("a", "app") == len(before)
                for version in kept:
                    numbers = set(_counts(reader, version=version))
                    assert numbers == set(range(1, versions.index(version) + 2))
                with pytest.raises(NotFoundError, match="vacuumed"):
                    reader.scan("a", version=versions[4])
            assert other.vacuum("a", keep=kept, older_than_h=0) == nothing
        tables.append("a", _rows(99), app="app", number=99)
        assert _counts(tables) == before | {99: _ROWS}

    @staticmethod
    def _compacted_thrice(tables: Tables) -> list[int]:
        """Append twelve times, with a compaction after each fourth; the versions appended."""
        versions: list[int] = []
        for number in range(1, 13):
            tables.append("a", _rows(number), app="app", number=number)
            versions.append(tables.version("a") or 0)
            if number % 4 == 0:
                tables.compact("a")
        return versions

    @pytest.mark.slow
    def test_kill_while_vacuumed(self, tables: Tables, opener: Callable[[], Tables]) -> None:
        """Killed while it compacts and vacuums: what is to be kept is, and it can be done again."""
        kept = self._compacted_thrice(tables)[5]
        for turns in (1, 2, 3):
            with child(_clear, opener, kept) as worker:
                worker.listen(turns)
                worker.kill()
            assert set(_counts(tables, version=kept)) == set(range(1, 7))
            counts = _counts(tables)
            assert sorted(counts) == list(range(1, len(counts) + 1))
            assert set(counts.values()) == {_ROWS}
        tables.vacuum("a", keep=[kept], older_than_h=0)
        assert tables.vacuum("a", keep=[kept], older_than_h=0).files == 0
        assert set(_counts(tables, version=kept)) == set(range(1, 7))

    @pytest.mark.slow
    def test_kill(self, tables: Tables, opener: Callable[[], Tables]) -> None:
        """Two write the same numbers and one is killed: every append is in once, and whole."""
        with child(_append, opener, 0) as first, child(_append, opener, 24) as second:
            first.listen(8)
            said = first.kill()
            said += second.end()
        counts = _counts(tables)
        assert set(counts.values()) == {_ROWS}
        assert sorted(counts) == list(range(1, 25))
        numbers = [n for n in said if n]
        assert len(numbers) == len(set(map(str, numbers)))
        assert tables.applied("a", "app") == 24
        assert not tables.append("a", _rows(24), app="app", number=24)


def _rows(number: int) -> pl.DataFrame:
    return pl.DataFrame(
        {
            "n": [number] * _ROWS,
            "i": list(range(_ROWS)),
            "real": [0.5] * _ROWS,
            "text": [f"{number}-{row}" for row in range(_ROWS)],
        }
    )


def _counts(tables: Tables, name: str = "a", *, version: int | None = None) -> dict[int, int]:
    """Rows of each number in a table."""
    counted = tables.scan(name, version=version).group_by("n").len().collect()
    return dict(counted.iter_rows())


def _clear(say: Connection, opener: Callable[[], Tables], kept: int) -> None:
    """Append, compact and vacuum again and again; says each turn before it is done."""
    tables = opener()
    for number in range(tables.applied("a", "app") + 1, 9999):
        say.send(number)
        tables.append("a", _rows(number), app="app", number=number)
        tables.compact("a")
        tables.vacuum("a", keep=[kept], older_than_h=0)


def _append(say: Connection, opener: Callable[[], Tables], last: int) -> None:
    """Append 1, 2, 3 ...; says each number that was written here, 0 for one that was in already."""
    tables = opener()
    for number in range(1, (last or 9999) + 1):
        frame = _rows(number)
        say.send(number if tables.append("a", frame, app="app", number=number) else 0)
