"""A graph with real processes: trained, served, scored, replayed and rolled back."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

import psutil
import pytest

import penstock as ps
from penstock.deployment import deploy
from penstock.http.serve_schema import moment
from penstock.plan import Catalogue
from penstock.registry import promote
from penstock.runtime import open_services
from penstock.scoring import scores_in
from penstock.testing.graph_versions import declare_more, make_graph_version
from penstock.testing.served_project import SYMBOLS
from penstock.testing.serving import serving

if TYPE_CHECKING:
    from collections.abc import Callable

    import httpx

    from penstock.records import Score
    from penstock.runtime import LocalServices
    from penstock.spec import Graph
    from penstock.testing.served_project import ServedProject

    from .conftest import Said

pytestmark = pytest.mark.slow

FUNCTIONS = """
import numpy as np


def sharpen(p, close):
    if (close > 1e6).any():
        raise ValueError("nothing costs so much")
    return np.clip(0.5 + 1.2 * (p - 0.5), 0.0, 1.0)
"""
SAME = 1e-14
"""A model's engine may add up in another order for one row than for many: its last digit."""
PREDICT = "/v1/deployments/blended/predict?features=true"
EXPLAINED = "/v1/deployments/blended/predict?explain=true"


@pytest.fixture
def functions(served: ServedProject, monkeypatch: pytest.MonkeyPatch) -> Any:  # noqa: ANN401 - a module
    (served.home / "graph_functions.py").write_text(FUNCTIONS, encoding="utf-8")
    monkeypatch.syspath_prepend(str(served.home))
    return importlib.import_module("graph_functions")


def _declared(services: LocalServices, functions: Any) -> Graph:  # noqa: ANN401 - a module
    model = Catalogue.load(services.metadata).model("direction")
    graph = ps.Graph(
        "blend",
        dataset=model.dataset,
        steps={
            "champion": ps.Predict(model),
            "boosted": ps.Predict(model, of="@2"),
            "mean": ps.Average(["champion", "boosted"], weights=[1, 2]),
            "sharp": ps.function(functions.sharpen, "mean", "momentum.last_close"),
            "answer": ps.Switch([(ps.col("momentum.count_1d") < 3, "boosted")], otherwise="sharp"),
            "why": ps.Explain("boosted", top=2),
        },
    )
    fallback = ps.Fallback(deadline="1s", to="constant", value=0.5)
    declare_more(services, ps.Deployment("blended", model=graph, fallback=fallback))
    return graph


def _libraries(kind: str) -> set[str]:
    """Paths of what a process of that kind has loaded, which this one has started."""
    for child in psutil.Process().children():
        if kind in child.cmdline():
            return {mapped.path for mapped in child.memory_maps()}
    raise AssertionError(f"no process of kind {kind} runs")


def _answer(http: httpx.Client, body: object) -> dict[str, Any]:
    found: dict[str, Any] = http.post(PREDICT, json=body).raise_for_status().json()
    return found


def test_a_graph_is_served_replayed_and_rolled_back(
    served: ServedProject,
    functions: Any,  # noqa: ANN401 - a module
    call: Callable[..., Said],
) -> None:
    with open_services(served.home, actor="tester") as services:
        promote(services, "direction", 1)
        first = make_graph_version(services, _declared(services, functions), run_id="run-1")
        deploy(services, "blended", version=first.version)
        promote(services, "direction", 2)
    trained = call("train", "blend", "--home", served.home, "--json", "--promote").value
    (second,) = trained["versions"]
    assert first.params == {"champion": "direction@1", "boosted": "direction@2"}
    assert second["params"] == {"champion": "direction@2", "boosted": "direction@2"}
    assert trained["aliases"]["champion"] == 2

    row = dict.fromkeys(served.features, 0.01) | {"momentum.count_1d": 20}
    with serving(served) as http:
        by_key = _answer(http, {"entity": {"symbol": "BTC"}})
        few = _answer(http, {"features": {**row, "momentum.count_1d": 2}})
        many = _answer(http, {"features": row})
        dear = _answer(http, {"features": {**row, "momentum.last_close": 2e6}})
        cheap = {**row, "momentum.count_1d": 2, "momentum.last_close": 2e6}
        beside = _answer(http, {"features": cheap})  # no step that fails is computed for it
        metrics = http.get("/metrics").text
        about = http.get("/v2/models/blended").json()
        schema = http.get("/openapi.json").json()["components"]["schemas"]
        back = call("rollback", "blended", "--home", served.home, "--json").value
        before = _answer(http, {"features": row})
    assert by_key["version"] == 2
    assert set(few["parts"]) == {"boosted"}
    assert few["probability"]["true"] == few["parts"]["boosted"]
    assert list(many["parts"]) == ["champion", "boosted", "mean", "sharp"]
    assert many["parts"]["champion"] == many["parts"]["boosted"]  # of one version
    sharp = min(max(0.5 + 1.2 * (many["parts"]["mean"] - 0.5), 0.0), 1.0)
    assert many["probability"]["true"] == sharp
    assert (dear["route"], dear["probability"]["true"]) == ("fallback", 0.5)
    assert dear["reason"].startswith("Step 'sharp': The function 'graph_functions.sharpen' failed")
    assert beside["route"] == "champion"
    assert 'step="sharp"' in metrics
    assert about["platform"] == "penstock_graph"
    assert "parts" in schema["blended.answer"]["properties"]
    assert (back["version"], before["version"]) == (1, 1)
    assert before["parts"]["champion"] != before["parts"]["boosted"]

    for answer in (by_key, many, before):
        again = call("replay", answer["prediction_id"], "--home", served.home, "--json").value
        assert again["same"], again
        assert {part["name"]: part["logged"] for part in again["parts"]} == answer["parts"]
    origin = call("lineage", before["prediction_id"], "--home", served.home).out
    assert "blend@1" in origin
    assert "direction@1" in origin
    shown = call("explain", many["prediction_id"], "--home", served.home, "--json").value
    assert shown["explanation"]["method"] == "sampled"


