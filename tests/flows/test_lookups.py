"""A model whose features come through a lookup: trained, asked, scored, replayed, checked.

The spine is joined to another view by a column that was looked up, and another column is a feature.
"""

from __future__ import annotations

import csv
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import numpy as np
import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from .conftest import Said

    Call = Callable[..., Said]

pytestmark = pytest.mark.slow

PROJECT = """
import penstock as ps

merchants = ps.Source(
    "merchants", entity=ps.Entity("merchant"), timestamp="since",
    schema={"merchant": ps.String, "since": ps.Timestamp, "category": ps.String,
            "risk": ps.Float64}, batch=ps.Files("merchants*.csv"))
fees = ps.Source(
    "fees", entity=ps.Entity("category"), timestamp="since",
    schema={"category": ps.String, "since": ps.Timestamp, "fee": ps.Float64},
    batch=ps.Files("fees.csv"))
rated = ps.FeatureView("rated", source=merchants, features=[ps.mean("risk", over="60d")])
payments = ps.Source(
    "payments", entity=ps.Entity("user"), timestamp="ts",
    schema={"user": ps.String, "ts": ps.Timestamp, "merchant": ps.String, "amount": ps.Float64,
            "fraud": ps.Boolean}, batch=ps.Files("payments*.csv"),
    lookups=[ps.Lookup(merchants, on="merchant",
                       columns={"category": "category", "risk": "risk"}),
             ps.Lookup(rated, on="merchant", columns={"usual": "mean_risk_60d"})])
habits = ps.FeatureView(
    "habits", source=payments, derive={"exposure": ps.col("amount") * ps.col("risk")},
    features=[ps.last("risk"), ps.mean("risk", over="7d"), ps.sum("exposure", over="7d"),
              ps.count(over="7d", where=ps.col("category").eq("games"), name="games"),
              ps.mean("usual", over="7d")])
tariff = ps.FeatureView("tariff", source=fees, features=[ps.last("fee")])
fraud = ps.Dataset("fraud", spine=payments, features=[habits, tariff],
                   label=ps.Label("fraud", ps.col("fraud").eq(True)))
model = ps.Model("fraud", dataset=fraud, gates=[ps.at_least("roc_auc", 0.6)],
                 candidates=[ps.sklearn("sklearn.linear_model:LogisticRegression")])
endpoint = ps.Deployment("fraud", model=model)
"""
RISK = (
    ', "risk": "risk"',
    'derive={"exposure": ps.col("amount") * ps.col("risk")},\n    ',
    """ps.last("risk"), ps.mean("risk", over="7d"), ps.sum("exposure", over="7d"),
              """,
)
"""What a project has for the looked-up risk."""

CATEGORIES = ("food", "games", "travel")
START = datetime(2026, 1, 1, tzinfo=UTC)


def write(path: Path, header: str, rows: Sequence[Sequence[object]]) -> None:
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([header.split(","), *rows])


@pytest.fixture
def home(tmp_path: Path, call: Call) -> Path:
    """A project with a model whose frauds follow the risk of the merchant."""
    folder = tmp_path / "shop"
    assert call("init", "--home", folder).code == 0
    (folder / "project.py").write_text(PROJECT)
    rng = np.random.default_rng(5)
    risks = rng.random((20, 3))
    write(
        folder / "merchants.csv",
        "merchant,since,category,risk",
        [
            (f"m{m}", START + timedelta(days=20 * n - 1), CATEGORIES[(m + n) % 3], risks[m, n])
            for m in range(20)
            for n in range(3)
        ],
    )
    write(
        folder / "fees.csv",
        "category,since,fee",
        [(name, START - timedelta(days=2), n / 10) for n, name in enumerate(CATEGORIES)],
    )
    rows = []
    for number in range(900):
        at, m = START + timedelta(hours=number), int(rng.integers(0, 22))
        known = risks[m, min(number // 24 // 20 + (number % 480 >= 456), 2)] if m < 20 else 0.5
        fraud = rng.random() < known**2
        rows.append((f"u{number % 7}", at, f"m{m}", 5 + number % 90, str(bool(fraud)).lower()))
    write(folder / "payments.csv", "user,ts,merchant,amount,fraud", rows)
    assert call("apply", "--home", folder).code == 0
    done = call("ingest", "--home", folder, "--json").value
    assert [one["source"] for one in done] == ["merchants", "fees", "payments"]
    assert done[2]["stored"] == 900
    assert 0 < done[2]["lookups"][0]["missing"] < 200  # the two merchants that nobody knows
    return folder


def test_a_model_learns_and_answers_from_what_was_looked_up(home: Path, call: Call) -> None:
    trained = call("train", "fraud", "--home", home)
    assert trained.code == 0, trained.out + trained.err

    keys = ("--key", "user=u1", "--key", "category=games")
    answer = call("predict", "fraud", *keys, "--home", home, "--json").value
    replayed = call("replay", answer["prediction_id"], "--home", home)
    assert replayed.code == 0
    assert "The same again" in replayed.out + replayed.err

    assert call("score", "fraud", "--home", home).code == 0
    # A correction of the other source changes nothing that was found before.
    write(
        home / "merchants-2.csv",
        "merchant,since,category,risk",
        [(f"m{m}", START, "food", 0.0) for m in range(20)],
    )
    assert call("ingest", "merchants", "--home", home).code == 0
    assert call("replay", answer["prediction_id"], "--home", home).code == 0
    assert call("features", "check", "--home", home).code == 0
    assert call("features", "check", "fraud", "--served", "--home", home).code == 0

    status = call("status", "--home", home, "--json").value
    counted = {one["source"]: one["found_nothing"] for one in status["sources"]}
    assert counted["merchants"] == "0"
    assert counted["payments"] != "0"


def test_a_live_version_keeps_its_lookup(home: Path, call: Call) -> None:
    assert call("train", "fraud", "--home", home).code == 0
    text = PROJECT
    for gone in RISK:
        assert gone in text
        text = text.replace(gone, "")
    (home / "project.py").write_text(text)

    said = call("plan", "--home", home)

    assert said.code != 0
    told = " ".join(said.err.split())
    assert "lookups.risk is declared no more, but fraud@1 reads habits." in told
