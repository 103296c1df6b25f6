"""A canary with real processes under load: stepped, promoted, killed in between, rolled back."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

import penstock as ps
from penstock.control import deploy_run, start
from penstock.deployment import begin_rollout, deploy, get_rollout, rollback
from penstock.plan import Catalogue
from penstock.registry import aliases, promote
from penstock.runtime import open_services
from penstock.testing.caller import Caller
from penstock.testing.graph_versions import declare_more, make_graph_version
from penstock.testing.served_project import SYMBOLS
from penstock.testing.serving import serving
from penstock.testing.working import until, working

if TYPE_CHECKING:
    from collections.abc import Iterator

    import httpx

    from penstock.runtime import LocalServices
    from penstock.testing.served_project import ServedProject

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

PLAN = ps.Canary(steps=[0.2, 0.6], every="500ms", min_scores=40, latency=1000.0)


@pytest.fixture
def services(served: ServedProject) -> Iterator[LocalServices]:
    with open_services(served.home) as opened:
        yield opened


@pytest.fixture(params=["model", "graph"])
def deployment(request: pytest.FixtureRequest, services: LocalServices) -> ps.Deployment:
    """A deployment of a model, or of a graph, that has two versions; the first is deployed."""
    known = Catalogue.load(services.metadata).deployment("btc")
    if request.param == "graph":
        known = _of_a_graph(services, known)
    deploy(services, known.name, version=1)
    return known


def _of_a_graph(services: LocalServices, known: ps.Deployment) -> ps.Deployment:
    model = known.model
    graph = ps.Graph(
        "blend",
        dataset=model.dataset,
        steps={
            "now": ps.Predict(model),
            "boosted": ps.Predict(model, of="@2"),
            "mean": ps.Average(["now", "boosted"], weights=[1, 2]),
            "answer": ps.Switch([(ps.col("momentum.count_1d") < 3, "boosted")], otherwise="mean"),
        },
    )
    declared = ps.Deployment("blended", model=graph, fallback=known.fallback)
    declare_more(services, declared)
    for champion in (1, 2):
        promote(services, model.name, champion)
        make_graph_version(services, graph, run_id=f"run-{champion}")
    return declared


class Answers:
    """Asks for entities of every kind, known and unknown; remembers which versions answered."""

    def __init__(self, deployment: str) -> None:
        self.versions: list[int] = []
        self._path = f"/v1/deployments/{deployment}/predict"
        self._number = 0

    def ask(self, http: httpx.Client) -> None:
        self._number += 1
        # An unknown entity has a route as well, and features that are null.
        symbol = SYMBOLS[self._number % 3] if self._number % 2 else f"S{self._number % 97}"
        reply = http.post(self._path, json={"entity": {"symbol": symbol}})
        self.versions.append(reply.raise_for_status().json()["version"])


def test_no_request_fails_from_the_first_share_to_the_rollback(
    services: LocalServices, served: ServedProject, deployment: ps.Deployment
) -> None:
    rollout = begin_rollout(services, deployment.name, version=2, canary=PLAN)
    name = rollout.rollout_id

    def state() -> str:
        now = get_rollout(services.metadata, name)
        assert now.is_live or now.state == "done", now
        return now.state

    answers = Answers(deployment.name)
    with (
        serving(served) as server,
        Caller(str(server.base_url), served.token, answers.ask) as caller,
    ):
        with working(services.home):
            start(services, deploy_run(name, deployment.name))
            until(lambda: state() == "canary")
        # Killed in the first step; another goes on from there.
        with working(services.home):
            until(lambda: state() not in {"canary", "promoting"})
            done = get_rollout(services.metadata, name)
            until(lambda: answers.versions[-1:] == [2])
            back = rollback(services, deployment.name, wait_s=60)
            until(lambda: answers.versions[-1:] == [1])

    assert caller.faults == []
    assert (done.state, done.reason) == ("done", "")
    assert [one.share for one in done.steps] == [0.2, 0.6]
    assert all(one.answers >= PLAN.min_scores for one in done.steps)
    assert (back.version, aliases(services.metadata, deployment.model.name).champion) == (1, 1)
    assert set(answers.versions) == {1, 2}
