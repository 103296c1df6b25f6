"""A graph is judged by rows that none of its models learned from."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
import polars as pl
import pytest

import penstock as ps
from penstock.algebra import compute_metrics
from penstock.datasets import build, get_snapshot, load
from penstock.evaluation import evaluate
from penstock.evaluation.unseen import learned_by, unseen
from penstock.plan import Catalogue
from penstock.ports import Delete
from penstock.registry import get_version, promote
from penstock.runtime import open_services
from penstock.testing.graph_versions import declare_more, make_graph_version
from penstock.training import TrainedCandidate, train_candidates

if TYPE_CHECKING:
    from collections.abc import Iterator

    from penstock.records import DatasetSnapshot as Snapshot
    from penstock.runtime import LocalServices
    from penstock.spec import GraphStep, Split
    from penstock.testing.served_project import ServedProject

KEYS = ["symbol", "at"]


@pytest.fixture
def services(served: ServedProject) -> Iterator[LocalServices]:
    with open_services(served.home, actor="tester") as opened:
        promote(opened, "direction", 1)
        yield opened


def _graph(services: LocalServices, split: Split | None = None) -> ps.Graph:
    model = Catalogue.load(services.metadata).model("direction")
    dataset = model.dataset
    if split is not None:
        dataset = msgspec.structs.replace(dataset, name="otherwise", split=split)
    steps: dict[str, GraphStep] = {
        "mean": ps.Average(["best", "boosted"]),
        "boosted": ps.Predict(model, of="@2"),
        "best": ps.Predict(model),
    }
    graph = ps.Graph("blend", dataset=dataset, steps=steps)
    declare_more(services, graph)
    return graph


def _learned(services: LocalServices) -> pl.DataFrame:
    """The rows that both versions of the model learned from."""
    snapshot = get_snapshot(
        services.metadata, get_version(services.metadata, "direction", 1).dataset_id
    )
    return load(services, snapshot, "train").select(KEYS)


def _predicted(services: LocalServices, snapshot: Snapshot, **params: str) -> TrainedCandidate:
    rows = load(services, snapshot).filter(pl.col("part").is_in(["validation", "test"]))
    folder = services.scratch / "predicted"
    folder.mkdir(parents=True, exist_ok=True)
    rows.select(*KEYS, "part", label="up", prediction=pl.lit(0.5)).write_parquet(folder / "p")
    return TrainedCandidate(
        candidate="graph", estimator="e", params=params,
        predictions=services.artifacts.put(folder / "p"),
    )  # fmt: skip


def test_rows_that_a_model_learned_from_are_left_out_and_counted(services: LocalServices) -> None:
    graph = _graph(services, ps.RandomSplit(seed=3))
    snapshot = build(services, graph.dataset)
    made = _predicted(services, snapshot, best="direction@1", boosted="direction@2")

    found = learned_by(services, graph, snapshot, [made])
    (judged,) = unseen(services, [made], found)

    rows = load(services, snapshot).filter(pl.col("part").is_in(["validation", "test"]))
    same = rows.join(_learned(services), on=KEYS, how="semi")
    assert 0 < same.height < rows.height
    assert found is not None
    assert set(found.rows.rows()) == set(same.select(KEYS).rows())
    counts = [same.filter(pl.col("part") == part).height for part in ("validation", "test")]
    told = [word for word in found.warnings if "learned from" in word]
    assert [word.split(" rows of")[0] for word in told] == [
        f"{label} learned from {count:,} of the {snapshot.parts[part]:,} {part}"
        for label in ("direction@1", "direction@2")
        for part, count in zip(("validation", "test"), counts, strict=True)
    ]
    left = pl.read_parquet(services.artifacts.path(judged.predictions))
    assert set(left.select(KEYS).rows()) == set(rows.select(KEYS).rows()) - set(found.rows.rows())


def test_one_split_leaves_all_rows_and_no_words(services: LocalServices) -> None:
    graph = _graph(services)
    snapshot = build(services, graph.dataset)
    made = _predicted(services, snapshot, best="direction@1", boosted="direction@2")

    found = learned_by(services, graph, snapshot, [made])

    assert found is not None
    assert (found.rows.height, found.warnings) == (0, ())
    assert unseen(services, [made], found) == [made]
    model = Catalogue.load(services.metadata).model("direction")
    assert learned_by(services, model, snapshot, [made]) is None


def test_graphs_within_are_looked_through(services: LocalServices) -> None:
    inner = _graph(services)
    make_graph_version(services, inner, run_id="run-1")
    promote(services, "blend", 1)
    graph = msgspec.structs.replace(_graph(services, ps.RandomSplit(seed=3)), name="outer")
    snapshot = build(services, graph.dataset)
    made = _predicted(services, snapshot, one="blend@1")

    found = learned_by(services, graph, snapshot, [made])

    assert found is not None
    assert {word.partition(" learned")[0] for word in found.warnings if "learned" in word} == {
        "direction@1", "direction@2",
    }  # fmt: skip


def test_what_is_not_known_is_said(services: LocalServices) -> None:
    graph = _graph(services, ps.RandomSplit(seed=3))
    snapshot = build(services, graph.dataset)
    made = _predicted(services, snapshot, best="direction@1")
    learned = get_version(services.metadata, "direction", 1).dataset_id
    services.metadata.write(Delete(get_snapshot(services.metadata, learned)))

    found = learned_by(services, graph, snapshot, [made])

    assert found is not None
    (warning,) = found.warnings
    assert warning.startswith("it is not known which rows direction@1 learned from")


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_metrics_of_a_graph_and_of_its_champion_are_of_such_rows(services: LocalServices) -> None:
    graph = _graph(services, ps.RandomSplit(seed=3))
    make_graph_version(services, graph, run_id="run-1")
    promote(services, "blend", 1)
    snapshot = build(services, graph.dataset)

    made = train_candidates(services, graph, snapshot, "run-2")
    found = evaluate(services, graph, snapshot, made, "run-2")

    predicted = pl.read_parquet(services.artifacts.path(made[0].predictions))
    left = predicted.join(_learned(services), on=KEYS, how="anti").filter(pl.col("part") == "test")
    naive = compute_metrics(
        "classification", left["label"].to_numpy(), left["prediction"].to_numpy()
    )
    assert found.best.test_metrics == pytest.approx(naive)
    (rival,) = found.rivals
    assert rival.metrics == pytest.approx(naive)  # the same pins, measured on the same rows
    assert any("learned from" in word for word in found.warnings)
