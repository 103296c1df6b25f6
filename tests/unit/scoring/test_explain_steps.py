"""Steps of a graph are explained by the Shapley values of what they give, from arrays alone."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING, cast

import numpy as np
import pytest

import penstock as ps
from penstock.control import replay
from penstock.deployment import GraphEngine, deploy, load_engine, sample_rows
from penstock.errors import InputError
from penstock.plan import Catalogue
from penstock.registry import explainers_in, promote, read_manifest
from penstock.runtime import open_services
from penstock.scoring import exact_explainer, score_batch, scores_in, steps_in_worker
from penstock.scoring.explain import array_of, drawn_rows
from penstock.scoring.explain_steps import explain_steps
from penstock.testing.graph_versions import declare_more, make_graph_version

from .test_explain import shapley

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from numpy.typing import NDArray

    from penstock.algebra import GraphProgram
    from penstock.records import Manifest
    from penstock.runtime import LocalServices
    from penstock.scoring import Explanation
    from penstock.testing.served_project import ServedProject

    Floats = NDArray[np.float64]

EXACT, CLOSE = {"why-linear": "linear", "why-boosted": "trees"}, "momentum.last_close"


class World:
    """A package of a graph that explains a linear model, trees with a step before, and a mean."""

    def __init__(self, services: LocalServices) -> None:
        model = Catalogue.load(services.metadata).model("direction")
        graph = ps.Graph(
            "blend",
            dataset=model.dataset,
            steps={
                "linear": ps.Predict(model),
                "lower": (ps.col(CLOSE) * 0.5).coalesce(7.0),
                "boosted": ps.Predict(model, of="@2", inputs={CLOSE: "lower"}),
                "mean": ps.Average(["linear", "boosted"], weights=[1, 3]),
                "answer": ps.Switch(
                    [(ps.col("momentum.count_1d") < 20, "linear")], otherwise="mean"
                ),
                "why-linear": ps.Explain("linear"),
                "why-boosted": ps.Explain("boosted", top=2),
                "why-mean": ps.Explain("mean"),
            },
        )
        declare_more(services, ps.Deployment("blended", model=graph))
        self.version = make_graph_version(services, graph, run_id="run-1")
        self.folder: Path = services.artifacts.path(self.version.package)
        self.manifest: Manifest = read_manifest(self.folder)
        engine = load_engine(self.folder, self.manifest)
        self.program: GraphProgram = cast("GraphEngine", engine).program
        self.rows, _ = sample_rows(self.folder, self.manifest)

    def row(self, place: int) -> list[float | None]:
        return [None if value != value else value for value in self.rows[place].tolist()]  # noqa: PLR0124 - NaN

    def wanted(self, of: str, place: int, background_rows: int, *, in_log_odds: bool) -> Floats:
        """The naive oracle's contributions to what a step gives."""

        def value(x: Floats) -> Floats:
            found = self.program.value(of, np.ascontiguousarray(x))
            return np.log(found / (1 - found)) if in_log_odds else found

        (x,) = self.program.inputs(of, self.rows[[place]])
        background = drawn_rows(self.rows)[:background_rows]
        return shapley(value, x, self.program.inputs(of, background))


@pytest.fixture(scope="module")
def services(
    served_template: ServedProject, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[LocalServices]:
    home = tmp_path_factory.mktemp("explained") / "home"
    shutil.copytree(served_template.home, home)
    with open_services(home, actor="tester") as opened:
        promote(opened, "direction", 1)
        yield opened


@pytest.fixture(scope="module")
def world(services: LocalServices) -> World:
    return World(services)


def _added(found: Explanation) -> list[float]:
    return [one.contribution for one in found.contributions]


@pytest.mark.parametrize("step", EXACT)
@pytest.mark.parametrize("place", [0, 11, -1])
def test_a_model_is_explained_exactly_by_what_it_reads(world: World, step: str, place: int) -> None:
    of = step.removeprefix("why-")
    exact = exact_explainer(world.folder, world.manifest, world.program, step)
    assert exact is not None

    found = exact.explain(world.row(place))

    assert (found.method, found.space) == (EXACT[step], "log_odds")
    assert found.background_rows == 100
    wanted = world.wanted(of, place, 100, in_log_odds=True)
    np.testing.assert_allclose(_added(found), wanted, rtol=1e-6, atol=1e-7)
    assert found.base + sum(_added(found)) == pytest.approx(found.output, abs=1e-9)
    (given,) = world.program.inputs(of, array_of([world.row(place)]))
    assert found.prediction == pytest.approx(world.program.value(of, given[None, :])[0], abs=1e-6)
    assert [one.feature for one in found.contributions] == list(world.manifest.features)
    values = np.array([one.value for one in found.contributions], dtype=np.float64)
    np.testing.assert_array_equal(values, given)  # what stands in for a feature, where one does
    if of == "boosted":
        at = world.manifest.features.index(CLOSE)
        close = world.rows[place][at]
        assert values[at] == (close * 0.5 if close == close else 7.0)  # noqa: PLR0124 - NaN


def test_any_other_step_is_estimated_by_the_features_of_the_graph(
    world: World, services: LocalServices
) -> None:
    assert exact_explainer(world.folder, world.manifest, world.program, "why-mean") is None

    (found,) = explain_steps(world.folder, world.manifest, ["why-mean"], world.row(3))

    assert (found.method, found.space) == ("sampled", "probability")
    errors = np.array([one.error for one in found.contributions])
    wanted = world.wanted("mean", 3, found.background_rows, in_log_odds=False)
    assert (np.abs(_added(found) - wanted) <= 5 * errors + 1e-9).all()
    assert found.base + sum(_added(found)) == pytest.approx(found.output, abs=1e-9)
    values = np.array([one.value for one in found.contributions], dtype=np.float64)
    np.testing.assert_array_equal(values, world.rows[3])
    again = steps_in_worker(
        services.executor, world.folder, ["why-mean", "why-linear"], world.row(3)
    )
    assert [one.method for one in again] == ["sampled", "sampled"]
    assert again[0].base == pytest.approx(found.base)


def test_a_step_without_a_number_has_nothing_to_explain(world: World) -> None:
    exact = exact_explainer(world.folder, world.manifest, world.program, "why-linear")
    assert exact is not None
    with pytest.raises(InputError, match="no finite prediction"):
        exact.explain([1.7e308] * len(world.manifest.features))


def test_what_does_not_lead_to_what_the_step_gives_explains_nothing(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(world.program, "value", lambda _step, x: np.full(len(x), 0.123))
    assert exact_explainer(world.folder, world.manifest, world.program, "why-boosted") is None


def test_explainers_are_no_part_of_a_score(world: World, services: LocalServices) -> None:
    assert set(explainers_in(world.manifest)) == {"why-linear", "why-boosted", "why-mean"}
    run = world.program.run(world.rows)
    assert set(run.values) == {"linear", "lower", "boosted", "mean", "answer"}
    deploy(services, "blended", version=world.version.version)
    score_batch(services, "blended")
    scores = scores_in(services.tables.scan("scores/blended").collect())
    assert {name for score in scores for name in score.parts} == set(run.values) - {"answer"}
    again = replay(services, scores[-1].prediction_id)
    assert again.same
    assert {part.name for part in again.parts} <= set(run.values)
