"""The feature catalogue over HTTP."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import httpx
import pytest
from tests.unit.http.test_api import error_of, running

import penstock as ps
from penstock.features import profile
from penstock.plan import Catalogue, apply
from penstock.runtime import open_services
from penstock.testing.protecting import protect

if TYPE_CHECKING:
    from collections.abc import Iterator

    from penstock.runtime import LocalServices
    from penstock.testing.served_project import ServedProject

NAMES = [
    "edge.gap", "momentum.count_1d", "momentum.last_close", "momentum.max_close_2d",
    "momentum.mean_ret_6h", "momentum.std_ret_1d",
]  # fmt: skip


class Caller:
    """A client of the control plane, and the project behind it."""

    def __init__(self, services: LocalServices, token: str, address: str) -> None:
        self.services = services
        headers = {"Authorization": f"Bearer {token}"}
        self.http = httpx.Client(base_url=address, headers=headers, timeout=60)

    def get(self, path: str, token: str = "", **query: Any) -> Any:  # noqa: ANN401 - JSON
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        return self.http.get(f"/v1/{path}", params=query or None, headers=headers)

    def names(self, path: str, **query: Any) -> list[str]:  # noqa: ANN401 - of a query
        return [one["name"] for one in self.get(path, **query).json()]


@pytest.fixture
def caller(served: ServedProject) -> Iterator[Caller]:
    """Features of a feature view and of an on-demand view, and a service."""
    with open_services(served.home, kind="api") as services, running(services) as address:
        catalogue = Catalogue.load(services.metadata)
        edge = ps.OnDemandView(
            "edge",
            views=[catalogue.view("momentum")],
            request={"bid": ps.Float64},
            features={
                "gap": ps.feature(
                    ps.col("bid") - ps.col("momentum.last_close"),
                    unit="EUR",
                    description="From the last price to the bid.",
                )
            },
            deprecated="2099-01-01",
            tags=["quoting"],
            owner="carl",
        )
        project = ps.Project("served", declarations=[*catalogue.declarations.values(), edge])
        apply(services.metadata, project, actor="tester", now=services.clock.now())
        made = Caller(services, served.token, address)
        yield made
        made.http.close()


def test_features_come_page_by_page(caller: Caller) -> None:
    assert caller.names("features") == NAMES
    assert caller.names("features", limit=2) == NAMES[:2]
    assert caller.names("features", limit=3, after=NAMES[1]) == NAMES[2:5]
    assert caller.names("features", after=NAMES[-1]) == []
    assert error_of(caller.get("features", limit=0)) == (422, "input")


def test_features_are_filtered_and_searched(caller: Caller) -> None:
    assert caller.names("features", tag="quoting", owner="carl") == ["edge.gap"]
    assert caller.names("features", view="momentum") == NAMES[1:]
    assert caller.names("features", unused=True) == ["edge.gap"]
    assert caller.names("features", deprecated=True) == ["edge.gap"]
    answer = caller.get("features", tag="quotin")
    assert error_of(answer) == (404, "not_found")
    assert "Did you mean 'quoting'" in answer.text
    (first, *_) = caller.get("features/search", q="standrad deviation").json()
    assert (first["entry"]["name"], first["places"]["standrad"]) == (NAMES[-1], "expression")
    assert len(caller.get("features/search", q="close", limit=2).json()) == 2
    assert error_of(caller.get("features/search")) == (422, "input")


def test_views_and_services_are_told(caller: Caller) -> None:
    edge, momentum = caller.get("feature-views").json()
    assert (edge["kind"], edge["state"], edge["source"]) == ("on_demand_view", None, None)
    assert (edge["deprecated"], momentum["deprecated"]) == ("2099-01-01", "")
    assert (momentum["features"], momentum["state"]["state"]) == (5, "fresh")
    assert caller.names("feature-views", limit=1) == ["edge"]
    assert caller.names("feature-views", after="edge") == ["momentum"]
    view = caller.get("feature-views/momentum").json()
    assert {one["kind"] for one in view["used_by"]} >= {"model_version", "dataset", "deployment"}
    assert view["comes_from"][0]["links"][0]["links"][0]["links"][0]["kind"] == "file"
    feature = caller.get("feature-views/edge/features/gap").json()
    assert (feature["feature"], feature["request"]) == ("edge.gap", {"bid": "float64"})
    assert feature["deprecated"] == "2099-01-01"
    (gap,) = feature["features"]
    assert (gap["unit"], gap["description"]) == ("EUR", "From the last price to the bid.")
    (service,) = caller.get("feature-services").json()
    assert service["features"] == list(view["features"][0]["columns"]) + [
        column for one in view["features"][1:] for column in one["columns"]
    ]
    assert caller.get("feature-services/scoring").json()["kind"] == "feature_service"


@pytest.mark.parametrize(
    ("path", "meant"),
    [
        ("feature-views/momentun", "'momentum'"),
        ("feature-views/scoring", "'momentum'"),
        ("feature-views/momentum/features/last_clos", "'momentum.last_close'"),
        ("feature-views/momentum/profile?feature=last_clos", "'momentum.last_close'"),
        ("feature-services/scorin", "'scoring'"),
    ],
)
def test_unknown_names_get_the_nearest(caller: Caller, path: str, meant: str) -> None:
    answer = caller.get(path)
    assert error_of(answer) == (404, "not_found")
    assert meant in answer.text


def test_profiles_are_told_to_those_who_may_read_the_features(caller: Caller) -> None:
    assert caller.get("feature-views/momentum/profile").json() == []
    services = caller.services
    profile(services.tables, services.locks, Catalogue.load(services.metadata).view("momentum"))
    found = caller.get("feature-views/momentum/profile", days=2).json()
    assert len(found) == 10
    assert found[0]["null_rate"] == 0.0
    assert sum(found[0]["spread"]["counts"]) == found[0]["spread"]["rows"]
    one = caller.get("feature-views/momentum/profile", feature="count_1d").json()
    assert {each["feature"] for each in one} == {"momentum.count_1d"}
    assert error_of(caller.get("feature-views/edge/profile")) == (422, "input")
    token = protect(services, "momentum")
    refused = caller.get("feature-views/momentum/profile", token)
    assert error_of(refused) == (403, "access")
    assert "penstock access grant ana --view momentum" in refused.text
    shown = caller.get("feature-views/momentum", token).json()
    assert (len(shown["hidden"]), shown["profiles"]) == (5, [])
    assert caller.get("features", token).status_code == 200
    assert len(caller.get("feature-views/momentum").json()["profiles"]) == 35


def test_the_routes_are_in_the_description(caller: Caller) -> None:
    paths = caller.http.get("/openapi.json").json()["paths"]
    query = {one["name"] for one in paths["/v1/features"]["get"]["parameters"]}
    assert query == {"tag", "owner", "view", "unused", "deprecated", "after", "limit"}
    assert "/v1/feature-views/{view}/profile" in paths
