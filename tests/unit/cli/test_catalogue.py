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


MORE = """
edge = ps.OnDemandView(
    "edge", views=[momentum], request={"bid": ps.Float64},
    features={"gap": ps.col("bid") - ps.col("momentum.last_close"),
              "far": ps.feature(ps.col("gap") > 1, description="Whether the bid is far.",
                                tags=["quoting"], unit="yes/no", owner="dan"),
              "twice": ps.feature(ps.col("momentum.last_close") * 2, unit="EUR",
                                 deprecated="2099-01-01")},
)
quotes = ps.FeatureService("quotes", features=[edge], owner="carl")
"""


def rows_of(said: Said) -> list[list[str]]:
    return [line.split() for line in said.out.splitlines()]


def test_the_catalogue_is_listed_and_filtered(home: Path, call: Call) -> None:
    write(home, PROJECT + MORE)
    assert call("apply", "--home", home).code == 0
    rows = rows_of(call("features", "list", "--home", home))
    last = ["momentum.last_close", "float64", "USD", "ann", "market", "no", "records", "3"]
    assert last in rows
    assert ["quotes", "3", "carl", "0"] in rows
    far = ["edge.far", "float64", "yes/no", "dan", "quoting", "on", "demand", "1"]
    assert far in rows
    told = call("features", "list", "--tag", "volume", "--home", home, "--json").value
    assert [one["name"] for one in told["features"]] == ["momentum.count"]
    assert told["services"] == []
    old = call("features", "list", "--deprecated", "--home", home)
    assert "2099-01-01, use momentum.m" in old.out
    assert "2 of 6 features" in old.out
    none = call("features", "list", "--unused", "--view", "momentum", "--home", home)
    assert "There is none." in none.out
    wrong = call("features", "list", "--owner", "bobb", "--home", home)
    assert (wrong.code, "Did you mean 'bob'?" in wrong.err) == (1, True)


def test_the_catalogue_is_searched(home: Path, call: Call) -> None:
    write(home, PROJECT + MORE)
    assert call("apply", "--home", home).code == 0
    assert "momentum.last_close" in call("features", "search", "pirce", "--home", home).out
    told = call("features", "search", "carl", "quotes", "--home", home, "--json").value
    assert [one["entry"]["name"] for one in told] == ["quotes"]
    assert told[0]["places"] == {"carl": "owner", "quotes": "name"}
    nothing = call("features", "search", "zebra", "--home", home)
    assert (nothing.code, "Nothing is said of 'zebra'" in nothing.out) == (0, True)
    assert call("features", "search", "?", "--home", home).code == 2


def test_a_feature_on_demand_is_shown_with_what_is_said_of_it(home: Path, call: Call) -> None:
    write(home, PROJECT + MORE)
    assert call("apply", "--home", home).code == 0
    write(home, PROJECT + MORE.replace('unit="yes/no"', 'deprecated="2099-01-01", instead="gap"'))
    told = call("apply", "--home", home)
    assert "! edge.far is deprecated: nothing new may use it from 2099-01-01 on." in told.out
    rows = rows_of(call("features", "show", "edge.far", "--home", home))
    assert ["description", "Whether", "the", "bid", "is", "far."] in rows
    assert ["owner", "dan"] in rows
    assert ["deprecated", "from", "2099-01-01", "on,", "use", "edge.gap"] in rows
    said = call("features", "diff", "edge", "--home", home)
    rows = rows_of(said)
    assert ["features.far.unit", "yes/no", "-"] in rows
    assert ["features.far.deprecated", "-", "2099-01-01"] in rows
    assert "Only what is said of it has changed" in said.out
    (far,) = call("features", "search", "bid", "is", "far", "--home", home, "--json").value[:1]
    assert far["entry"]["name"] == "edge.far"


def test_a_feature_is_shown_with_its_history_and_users(home: Path, call: Call) -> None:
    changed(home, call)
    said = call("features", "show", "momentum.m", "--home", home)
    assert said.err == ""
    rows = rows_of(said)
    assert ["where", "twice", "=", "close", "*", "2"] in rows
    assert ["dataset", "hourly", "1", "column"] in rows
    assert "features.m.where: close > 1 -> close > 2" in said.out
    assert "source candles" in said.out
    told = call("features", "show", "momentum", "--home", home, "--json").value
    assert [one["version"] for one in told["versions"]] == [2, 1]
    assert [one["name"] for one in told["used_by"]] == ["hourly"]
    said = call("features", "show", "momentum.n", "--home", home)
    assert (said.code, "There is no feature 'momentum.n'" in said.err) == (1, True)


