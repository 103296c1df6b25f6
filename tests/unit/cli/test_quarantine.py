"""``data quarantine``: the records that broke a rule, as a user asks for them."""

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

candles = ps.Source(
    "candles",
    entity=ps.Entity("symbol"),
    timestamp="ts",
    schema={"symbol": ps.String, "ts": ps.Timestamp, "close": ps.Float64},
    expect=[ps.positive("close")],
    batch=ps.Files("data/*.csv"),
)
"""
FIRST = ["A,2026-01-01T00:00:00Z,1", "A,2026-01-01T01:00:00Z,-1", "A,2026-01-01T02:00:00Z,[x]"]
SECOND = ["B,2026-01-01T00:00:00Z,-2"]


@pytest.fixture
def home(tmp_path: Path, call: Call) -> Path:
    """A project folder that is applied, with nothing read."""
    folder = tmp_path / "shop"
    assert call("init", "--home", folder).code == 0
    (folder / "project.py").write_text(PROJECT)
    (folder / "data").mkdir()
    assert call("apply", "--home", folder).code == 0
    return folder


def ingest(folder: Path, call: Call, name: str, rows: list[str]) -> str:
    path = folder / "data" / name
    path.write_text("\n".join(["symbol,ts,close", *rows]))
    said = call("ingest", "candles", "--file", path, "--home", folder)
    assert said.code == 0
    return said.out


def test_records_in_quarantine_are_shown_with_their_reasons(home: Path, call: Call) -> None:
    look = ("data", "quarantine", "candles", "--home", home)
    assert "No record of 'candles' is in quarantine." in call(*look).out
    assert "penstock data quarantine candles" in ingest(home, call, "a.csv", FIRST)
    ingest(home, call, "b.csv", SECOND)
    shown = call(*look)
    assert shown.code == 0, shown.err
    newest, *older = [line.split() for line in shown.out.splitlines() if "data/" in line]
    assert newest[:2] == ["data/b.csv", "1"]
    assert [line[:2] for line in older] == [["data/a.csv", "2"], ["data/a.csv", "3"]]
    assert '"close": "[x]"' in shown.out
    assert "dtype(close): 1, positive(close): 2" in shown.out
    told = call(*look, "--json").value
    assert [one["reasons"] for one in told] == [
        ["positive(close)"],
        ["positive(close)"],
        ["dtype(close)"],
    ]
    assert told[0]["record"] == '{"symbol": "B", "ts": "2026-01-01T00:00:00Z", "close": "-2"}'
    assert told[0]["origin"] == "file:data/b.csv"


def test_those_of_one_rule_or_batch_and_so_many(home: Path, call: Call) -> None:
    ingest(home, call, "a.csv", FIRST)
    ingest(home, call, "b.csv", SECOND)
    look = ("data", "quarantine", "candles", "--json", "--home", home)
    of_rule = call(*look, "--reason", "positive").value
    assert [one["row"] for one in of_rule] == [1, 2]
    (batch,) = {one["batch_id"] for one in of_rule if one["row"] == 2}
    assert len(call(*look, "--batch", batch).value) == 2
    assert len(call(*look, "--limit", 1).value) == 1
    more = call(*look[:3], "--limit", 1, "--home", home)
    assert "and 2 more; --limit shows them" in more.out
    assert "No record of 'candles' is in quarantine for 'unique'" in (
        call(*look[:3], "--reason", "unique", "--home", home).out
    )


def test_they_are_for_admins(home: Path, call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    ingest(home, call, "a.csv", FIRST)
    token = call("users", "add", "ana", "--role", "writer", "--json", "--home", home).value["token"]
    monkeypatch.setenv("PENSTOCK_TOKEN", token)
    refused = call("data", "quarantine", "candles", "--home", home)
    assert (refused.code, "admin" in refused.err) == (1, True)
    monkeypatch.delenv("PENSTOCK_TOKEN")
    wrong = call("data", "quarantine", "candls", "--home", home)
    assert "Did you mean 'candles'?" in wrong.err
