"""Sources that look into others, by the command line: from two files to lineage."""

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

merchants = ps.Source(
    "merchants",
    entity=ps.Entity("merchant"),
    timestamp="since",
    schema={"merchant": ps.String, "since": ps.Timestamp, "risk": ps.Float64},
    batch=ps.Files("merchants/*.csv"),
    tags=["internal"],
)
payments = ps.Source(
    "payments",
    entity=ps.Entity("user"),
    timestamp="ts",
    schema={"user": ps.String, "ts": ps.Timestamp, "merchant": ps.String, "amount": ps.Float64},
    batch=ps.Files("data/*.csv"),
    lookups=[ps.Lookup(merchants, on="merchant", columns={"risk": "risk"}, within="30d")],
)
habits = ps.FeatureView(
    "habits",
    source=payments,
    derive={"exposure": ps.col("amount") * ps.col("risk")},
    features=[ps.mean("risk"), ps.sum("exposure"), ps.count()],
)
"""
MERCHANTS = "merchant,since,risk\nm1,2026-01-01T00:00:00Z,0.25\nm2,2026-01-01T00:00:00Z,0.75\n"
PAYMENTS = """user,ts,merchant,amount
ann,2026-01-02T00:00:00Z,m1,10
ann,2026-01-03T00:00:00Z,m2,20
bob,2026-01-03T00:00:00Z,m9,30
"""


@pytest.fixture
def home(tmp_path: Path, call: Call) -> Path:
    folder = tmp_path / "shop"
    assert call("init", "--home", folder).code == 0
    (folder / "project.py").write_text(PROJECT)
    for name in ("merchants", "data"):
        (folder / name).mkdir()
    (folder / "merchants/one.csv").write_text(MERCHANTS)
    (folder / "data/one.csv").write_text(PAYMENTS)
    assert call("apply", "--home", folder).code == 0
    return folder


@pytest.mark.parametrize("named", [[], ["payments"]])
def test_what_is_looked_into_is_read_first(home: Path, call: Call, named: list[str]) -> None:
    said = call("ingest", *named, "--home", home)

    assert said.code == 0
    assert said.out.index("merchants") < said.out.index("payments")
    told = " ".join((said.out + said.err).split())
    assert "payments: 1 of 3 records found nothing in merchants by merchant" in told
    (ann,) = call("features", "get", "habits", "--keys", "ann", "--home", home, "--json").value
    assert (ann["habits.mean_risk"], ann["habits.sum_exposure"]) == (0.5, 17.5)


def test_who_found_nothing_is_counted_for_programs_too(home: Path, call: Call) -> None:
    done = call("ingest", "payments", "--home", home, "--json").value

    assert [one["source"] for one in done] == ["merchants", "payments"]
    assert [one["lookups"] for one in done] == [
        [],
        [{"source": "merchants", "on": "merchant", "missing": 1}],
    ]


def test_a_source_without_files_keeps_nobody(home: Path, call: Call) -> None:
    (home / "merchants/one.csv").unlink()

    assert call("ingest", "payments", "--home", home).code == 0


def test_what_cannot_be_read_stops_what_looks_into_it(home: Path, call: Call) -> None:
    (home / "merchants/one.csv").write_text("merchant,since\nm1,2026-01-01T00:00:00Z\n")

    said = call("ingest", "payments", "--home", home)

    assert said.code != 0
    assert "lacks 'risk'" in said.err
    assert call("ingest", "payments", "--home", home, "--json").code != 0


def test_plan_says_where_a_column_comes_from(home: Path, call: Call) -> None:
    (home / "project.py").write_text(PROJECT.replace(', within="30d"', ""))

    before = call("plan", "--home", home)
    call("ingest", "--home", home)
    after = call("plan", "--home", home)

    told = " ".join(before.out.split())
    assert "lookups.risk: risk of merchants by merchant, within 30d -> " in told
    assert after.code != 0
    assert "give the new column another name" in " ".join(after.err.split())


def test_features_say_where_their_columns_come_from(home: Path, call: Call) -> None:
    shown = call("features", "show", "habits.sum_exposure", "--home", home).out

    assert "exposure = amount * risk" in shown
    assert "risk = risk of merchants by merchant, within 30d" in shown
    assert "internal" in shown
    view = call("features", "show", "habits", "--home", home).out
    assert "risk = risk of merchants by merchant, within 30d" in view


def test_a_deletion_says_what_it_leaves(home: Path, call: Call) -> None:
    call("ingest", "--home", home)
    words = ("--reason", "asked to", "--yes", "--home", home)

    there = call("data", "delete", "merchants", "--key", "merchant=m1", *words)
    own = call("data", "delete", "payments", "--key", "user=ann", *words)

    told = " ".join((there.out + there.err).split())
    assert "What records of payments had looked up stays with them" in told
    assert "stays with them" not in own.out + own.err


def test_lineage_goes_through_a_lookup_both_ways(home: Path, call: Call) -> None:
    call("ingest", "--home", home)
    merchants, payments = (
        batch for one in call("ingest", "--home", home, "--json").value for batch in one["batches"]
    )

    up = call("lineage", payments, "--home", home).out
    down = call("lineage", merchants, "--home", home).out

    assert merchants in up
    assert payments in down
    assert "habits" in down


LOOKUP = 'ps.Lookup(merchants, on="merchant", columns={"risk": "risk"}, within="30d")'
RATED = (
    'rated = ps.FeatureView("rated", source=merchants, features=[ps.mean("risk", over="30d")])\n'
)
OF_A_VIEW = PROJECT.replace(
    LOOKUP, 'ps.Lookup(rated, on="merchant", columns={"risk": "mean_risk_30d"})'
).replace("payments = ps.Source(", RATED + "payments = ps.Source(")


def test_features_of_another_view_are_looked_up(home: Path, call: Call) -> None:
    (home / "project.py").write_text(OF_A_VIEW)
    assert call("apply", "--home", home).code == 0

    said = call("ingest", "payments", "--home", home)

    told = " ".join((said.out + said.err).split())
    assert "payments: 1 of 3 records found nothing in rated by merchant" in told
    (ann,) = call("features", "get", "habits", "--keys", "ann", "--home", home, "--json").value
    assert (ann["habits.mean_risk"], ann["habits.sum_exposure"]) == (0.5, 17.5)
    shown = call("features", "show", "habits.sum_exposure", "--home", home).out
    assert "risk = mean_risk_30d of rated by merchant" in shown
    assert "internal" in shown
    (used,) = call("features", "show", "rated.mean_risk_30d", "--home", home, "--json").value[
        "used_by"
    ]
    assert (used["kind"], used["name"]) == ("source", "payments")

    (home / "project.py").write_text(
        OF_A_VIEW.replace('over="30d"', 'over="20d", name="mean_risk_30d"')
    )
    plan = call("plan", "--home", home)
    assert plan.code != 0
    assert "lookups.risk changes from 'mean_risk_30d of rated by merchant" in " ".join(
        plan.err.split()
    )


def test_lineage_goes_through_a_view_that_was_looked_up(home: Path, call: Call) -> None:
    (home / "project.py").write_text(OF_A_VIEW)
    assert call("apply", "--home", home).code == 0
    merchants, payments = (
        batch for one in call("ingest", "--home", home, "--json").value for batch in one["batches"]
    )

    up = call("lineage", payments, "--home", home).out
    down = call("lineage", merchants, "--home", home).out

    assert merchants in up
    assert "features of=rated" in " ".join(up.split())
    assert "habits.mean_risk" in call("lineage", "rated", "--home", home).out
    assert payments in down
    assert "habits" in down
