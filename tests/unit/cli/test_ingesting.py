"""``ingest`` of several sources: one that fails holds up none but those that look into it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from .conftest import Said

    Call = Callable[..., Said]

PROJECT = """
import penstock as ps

shop = ps.Entity("shop")
columns = {"shop": ps.String, "ts": ps.Timestamp, "x": ps.Float64}
first, second = (
    ps.Source(name, entity=shop, timestamp="ts", schema=columns, batch=ps.Files(f"data/{name}.csv"))
    for name in ("first", "second")
)
third = ps.Source(
    "third", entity=shop, timestamp="ts", schema=columns, batch=ps.Files("data/third.csv"),
    lookups=[ps.Lookup(first, on="shop", columns={"first_x": "x"})],
)
"""
ROW = "shop,ts,x\nA,2026-01-01T00:00:00Z,1\n"


@pytest.fixture
def home(tmp_path: Path, call: Call) -> Path:
    """A project folder that is applied; every source has a file but the first."""
    folder = tmp_path / "shop"
    assert call("init", "--home", folder).code == 0
    (folder / "project.py").write_text(PROJECT)
    (folder / "data").mkdir()
    for name in ("second", "third"):
        (folder / "data" / f"{name}.csv").write_text(ROW)
    assert call("apply", "--home", folder).code == 0
    return folder


def test_a_source_that_fails_holds_up_none_but_those_that_look_into_it(
    home: Path, call: Call
) -> None:
    said = call("ingest", "--home", home)
    assert said.code == 1
    taken = [line.split()[:4] for line in said.out.splitlines()[1:]]
    assert taken == [["second", "1", "1", "1"]]
    assert "No file matches 'data/first.csv'" in said.err
    assert "'third' was left out, since it looks into 'first'" in said.err
    (home / "data" / "first.csv").write_text(ROW)
    again = call("ingest", "--json", "--home", home)
    assert again.code == 0, again.err
    assert [(one["source"], one["stored"]) for one in again.value] == [
        ("first", 1),
        ("second", 0),
        ("third", 1),
    ]


def test_all_that_failed_are_told(home: Path, call: Call) -> None:
    (home / "data" / "second.csv").write_text("shop,ts\n")
    said = call("ingest", "--home", home)
    assert (said.code, said.out) == (1, "")
    assert "No file matches 'data/first.csv'" in said.err
    assert "The file 'data/second.csv' has no records" in said.err
    alone = call("ingest", "second", "--home", home)
    assert alone.err.startswith("error run_failed  Run ingest-")
