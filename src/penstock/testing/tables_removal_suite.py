"""What every implementation of ``Tables`` must keep of removing rows; a part of ``TablesSuite``."""
# ruff: noqa: S101, PLR2004 - a suite asserts, and literal expectations are its point

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from typing import TYPE_CHECKING

import polars as pl
import pytest

from penstock.errors import NotFoundError

from .children import child

if TYPE_CHECKING:
    from collections.abc import Callable
    from multiprocessing.connection import Connection

    from penstock.ports import Tables

__all__ = ["TablesRemovalSuite"]


class TablesRemovalSuite:
    """Rows removed below a bound."""

    def test_removed(self, tables: Tables, opener: Callable[[], Tables]) -> None:
        """Rows below the bound are gone from the newest version, and once more removes nothing."""
        for number in range(1, 31):
            tables.append("a", _numbers(number), app="app", number=number)
        before = tables.version("a") or 0
        with closing(opener()) as other:
            assert other.remove("a", "at", below=1_203) == 11 * 9 + 3
            after = tables.version("a")
            assert other.remove("a", "at", below=1_203) == 0
            assert other.version("a") == after
            expected = pl.concat([_numbers(number) for number in range(1, 31)]).filter(
                pl.col("at").is_null() | (pl.col("at") >= 1_203)
            )
            for reader in (tables, other):
                found = reader.scan("a").collect()
                assert found.sort("row").equals(expected.sort("row"))
                assert found.schema == expected.schema
                assert reader.applied("a", "app") == 30
                assert reader.scan("a", version=before).collect().height == 300
            assert not other.append("a", _numbers(30), app="app", number=30)
            tables.compact("a")
            tables.vacuum("a", keep=[], older_than_h=0)
            assert other.scan("a").collect().sort("row").equals(expected.sort("row"))
            with pytest.raises(NotFoundError, match="vacuumed"):
                other.scan("a", version=before)
        assert tables.remove("a", "at", below=1 << 60) == 300 - 30 - 102
        assert tables.scan("a").collect()["at"].null_count() == 30
        assert tables.applied("a", "app") == 30

    def test_nothing_to_remove_from(self, tables: Tables) -> None:
        """What there is not is said."""
        with pytest.raises(NotFoundError, match="no table 'a'"):
            tables.remove("a", "at", below=1)
        tables.append("a", _numbers(1), app="app", number=1)
        with pytest.raises(NotFoundError, match="Did you mean 'at'"):
            tables.remove("a", "att", below=1)

    def test_removed_while_written(self, tables: Tables, opener: Callable[[], Tables]) -> None:
        """Appends and compactions meanwhile lose and double no row."""

        def append(start: int) -> None:
            for number in range(start, start + 12):
                tables.append("a", _numbers(number), app=f"app{start}", number=number)

        def remove(_: int) -> None:
            with closing(opener()) as other:
                for bound in range(1, 9):
                    other.remove("a", "at", below=bound * 100)
                    other.compact("a")

        for number in range(1, 10):
            tables.append("a", _numbers(number), app="app", number=number)
        with ThreadPoolExecutor(4) as pool:
            removals = pool.map(remove, range(2))
            appends = pool.map(append, (100, 200))
            assert [*removals, *appends] == [None] * 4
        found = tables.scan("a").collect()
        assert found["row"].n_unique() == found.height
        wanted = [*range(8, 10), *range(100, 112), *range(200, 212)]
        # Of those removed the rows with null are left.
        assert found.height == 10 * len(wanted) + 7

    @pytest.mark.slow
    def test_kill_while_removed(self, tables: Tables, opener: Callable[[], Tables]) -> None:
        """Killed while it removes: all rows below a bound are gone or none, and it can go on."""
        for number in range(1, 200):
            tables.append("a", _numbers(number), app="app", number=number)
        for turns in (2, 4, 6):
            with child(_remove, opener) as worker:
                worker.listen(turns)
                worker.kill()
            left = tables.scan("a").filter(pl.col("at").is_not_null()).collect()
            counted = left.group_by(pl.col("at") // 100).len()["len"]
            assert set(counted) == {9}
        tables.remove("a", "at", below=10_000)
        assert tables.scan("a").select(pl.col("at").min()).collect().item() == 10_000


def _numbers(number: int) -> pl.DataFrame:
    """Ten rows, at 100 times the number and later; the last is at no time."""
    at = [number * 100 + place for place in range(9)]
    rows = [number * 10 + place for place in range(10)]
    texts = [["a", None]] * 10
    return pl.DataFrame(
        {"at": [*at, None], "row": rows, "texts": texts}, schema_overrides={"at": pl.Int64}
    )


def _remove(say: Connection, opener: Callable[[], Tables]) -> None:
    """Remove up to one bound after the other; says each before."""
    tables = opener()
    first = tables.scan("a").select(pl.col("at").min()).collect().item() // 100
    for number in range(first + 1, 9999):
        say.send(number)
        tables.remove("a", "at", below=number * 100)
