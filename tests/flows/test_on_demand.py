"""A model of two entities and of what the request brings: trained, asked, replayed, explained."""

from __future__ import annotations

import csv
import os
import shutil
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import httpx
import numpy as np
import pytest

from penstock.testing.ports import free_port

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from .conftest import Said

pytestmark = pytest.mark.slow

PROJECT = """
import penstock as ps

user, shop = ps.Entity("user"), ps.Entity("shop", dtype=ps.Int64)
orders = ps.Source(
    "orders", entity=user, timestamp="ts", batch=ps.Files("orders*.csv"),
    schema={"user": ps.String, "shop": ps.Int64, "ts": ps.Timestamp, "amount": ps.Float64,
            "card": ps.String, "fraud": ps.Boolean})
sales = ps.Source(
    "sales", entity=shop, timestamp="ts", batch=ps.Files("sales*.csv"),
    schema={"shop": ps.Int64, "ts": ps.Timestamp, "amount": ps.Float64})
habits = ps.FeatureView("habits", source=orders, features=[ps.mean("amount"), ps.count(over="1d")])
trade = ps.FeatureView("trade", source=sales, features=[ps.mean("amount", over="7d")])
ratios = ps.OnDemandView(
    "ratios", views=[habits, trade], request={"amount": ps.Float64, "card": ps.String},
    features={"usual": ps.col("amount") / ps.col("habits.mean_amount"),
              "local": ps.col("amount") / ps.col("trade.mean_amount_7d"),
              "debit": ps.col("card").eq("debit")})
fraud = ps.Dataset("fraud", spine=orders, features=[ratios, habits],
                   label=ps.Label("fraud", ps.col("fraud").eq(True)))
model = ps.Model("fraud", dataset=fraud, gates=[ps.at_least("roc_auc", 0.6)],
                 candidates=[ps.sklearn("sklearn.linear_model:LogisticRegression")])
endpoint = ps.Deployment("fraud", model=model)
"""
ROWS = 1_500
ASKED = {"entity": {"user": "u1", "shop": 2}, "request": {"amount": 80.0, "card": "debit"}}


def write_data(folder: Path, seed: int, start: datetime) -> None:
    """Orders and sales; a high amount is more often a fraud."""
    rng = np.random.default_rng(seed)
    amounts = rng.lognormal(3, 0.7, ROWS)
    frauds = rng.random(ROWS) < np.clip(amounts / 120, 0, 0.9)
    with (
        (folder / f"orders{seed}.csv").open("w") as orders,
        (folder / f"sales{seed}.csv").open("w") as sales,
    ):
        own, all_sales = csv.writer(orders), csv.writer(sales)
        own.writerow(["user", "shop", "ts", "amount", "card", "fraud"])
        all_sales.writerow(["shop", "ts", "amount"])
        for number in range(ROWS):
            ts = (start + timedelta(minutes=17 * number)).isoformat()
            who, where = f"u{rng.integers(5)}", int(rng.integers(1, 4))
            card = "debit" if rng.random() < 0.5 else "credit"
            amount = round(float(amounts[number]), 2)
            own.writerow([who, where, ts, amount, card, str(bool(frauds[number])).lower()])
            all_sales.writerow([where, ts, amount])


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the first test that trains leaves its project for the others."""
    return tmp_path_factory.mktemp("trained") / "shop"


@pytest.fixture
def home(tmp_path: Path, template: Path, call: Callable[..., Said]) -> Path:
    """A project of one's own whose model is trained; that is done once."""
    folder = tmp_path / "shop"
    if template.exists():
        shutil.copytree(template, folder)
        return folder
    assert call("init", "--home", folder).code == 0
    (folder / "project.py").write_text(PROJECT)
    write_data(folder, 1, datetime(2026, 1, 1, tzinfo=UTC))
    assert call("apply", "--home", folder).code == 0
    for source in ("orders", "sales"):
        assert call("ingest", source, "--home", folder).code == 0
    assert call("features", "build", "--home", folder).code == 0
    trained = call("train", "fraud", "--home", folder, "--json")
    assert trained.code == 0, trained
    shutil.copytree(folder, template)
    return folder


@pytest.fixture
def http(home: Path) -> Iterator[httpx.Client]:
    port = free_port()
    command = [sys.executable, "-m", "penstock.cli", "serve", "--home", str(home)]
    environment = {k: v for k, v in os.environ.items() if not k.startswith("PENSTOCK_")}
    process = subprocess.Popen([*command, "--port", str(port)], env=environment)
    token = (home / ".penstock" / "token").read_text().strip()
    headers = {"Authorization": f"Bearer {token}"}
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", headers=headers) as client:
            for _ in range(600):
                try:
                    if client.get("/v2/health/ready").is_success:
                        break
                except httpx.TransportError:
                    time.sleep(0.05)
            yield client
    finally:
        process.kill()
        process.wait()


