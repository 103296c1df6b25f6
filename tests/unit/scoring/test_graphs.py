"""A graph on a deployment: the same doors as a model, with what each step gave."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import msgspec
import numpy as np
import pytest

import penstock as ps
from penstock.control import explain, lineage, replay
from penstock.datasets import build
from penstock.deployment import GraphEngine, deploy, load_engine, rollback
from penstock.errors import ConflictError, NotFoundError, NotReadyError, StateError
from penstock.plan import Catalogue
from penstock.registry import promote, read_manifest
from penstock.runtime import open_services
from penstock.scoring import (
    Ask,
    Fleet,
    Lane,
    ScoreLog,
    build_fleet,
    load_served,
    read_target,
    score_batch,
    score_frame,
    scores_in,
)
from penstock.scoring.payloads import Payload
from penstock.testing.graph_versions import declare_more, make_graph_version
from penstock.training import graph_job

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from penstock.records import ModelVersion, Score
    from penstock.runtime import LocalServices
    from penstock.spec import Graph, GraphStep, Model
    from penstock.testing.served_project import ServedProject


@pytest.fixture
def services(served: ServedProject) -> Iterator[LocalServices]:
    with open_services(served.home, actor="tester") as opened:
        promote(opened, "direction", 1)
        yield opened


def _graph(services: LocalServices, steps: Mapping[str, GraphStep]) -> Graph:
    dataset = Catalogue.load(services.metadata).dataset("hourly")
    graph = ps.Graph("blend", dataset=dataset, steps=steps)
    declare_more(services, ps.Deployment("blended", model=graph))
    return graph


def _blend(services: LocalServices) -> Graph:
    """The champion, and version 2 where few records were seen; their mean otherwise."""
    model = Catalogue.load(services.metadata).model("direction")
    return _graph(
        services,
        {
            "linear": ps.Predict(model),
            "boosted": ps.Predict(model, of="@2"),
            "mean": ps.Average(["linear", "boosted"], weights=[1, 3]),
            "answer": ps.Switch([(ps.col("momentum.count_1d") < 20, "linear")], otherwise="mean"),
        },
    )


def _deployed(services: LocalServices, run_id: str = "run-1") -> ModelVersion:
    version = make_graph_version(services, _blend(services), run_id=run_id)
    deploy(services, "blended", version=version.version)
    return version


async def _asked(services: LocalServices, *keys: str) -> list[Score]:
    fleet = build_fleet(services, Fleet(), read_target(services.metadata, Fleet().target))
    endpoint = fleet.endpoints["blended"]
    assert fleet.errors == {}
    try:
        now_us = services.clock.now_us()
        return [await endpoint.score(Ask(key=key, arrived_us=now_us)) for key in keys]
    finally:
        fleet.close()


def test_a_version_is_pinned_and_proved_as_a_whole(services: LocalServices) -> None:
    version = _deployed(services)
    assert version.label == "blend@1"
    assert version.params == {"linear": "direction@1", "boosted": "direction@2"}
    folder = services.artifacts.path(version.package)
    manifest = read_manifest(folder)
    assert manifest.native == "graph"
    assert manifest.engine is not None
    assert {trial.engine for trial in manifest.engine.tried} == {"native", "graph"}
    assert manifest.engine.batch_engine == ""
    engine = load_engine(folder, manifest)
    assert isinstance(engine, GraphEngine)
    assert (engine.name, engine.output, engine.apart) == (version.engine, "answer", False)
    x = np.full((3, 5), 50.0)
    run = engine.run(x)
    for step, number in (("linear", 1), ("boosted", 2)):
        alone = load_served(services, "direction", number).predict(x)
        np.testing.assert_allclose(run.values[step], alone, rtol=1e-12)


def test_a_step_before_a_model_stands_in_for_a_feature(services: LocalServices) -> None:
    model = Catalogue.load(services.metadata).model("direction")
    close = "momentum.last_close"
    steps: dict[str, GraphStep] = {
        "halved": ps.col(close) / 2,
        "answer": ps.Predict(model, inputs={close: "halved"}),
    }
    version = make_graph_version(services, _graph(services, steps), run_id="run-1")
    deploy(services, "blended", version=version.version)

    (score,) = asyncio.run(_asked(services, "BTC"))

    names = read_manifest(services.artifacts.path(version.package)).features
    row = dict(zip(names, score.features, strict=True))
    alone = load_served(services, "direction", 1)
    x = np.array([[row[name] for name in alone.features]], dtype=np.float64)
    untouched = float(alone.predict(x)[0])
    x[0, alone.features.index(close)] /= 2
    assert score.parts["halved"] == x[0, alone.features.index(close)]
    assert score.prediction == pytest.approx(float(alone.predict(x)[0]), rel=1e-12)
    assert score.prediction != pytest.approx(untouched, rel=1e-6)


def test_one_engine_answers_batches_of_every_size(
    services: LocalServices, monkeypatch: pytest.MonkeyPatch
) -> None:
    def times(_engines: object, _sample: object, rows: int) -> list[float]:
        return [9.0, 1.0] if rows == 1 else [1.0, 9.0]  # the models themselves, their engines

    monkeypatch.setattr("penstock.deployment.choose.time_engines", times)
    version = make_graph_version(services, _blend(services), run_id="run-1")
    choice = read_manifest(services.artifacts.path(version.package)).engine
    assert choice is not None
    assert (choice.engine, choice.batch_engine) == ("graph", "")


def test_a_version_answers_the_same_whatever_becomes_of_its_models(services: LocalServices) -> None:
    version = _deployed(services)
    x = np.random.default_rng(1).normal(size=(50, 5))
    folder = services.artifacts.path(version.package)
    before = load_engine(folder, read_manifest(folder)).predict(x)
    promote(services, "direction", 2)
    again = make_graph_version(services, _blend(services), run_id="run-2")
    assert again.params == {"linear": "direction@2", "boosted": "direction@2"}
    folder = services.artifacts.path(version.package)
    after = load_engine(folder, read_manifest(folder)).predict(x)
    assert after.tobytes() == before.tobytes()


def test_batch_and_online_agree_in_every_step(services: LocalServices) -> None:
    version = _deployed(services)
    score_batch(services, "blended")
    scores = scores_in(services.tables.scan("scores/blended").collect())
    served = load_served(services, "blend", version.version)
    assert served.graph is not None
    led = {tuple(score.parts) for score in scores}
    assert led == {("linear",), ("linear", "boosted", "mean")}
    for score in scores[::7]:
        alone = served.graph.run(np.array([score.features], dtype=np.float64))
        # A kernel for many rows may add up the leaves of trees in another order.
        assert float(alone.predictions[0]) == pytest.approx(score.prediction, rel=1e-12)
        assert alone.parts("answer")[0] == pytest.approx(score.parts, rel=1e-12)
    for score in scores:  # what the graph itself does with them is the same to the bit
        linear, boosted = score.parts["linear"], score.parts.get("boosted")
        if boosted is None:
            assert score.prediction == linear
            continue
        assert linear is not None
        assert score.prediction == (0.0 + 1.0 * linear + 3.0 * boosted) / 4.0


def test_an_online_score_holds_its_steps_and_is_replayed(services: LocalServices) -> None:
    _deployed(services)
    score, _ = asyncio.run(_asked(services, "BTC", "ETH"))
    assert (score.model, score.version, score.route) == ("blend", 1, "champion")
    linear = load_served(services, "direction", 1)
    x = np.array([score.features], dtype=np.float64)
    assert score.parts["linear"] == pytest.approx(float(linear.predict(x)[0]), abs=1e-12)
    (back,) = scores_in(score_frame([score]))
    assert back == score
    found = replay(services, score.prediction_id)
    assert found.same
    assert {part.name: part.again for part in found.parts} == score.parts
    assert all(part.same for part in found.parts)


def test_replay_says_which_step_differs(services: LocalServices) -> None:
    _deployed(services)
    (score,) = asyncio.run(_asked(services, "BTC"))
    other = services.ids.new()
    parts = {**score.parts, "linear": 0.123}
    wrong = msgspec.structs.replace(score, prediction_id=other, parts=parts)
    log = ScoreLog(services.score_log / "blended", services.ids)
    log.append([wrong])
    log.close()
    found = replay(services, other)
    assert not found.same
    assert [part.name for part in found.parts if not part.same] == ["linear"]


def test_lineage_leads_through_the_pinned_versions_and_back(services: LocalServices) -> None:
    _deployed(services)
    (score,) = asyncio.run(_asked(services, "BTC"))
    found = lineage(services, score.prediction_id)
    assert found.detail["parts"] == score.parts
    assert {link.id for link in found.find("version")} == {"blend@1", "direction@1", "direction@2"}
    assert "blend@1" in {link.id for link in lineage(services, "direction@2").find("version")}


def test_an_explanation_adds_up_over_the_whole_graph(services: LocalServices) -> None:
    _deployed(services)
    (score,) = asyncio.run(_asked(services, "BTC"))
    found = explain(services, score.prediction_id).explanation
    assert (found.method, found.space) == ("sampled", "probability")
    total = found.base + sum(one.contribution for one in found.contributions)
    assert total == pytest.approx(found.output)
    assert found.output == pytest.approx(score.prediction)


def test_going_back_brings_the_versions_it_was_pinned_to(services: LocalServices) -> None:
    _deployed(services)
    promote(services, "direction", 2)
    _deployed(services, "run-2")
    (second,) = asyncio.run(_asked(services, "BTC"))
    rollback(services, "blended")
    (first,) = asyncio.run(_asked(services, "BTC"))
    assert (second.version, first.version) == (2, 1)
    assert second.parts["linear"] != first.parts["linear"]


def test_withheld_features_withhold_the_steps(services: LocalServices) -> None:
    version = _deployed(services)
    (score,) = asyncio.run(_asked(services, "BTC"))
    manifest = read_manifest(services.artifacts.path(version.package))
    payload = Payload(ps.ScoreLog(payload="none"), (), b"k" * 32)
    payload.learn(manifest)
    assert payload.stored(score).parts == {}
    (stored,) = scores_in(payload.stored_frame(score_frame([score]), manifest))
    assert stored.parts == {}
    kept = Payload(ps.ScoreLog(), (), b"k" * 32)
    kept.learn(manifest)
    assert kept.stored(score).parts == score.parts
    assert scores_in(kept.stored_frame(score_frame([score]), manifest)) == [score]


def test_a_lane_counts_what_each_step_did(services: LocalServices) -> None:
    _deployed(services)
    lane_counts = asyncio.run(_steps_counted(services))
    assert set(lane_counts) >= {"linear"}
    rows, took_ns = lane_counts["linear"]
    assert rows == 3
    assert took_ns > 0


async def _steps_counted(services: LocalServices) -> dict[str, tuple[int, int]]:
    fleet = build_fleet(services, Fleet(), read_target(services.metadata, Fleet().target))
    endpoint = fleet.endpoints["blended"]
    lane: Lane = endpoint.lanes["champion"]
    now_us = services.clock.now_us()
    asks = [Ask(key=key, arrived_us=now_us) for key in ("BTC", "ETH", "ADA")]
    await asyncio.gather(*(endpoint.score(ask) for ask in asks))
    fleet.close()
    return lane.counts.steps


def test_a_version_that_is_not_there_or_does_not_fit_is_not_pinned(
    services: LocalServices,
) -> None:
    model = Catalogue.load(services.metadata).model("direction")
    snapshot = build(services, model.dataset)

    def pinned(of: str, model: Model = model) -> object:
        steps = {"a": ps.Predict(model, of=of)}
        return graph_job(services, ps.Graph("g", dataset=model.dataset, steps=steps), snapshot)

    with pytest.raises(NotFoundError, match="direction@9"):
        pinned("@9")
    with pytest.raises(NotReadyError, match="No version of 'direction' is challenger yet"):
        pinned("challenger")
    (view,) = model.dataset.base_views
    replace = msgspec.structs.replace
    moved = replace(view, derive={"ret": (ps.col("close") / ps.col("open")) - 2})
    changed = replace(model, dataset=replace(model.dataset, features=[moved]))
    with pytest.raises(ConflictError, match="learned from another definition of 'momentum'; run"):
        pinned("@1", changed)
    # A feature of the view that a step stands in for leaves the others of it to be read.
    stands_in = {"momentum.last_close": "momentum.count_1d"}
    step = ps.Predict(changed, of="@1", inputs=stands_in)
    mixed = ps.Graph("g", dataset=changed.dataset, steps={"a": step})
    with pytest.raises(ConflictError, match="learned from another definition of 'momentum'; run"):
        graph_job(services, mixed, snapshot)
    short = replace(snapshot, feature_names=snapshot.feature_names[1:])
    graph = ps.Graph("g", dataset=model.dataset, steps={"a": ps.Predict(model)})
    with pytest.raises(ConflictError, match=r"reads momentum\.last_close, which the dataset"):
        graph_job(services, graph, short)


def test_a_damaged_graph_is_not_loaded(services: LocalServices) -> None:
    version = _deployed(services)
    folder = services.artifacts.path(version.package)
    path = folder / "model.graph"
    path.chmod(0o644)
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(StateError, match="is damaged"):
        load_served(services, "blend", 1)
