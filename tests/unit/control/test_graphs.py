from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

import penstock as ps
from penstock.cli.application import application
from penstock.control import graph_names, graph_state
from penstock.errors import NotFoundError
from penstock.plan import Catalogue
from penstock.registry import promote
from penstock.runtime import open_services
from penstock.testing.graph_versions import declare_more, make_graph_version

if TYPE_CHECKING:
    from collections.abc import Iterator

    from penstock.runtime import LocalServices
    from penstock.testing.served_project import ServedProject


@pytest.fixture
def services(served: ServedProject) -> Iterator[LocalServices]:
    with open_services(served.home, actor="tester") as opened:
        yield opened


def _blend(services: LocalServices, weight: float = 1.0, **more: ps.Explain) -> ps.Graph:
    model = Catalogue.load(services.metadata).model("direction")
    graph = ps.Graph(
        "blend",
        dataset=model.dataset,
        steps={
            "answer": ps.Switch([(ps.col("momentum.count_1d") < 3, "best")], otherwise="mean"),
            "mean": ps.Average(["best", "boosted"], weights=[weight, 1]),
            "boosted": ps.Predict(model, of="@2"),
            "best": ps.Predict(model),
            **more,
        },
    )
    declare_more(services, graph)
    return graph


def _shown(capsys: pytest.CaptureFixture[str], *words: object) -> str:
    line = [str(word) for word in words]
    with pytest.raises(SystemExit) as stopped:
        application(line)(args=line, prog_name="penstock")
    assert not stopped.value.code
    said = capsys.readouterr()
    return said.out + said.err


def test_a_graph_is_told_before_its_first_version(services: LocalServices) -> None:
    graph = _blend(services)
    found = graph_state(services, "blend")
    assert graph_names(services.metadata) == ("blend",)
    assert (found.version, found.roles, found.output, found.moved) == ("", (), "answer", ())
    assert [step.name for step in found.steps] == ["best", "boosted", "mean", "answer"]
    assert {step.name: (step.pinned, step.now) for step in found.steps} == {
        "best": ("", ""), "boosted": ("", "direction@2"), "mean": ("", ""), "answer": ("", ""),
    }  # fmt: skip
    assert found.steps[-1].reads == ("momentum.count_1d", "best", "mean")
    assert found.steps[2].what == "average 1 x best, 1 x boosted"
    assert graph.output == "answer"
    assert found.lacking == ("direction",)  # no champion yet
    promote(services, "direction", 1)
    assert graph_state(services, "blend").lacking == ()


def test_what_moved_since_and_what_is_declared_otherwise_is_told(services: LocalServices) -> None:
    promote(services, "direction", 1)
    make_graph_version(services, _blend(services), run_id="run-1")
    promote(services, "blend", 1)
    first = graph_state(services, "blend")
    assert (first.version, first.roles) == ("blend@1", ("champion", "candidate"))
    assert (first.moved, first.changed) == ((), False)

    promote(services, "direction", 2)
    _blend(services, weight=2.0)
    later = graph_state(services, "blend@1")
    assert (later.moved, later.changed) == (("best",), True)
    best = next(step for step in later.steps if step.name == "best")
    assert (best.pinned, best.now) == ("direction@1", "direction@2")
    # What a version computes is told of it, whatever is declared now.
    assert next(step.what for step in later.steps if step.name == "mean").startswith("average 1 x")


def test_a_name_that_is_no_graph_is_refused(services: LocalServices) -> None:
    _blend(services)
    with pytest.raises(NotFoundError, match=r"no graph 'blnd'\. Did you mean 'blend'"):
        graph_state(services, "blnd")
    with pytest.raises(NotFoundError, match="'direction'"):
        graph_state(services, "direction")


def test_the_tree_is_aligned_and_tells_each_step_once(
    served: ServedProject, services: LocalServices, capsys: pytest.CaptureFixture[str]
) -> None:
    assert "No graph is declared" in _shown(capsys, "graphs", "list", "--home", served.home)
    graph = _blend(services)
    first = _shown(capsys, "graphs", "show", "blend", "--home", served.home)
    assert "First 'penstock train direction'; then 'penstock train blend' makes" in first
    promote(services, "direction", 1)
    make_graph_version(services, graph, run_id="run-1")
    promote(services, "direction", 2)
    shown = _shown(capsys, "graphs", "show", "blend", "--home", served.home).splitlines()
    assert [line.rstrip() for line in shown] == [
        "blend@1  candidate",
        "step           what                                                  pinned       now",
        "answer         switch best where (momentum.count_1d < 3); else mean",
        f"├─ best        predict direction@champion{' ' * 28}direction@1  direction@2",
        "└─ mean        average 1 x best, 1 x boosted",
        "   ├─ best     see above",
        "   └─ boosted  predict direction@2                                   direction@2",
        "! Its models have moved to direction@2; 'penstock train blend' makes a version with that.",
    ]
    told = _shown(capsys, "graphs", "list", "--home", served.home)
    assert "direction@1, direction@2" in told


def test_what_explains_stands_beside_the_answer(
    served: ServedProject, services: LocalServices, capsys: pytest.CaptureFixture[str]
) -> None:
    _blend(services, why=ps.Explain("boosted", top=3))

    found = graph_state(services, "blend")
    shown = _shown(capsys, "graphs", "show", "blend", "--home", served.home).splitlines()

    assert (found.output, found.explainers) == ("answer", ("why",))
    assert [line.rstrip() for line in shown[-3:-1]] == [
        "why            explain boosted, the 3 greatest",
        "└─ boosted     see above",
    ]