def data(folder: Path) -> None:
    (folder / "data").mkdir()
    rows = [f"A,2026-01-0{day}T{hour:02}:00:00Z,{day}" for day in (1, 2, 3) for hour in range(24)]
    (folder / "data" / "a.csv").write_text("\n".join(["symbol,ts,close", *rows]))


def test_a_view_is_profiled_day_by_day(home: Path, call: Call) -> None:
    none = call("features", "profile", "momentum", "--home", home)
    assert (none.code, "has no records yet" in none.err) == (1, True)
    assert "not profiled yet" in call("features", "show", "momentum", "--home", home).out
    data(home)
    assert call("ingest", "candles", "--home", home).code == 0
    said = call("features", "profile", "momentum", "--home", home)
    assert "2026-01-03: 24 points" in said.out
    assert "3 days up to batch 1: 3 computed, 0 again, 0 kept." in said.out
    last = next(row for row in rows_of(said) if row[:1] == ["momentum.last_close"])
    assert last[1:9] == ["0.0%", "3", "0", "3", "3", "3", "3", "3"]
    assert last[-2:] == ["▁▅█", "▁▁▁"]
    again = call("features", "profile", "momentum.m", "--days", 2, "--home", home)
    assert "0 computed, 0 again, 3 kept" in again.out
    rows = [row for row in rows_of(again) if row[:1] == ["2026-01-02"]]
    assert rows == [["2026-01-02", "24", "0.0%", "4", "0", "4", "4", "4", "4", "4"]]
    told = call("features", "profile", "momentum", "--home", home, "--json").value
    assert len(told["profiles"]) == 9
    assert told["profiles"][0]["spread"]["rows"] == 24
    assert "2026-01-03: 24 points" in call("features", "show", "momentum", "--home", home).out
    assert call("features", "profile", "momentum", "--days", 0, "--home", home).code == 2
    page = home / "page.html"
    told = call("features", "profile", "momentum", "--report", page, "--home", home)
    assert f"Report: {page}" in told.out.replace("\n", "")
    assert "Features of momentum" in page.read_text(encoding="utf-8")
    nowhere = home / "none" / "page.html"
    wrong = call("features", "profile", "momentum", "--report", nowhere, "--home", home)
    assert (wrong.code, "Name a file in a folder that is there" in wrong.err) == (2, True)


def test_a_profile_says_that_all_records_were_deleted(home: Path, call: Call) -> None:
    data(home)
    assert call("ingest", "candles", "--home", home).code == 0
    assert call("features", "profile", "momentum", "--home", home).code == 0
    gone = call("data", "delete", "candles", "--key", "symbol=A", "--yes", "--home", home)
    assert gone.code == 0
    said = call("features", "profile", "momentum", "--home", home)
    assert (said.code, "All records of the source 'candles' have been deleted" in said.err) == (
        1,
        True,
    )


def test_what_is_computed_on_demand_is_profiled_where_it_can_be(home: Path, call: Call) -> None:
    write(home, PROJECT + MORE)
    assert call("apply", "--home", home).code == 0
    shown = " ".join(call("features", "show", "edge", "--home", home).out.split())
    said = "edge.gap, edge.far: no profile, since it is computed from fields of the request"
    assert said in shown
    assert "not profiled yet: penstock features profile edge" in shown
    told = call("features", "profile", "edge.gap", "--home", home)
    assert (told.code, "'edge.gap' has no profile: it is computed from" in told.err) == (1, True)
    data(home)
    assert call("ingest", "candles", "--home", home).code == 0
    page = home / "page.html"
    done = call("features", "profile", "edge", "--report", page, "--home", home)
    assert "3 days up to batch 1: 3 computed, 0 again, 0 kept." in done.out
    twice = next(row for row in rows_of(done) if row[:1] == ["edge.twice"])
    assert twice[1:5] == ["0.0%", "6", "0", "6"]
    text = page.read_text()
    assert "momentum.last_close * 2 · EUR · deprecated from 2099-01-01 on" in text
    shown = call("features", "show", "edge.twice", "--home", home).out
    assert "2026-01-03" in shown
    assert "no profile" not in shown
