"""The commands of the feature catalogue, as a user calls them."""

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

symbol = ps.Entity("symbol")
candles = ps.Source(
    "candles",
    entity=symbol,
    timestamp="ts",
    schema={"symbol": ps.String, "ts": ps.Timestamp, "close": ps.Float64},
    batch=ps.Files("data/*.csv"),
)
momentum = ps.FeatureView(
    "momentum",
    source=candles,
    owner="ann",
    tags=["market"],
    derive={"twice": ps.col("close") * 2},
    features=[
        ps.last("close", unit="USD", description="Last price."),
        ps.mean("twice", over="6h", where=ps.col("close") > 1, name="m"),
        ps.count(owner="bob", tags=["volume"], deprecated="2099-01-01", instead="m"),
    ],
)
hourly = ps.Dataset("hourly", spine=candles, features=[momentum])
"""


@pytest.fixture
def home(tmp_path: Path, call: Call) -> Path:
    """A project folder that is applied, with a file that was not read yet."""
    folder = tmp_path / "shop"
    assert call("init", "--home", folder).code == 0
    write(folder, PROJECT)
    assert call("apply", "--home", folder).code == 0
    return folder


def write(folder: Path, text: str) -> None:
    (folder / "project.py").write_text(text)


def changed(folder: Path, call: Call, *, apply: bool = True) -> None:
    text = PROJECT.replace("> 1", "> 2").replace('unit="USD"', 'unit="EUR"')
    write(folder, text)
    if apply:
        assert call("apply", "--home", folder).code == 0


def test_a_plan_tells_of_deprecated_features_that_are_read(home: Path, call: Call) -> None:
    changed(home, call, apply=False)
    said = call("plan", "--home", home)
    assert "! momentum.count is deprecated: nothing new may use it from 2099-01-01" in said.out
    assert "features.m.where: close > 1 -> close > 2" in said.out
    (warning,) = call("plan", "--home", home, "--json").value["warnings"]
    assert warning.endswith("Use momentum.m instead. Read by dataset hourly.")


def test_from_the_day_on_a_new_dataset_is_refused(home: Path, call: Call) -> None:
    past = PROJECT.replace("2099-01-01", "2020-01-01")
    write(home, past)
    told = call("apply", "--home", home)
    assert "! momentum.count has been deprecated since 2020-01-01" in told.out
    daily = 'daily = ps.Dataset("daily", spine=candles, features=[momentum])\n'
    write(home, past + daily)
    said = call("apply", "--home", home)
    assert said.code == 1
    assert "dataset/daily would begin to read momentum.count" in said.err
    assert "use momentum.m instead" in said.err


def test_two_versions_are_compared_field_by_field(home: Path, call: Call) -> None:
    changed(home, call)
    said = call("features", "diff", "momentum", "--home", home)
    rows = [line.split() for line in said.out.splitlines()]
    assert ["features.m.where", "close", ">", "1", "close", ">", "2"] in rows
    assert ["features.last_close.unit", "USD", "EUR"] in rows
    assert "What it means has changed" in said.out
    told = call("features", "diff", "momentum", "--home", home, "--json").value
    assert (told["before"]["version"], told["after"]["version"], told["meaning"]) == (1, 2, True)
    assert len(told["fields"]) == 2


def test_a_first_version_differs_from_nothing(home: Path, call: Call) -> None:
    said = call("features", "diff", "momentum", "--home", home)
    assert "Version 1 is the first that is kept" in said.out


def test_versions_that_are_not_there_are_told(home: Path, call: Call) -> None:
    said = call("features", "diff", "momentun", "--home", home)
    assert "Did you mean 'momentum'?" in said.err
    assert "Kept: 1." in call("features", "diff", "momentum", "--to", 9, "--home", home).err
    assert call("features", "diff", "momentum", "--to", "-1", "--home", home).code == 2
