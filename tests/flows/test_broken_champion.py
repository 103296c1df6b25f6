"""A serving process whose champion cannot be loaded: what can answer without it does."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
import pytest

import penstock as ps
from penstock.deployment import deploy, load_engine
from penstock.plan import Catalogue, apply
from penstock.records import Score
from penstock.registry import MANIFEST_FILE, get_version, read_manifest
from penstock.runtime import open_services
from penstock.testing.serving import serving

if TYPE_CHECKING:
    from collections.abc import Generator, Mapping
    from pathlib import Path

    import httpx

    from penstock.spec import Route
    from penstock.testing.served_project import ServedProject

MODEL = "direction"
PREDICT = "/v1/deployments/btc/predict"
READY = "/v2/models/btc/ready"
BTC = {"entity": {"symbol": "BTC"}}
ENGINE = "trees.npz"
WHY = "direction@2 cannot be loaded"
FAILED = 'penstock_load_failed{deployment="btc",role="champion"'


@pytest.fixture(params=["all", "need"], autouse=True)
def load_mode(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PENSTOCK_SERVE_LOAD", request.param)


def _deployed(project: ServedProject, fallback: ps.Fallback | None, *routes: Route) -> Path:
    """Declare ``btc`` alone, with the second version as its champion and the first before it.

    Returns:
        The champion's package.
    """
    with open_services(project.home, actor="tester") as services:
        declared = Catalogue.load(services.metadata).deployment("btc")
        made = msgspec.structs.replace(
            declared, fallback=fallback, routes=(ps.champion(), *routes), log=None
        )
        only = ps.Project("served", declarations=[made])
        apply(services.metadata, only, actor="tester", now=services.clock.now())
        for version in (1, 2):
            deploy(services, "btc", version=version, wait_s=0)
        record = get_version(services.metadata, MODEL, 2)
        return services.artifacts.path(record.package)


@contextmanager
def _damaged(folder: Path, pattern: str) -> Generator[None]:
    """Cut the files of a package in half, until the block ends."""
    kept = {file: file.read_bytes() for file in folder.glob(pattern)}
    assert kept
    try:
        for file, content in kept.items():
            file.chmod(0o644)
            file.write_bytes(content[: len(content) // 2])
        yield
    finally:
        for file, content in kept.items():
            file.write_bytes(content)


def _logged(project: ServedProject, prediction_id: str) -> Score:
    with open_services(project.home, actor="tester") as services:
        files = list((services.score_log / "btc").glob("*.jsonl"))
    decode = msgspec.json.Decoder(Score).decode_lines
    scores = [score for file in files for score in decode(file.read_bytes())]
    return next(score for score in scores if score.prediction_id == prediction_id)


def _predicted(project: ServedProject, version: int, row: Mapping[str, float]) -> float:
    """What a version says of a row, from its package alone."""
    with open_services(project.home, actor="tester") as services:
        folder = services.artifacts.path(get_version(services.metadata, MODEL, version).package)
    manifest = read_manifest(folder)
    values = np.array([[row[name] for name in manifest.features]], dtype=np.float64)
    return float(load_engine(folder, manifest).predict(values)[0])


def _told(http: httpx.Client, start: str) -> list[float]:
    lines = http.get("/metrics").text.splitlines()
    return [float(line.rpartition(" ")[2]) for line in lines if line.startswith(start)]


def _fallbacks(http: httpx.Client, to: str) -> float:
    start = f'penstock_fallbacks_total{{deployment="btc",to="{to}",cause="load_failed"'
    return sum(_told(http, start))


def _answered(http: httpx.Client, body: object = BTC) -> Any:  # noqa: ANN401 - JSON
    reply = http.post(PREDICT, json=body)
    assert reply.status_code == 200, reply.text
    return reply.json()


def test_a_constant_answers_and_the_champion_is_told_to_be_broken(served: ServedProject) -> None:
    package = _deployed(served, ps.Fallback(deadline="2s", to="constant", value=0.25))
    with _damaged(package, ENGINE), serving(served) as http:
        told = _answered(http)
        assert (told["probability"]["true"], told["version"], told["route"]) == (
            0.25,
            0,
            "fallback",
        )
        assert told["reason"] == WHY
        score = _logged(served, told["prediction_id"])
        assert (score.reason, score.entity, score.prediction) == (WHY, "BTC", 0.25)
        row = {"features": dict.fromkeys(served.features, 1)}
        several = _answered(http, {"rows": [BTC, row]})["predictions"]
        assert [one["reason"] for one in several] == [WHY, WHY]
        tensor = {"name": "symbol", "shape": [1], "datatype": "BYTES", "data": ["BTC"]}
        inferred = http.post("/v2/models/btc/infer", json={"inputs": [tensor]})
        assert inferred.status_code == 200, inferred.text
        assert 0.25 in inferred.json()["outputs"][0]["data"]
        assert _fallbacks(http, "constant") == 4
        assert _told(http, FAILED) == [1]
        ready = http.get(READY)
        assert ready.status_code == 503
        assert str(package) in ready.text
        assert http.get("/v2/health/ready").status_code == 200
        seen = http.post(f"{PREDICT}?features=true", json=BTC).json()
        assert (seen["reason"], seen["features"]) == (WHY, {})
        named = http.post("/v2/models/btc/versions/2/infer", json={"inputs": [tensor]})
        assert (named.status_code, str(package) in named.text) == (503, True)
        assert http.post(PREDICT, json={"entity": {"symbol": 1}}).status_code == 422


def test_it_is_the_champion_again_once_it_can_be_loaded(served: ServedProject) -> None:
    package = _deployed(served, ps.Fallback(deadline="2s", to="constant", value=0.25))
    damage = _damaged(package, ENGINE)
    with damage, serving(served) as http:
        assert _answered(http)["route"] == "fallback"
        damage.__exit__(None, None, None)
        load = http.post("/v2/repository/models/btc/load", json={})
        assert load.status_code == 200, load.text
        told = _answered(http)
        assert (told["version"], told["route"]) == (2, "champion")
        assert _fallbacks(http, "constant") == 1  # what was counted goes on
        assert not _told(http, FAILED)
        assert http.get(READY).status_code == 200


@pytest.mark.parametrize("pattern", [ENGINE, MANIFEST_FILE])
def test_the_version_before_answers_whether_the_manifest_can_be_read_or_not(
    served: ServedProject, pattern: str
) -> None:
    package = _deployed(served, ps.Fallback(deadline="5s", to=["cached", "previous"]))
    with _damaged(package, pattern), serving(served) as http:
        told = _answered(http)
        assert (told["version"], told["route"], told["reason"]) == (1, "fallback", WHY)
        row = dict(zip(served.features, range(len(served.features)), strict=True))
        by_name = _answered(http, {"features": row})
        assert by_name["probability"]["true"] == pytest.approx(_predicted(served, 1, row), abs=1e-9)
        assert by_name["version"] == 1
        assert _fallbacks(http, "previous") == 2
        seen = http.post(f"{PREDICT}?features=true", json=BTC).json()
        assert (seen["version"], list(seen["features"])) == (1, list(served.features))
        tensor = {"name": "symbol", "shape": [1], "datatype": "BYTES", "data": ["BTC"]}
        named = "/v2/models/btc/versions/1"
        inferred = http.post(f"{named}/infer", json={"inputs": [tensor]})
        assert inferred.json()["outputs"][0]["data"] == [told["probability"]["true"]]
        assert http.get(f"{named}/ready").status_code == 200
        assert http.get("/v2/models/btc/versions/2/ready").status_code == 503


def test_a_challenger_answers_those_that_are_its_own(served: ServedProject) -> None:
    beta = ps.by_header("x-group", "beta", version=1)
    package = _deployed(served, ps.Fallback(deadline="5s", to="constant", value=0.25), beta)
    with _damaged(package, ENGINE), serving(served) as http:
        assert _answered(http)["reason"] == WHY
        reply = http.post(PREDICT, json=BTC, headers={"x-group": "beta"})
        assert (reply.json()["version"], reply.status_code) == (1, 200), reply.text
        assert "cannot be loaded" not in reply.json()["reason"]


def test_where_nothing_falls_back_it_is_refused_with_the_reason(served: ServedProject) -> None:
    package = _deployed(served, None)
    with _damaged(package, ENGINE), serving(served) as http:
        reply = http.post(PREDICT, json=BTC)
        assert reply.status_code == 503
        assert reply.json()["error"]["kind"] == "not_ready"
        assert str(package) in reply.text