def replayed(call: Callable[..., Said], home: Path, prediction_id: str) -> Any:  # noqa: ANN401 - JSON
    again = call("replay", prediction_id, "--home", home, "--json").value
    assert again["same"], again
    assert len(again["features"]) == 5
    return again


def test_it_answers_without_a_serving_process(
    home: Path, call: Callable[..., Said], refused: Callable[..., str]
) -> None:
    words = ("predict", "fraud", "--home", home)
    keys = ("--key", "user=u1", "--key", "shop=2")
    fields = ("--request", "amount=80", "--request", "card=debit")
    told = call(*words, *keys, *fields, "--json").value
    replayed(call, home, told["prediction_id"])
    origin = call("lineage", told["prediction_id"], "--home", home).out
    assert "orders1.csv" in origin
    assert "sales1.csv" in origin
    assert "ratios" in origin
    assert "--key shop=... is missing" in refused(*words, "--key", "user=u1", *fields, code=2)
    assert "Did you mean 'amount'" in refused(*words, *keys, "--request", "amuont=1", code=2)
    assert "no value of it" in refused(
        *words, *keys, "--request", "amount=much", "--request", "card=x", code=2
    )
    # More data: the batch run sees each order's own fields, and every score replays.
    write_data(home, 2, datetime(2026, 2, 1, tzinfo=UTC))
    for source in ("orders", "sales"):
        assert call("ingest", source, "--home", home).code == 0
    assert call("features", "build", "--home", home).code == 0
    scored = call("score", "fraud", "--home", home, "--json").value
    assert scored["rows"] == 2 * ROWS
    # Another version is compared with the champion on the same rows.
    assert call("train", "fraud", "--home", home).code == 0


def test_it_answers_over_http(home: Path, http: httpx.Client, call: Callable[..., Said]) -> None:
    url = "/v1/deployments/fraud/predict"
    answer = http.post(f"{url}?features=true", json=ASKED)
    assert answer.status_code == 200, answer.text
    told = answer.json()
    assert told["features"]["ratios.debit"] == 1.0
    assert told["features"]["ratios.usual"] > 1
    again = replayed(call, home, told["prediction_id"])
    assert {one["name"]: one["logged"] for one in again["features"]} == told["features"]
    # The protocol's tensors say the same.
    tensors = [
        {"name": "user", "datatype": "BYTES", "shape": [2], "data": ["u1", "u2"]},
        {"name": "shop", "datatype": "INT64", "shape": [2], "data": [2, 2]},
        {"name": "amount", "datatype": "FP64", "shape": [2], "data": [80.0, 5.0]},
        {"name": "card", "datatype": "BYTES", "shape": [2], "data": ["debit", "debit"]},
    ]
    at = {"at": told["as_of"]}
    inferred = http.post("/v2/models/fraud/infer", json={"inputs": tensors})
    assert inferred.status_code == 200, inferred.text
    (prediction, _) = inferred.json()["outputs"]
    one = http.post(url, json=ASKED | at).json()
    assert prediction["data"][0] == pytest.approx(one["probability"]["true"], rel=1e-9)
    rows = http.post(url, json={"rows": [ASKED, ASKED]})
    assert len(rows.json()["predictions"]) == 2
    cli = call("predict", "fraud", "--home", home, "--json", "--key", "user=u1", "--key", "shop=2",
               "--request", "amount=80", "--request", "card=debit")  # fmt: skip
    assert cli.value["probability"]["true"] == pytest.approx(one["probability"]["true"])
    checked = call("features", "check", "--served", "fraud", "--home", home)
    assert checked.code == 0, checked
    assert "ratios.usual" in checked.out


WRONG = {
    "no request": ({"entity": ASKED["entity"]}, "lacks 'request'. Send it with amount, card"),
    "a key missing": (
        {"entity": {"user": "u1"}, "request": ASKED["request"]}, "'entity' lacks 'shop'"),
    "an unknown field": (
        ASKED | {"request": {"amuont": 1.0, "card": "x"}},
        "'request' has 'amuont'. Did you mean 'amount'?",
    ),
    "a field of another type": (
        ASKED | {"request": {"amount": "much", "card": "x"}}, "amount"),
    "nothing": ({}, '{"entity": {"user": ..., "shop": ...}}'),
}  # fmt: skip


def test_what_a_request_lacks_is_said(http: httpx.Client) -> None:
    for body, words in WRONG.values():
        answer = http.post("/v1/deployments/fraud/predict", json=body)
        assert answer.status_code == 422, answer.text
        assert words in answer.json()["error"]["message"]
    inputs = [{"name": "user", "datatype": "BYTES", "shape": [1], "data": ["u1"]}]
    lacking = http.post("/v2/models/fraud/infer", json={"inputs": inputs})
    assert "'shop', 'amount', 'card'" in lacking.json()["error"]
    described = http.get("/openapi.json").json()["components"]["schemas"]["fraud.row"]
    assert set(described["properties"]["request"]["properties"]) == {"amount", "card"}