def test_what_a_graph_explains_stands_beside_its_answers(
    served: ServedProject,
    functions: Any,  # noqa: ANN401 - a module
) -> None:
    with open_services(served.home, actor="tester") as services:
        promote(services, "direction", 2)
        graph = _declared(services, functions)
        deploy(services, "blended", version=make_graph_version(services, graph, run_id="r").version)
    row = dict.fromkeys(served.features, 0.01) | {"momentum.count_1d": 20}

    with serving(served) as http:
        plain = _answer(http, {"features": row})
        before = _libraries("serve")
        found = http.post(EXPLAINED, json={"features": row}).raise_for_status().json()
        more = _libraries("serve") - before
        dear = http.post(EXPLAINED, json={"features": {**row, "momentum.last_close": 2e6}}).json()
        schema = http.get("/openapi.json").json()["components"]["schemas"]["blended.answer"]

    assert list(schema["properties"]["explanations"]["properties"]) == ["why"]
    assert found["probability"] == plain["probability"]
    why = found["explanations"]["why"]
    assert (why["of"], why["method"], len(why["contributions"])) == ("boosted", "trees", 2)
    assert why["prediction"] == pytest.approx(plain["parts"]["boosted"], abs=1e-6)
    assert (dear["route"], dear["explanations"]) == ("fallback", {})  # a constant answered
    assert before
    others = {one for one in more if ".so" in one and "numpy" not in one}
    assert not others, "arrays and NumPy are enough"


def _named(served: ServedProject, score: Score) -> dict[str, float | None]:
    """The features of a score as a request says them: what counts as a whole number."""
    named = dict(zip(served.features, score.features, strict=True))
    counts = {name: value for name, value in named.items() if value is not None and "count" in name}
    return named | {name: int(value) for name, value in counts.items()}


def test_a_batch_run_gives_what_is_answered_online(
    served: ServedProject,
    functions: Any,  # noqa: ANN401 - a module
    call: Callable[..., Said],
) -> None:
    with open_services(served.home, actor="tester") as services:
        promote(services, "direction", 1)
        graph = _declared(services, functions)
        deploy(services, "blended", version=make_graph_version(services, graph, run_id="r").version)
    assert call("score", "blended", "--home", served.home).code == 0
    with open_services(served.home, actor="tester") as services:
        table = services.tables.scan("scores/blended").collect()
    batch = scores_in(table)
    assert len(batch) > 500
    with serving(served) as http:
        handed_in: list[dict[str, Any]] = []
        for start in range(0, len(batch), 500):
            part = batch[start : start + 500]
            rows = [{"features": _named(served, one)} for one in part]
            handed_in += _answer(http, {"rows": rows})["predictions"]
        newest = {one.entity: one for one in sorted(batch, key=lambda one: one.at_us)}
        looked_up = [
            (one, _answer(http, {"entity": {"symbol": name}, "at": moment(one.at_us).isoformat()}))
            for name, one in newest.items()
        ]
    assert {tuple(one.parts) for one in batch} == {
        ("champion", "boosted", "mean", "sharp"), ("boosted",),
    }  # fmt: skip
    for one, answer in zip(batch, handed_in, strict=True):
        assert answer["route"] == "champion"
        assert answer["parts"] == pytest.approx(one.parts, rel=SAME)
        assert answer["probability"]["true"] == pytest.approx(one.prediction, rel=SAME)
        if answer["parts"] == one.parts:  # what the graph makes of its models is the same bits
            assert answer["probability"]["true"] == one.prediction
    assert set(newest) == set(SYMBOLS)
    for one, answer in looked_up:
        assert answer["probability"]["true"] == pytest.approx(one.prediction, rel=1e-9)
