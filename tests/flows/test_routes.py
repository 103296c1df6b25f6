"""Routes of a deployment that runs, changed under load, with real processes."""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import pytest

from penstock.deployment import RouteEdit, change_routes, deploy, reset_routes
from penstock.runtime import open_services
from penstock.testing.caller import Caller
from penstock.testing.serving import serving

if TYPE_CHECKING:
    import httpx

    from penstock.testing.served_project import ServedProject

pytestmark = pytest.mark.slow

PREDICT = "/v1/deployments/btc/predict"
ENTITY = {"entity": {"symbol": "BTC"}}


def _ask(http: httpx.Client) -> None:
    http.post(PREDICT, json=ENTITY).raise_for_status()


def _answers(http: httpx.Client, keys: int = 40) -> list[dict[str, Any]]:
    bodies = [{"entity": {"symbol": f"K{key}"}} for key in range(keys)]
    return list(http.post(PREDICT, json={"rows": bodies}).raise_for_status().json()["predictions"])


def _told(http: httpx.Client) -> dict[str, Any]:
    deployments = http.get("/v1/deployments").json()["deployments"]
    return next(one for one in deployments if one["name"] == "btc")


def test_every_process_routes_anew_when_the_change_returns_and_no_request_fails(
    served: ServedProject,
) -> None:
    with ExitStack() as stack:
        services = stack.enter_context(open_services(served.home, actor="tester"))
        deploy(services, "btc", version=1)
        https = [stack.enter_context(serving(served)) for _ in range(2)]
        with ExitStack() as asking:
            urls = [str(http.base_url) for http in https]
            callers = [asking.enter_context(Caller(url, served.token, _ask)) for url in urls]
            edit = RouteEdit(shares={"@2": 0.5})
            assert change_routes(services, "btc", edit).processes == 2
            first = [_answers(http) for http in https]
            told = [_told(http) for http in https]
            change_routes(services, "btc", RouteEdit(shares={"@2": 0.8}))
            grown = [_answers(http) for http in https]
            edit = RouteEdit(pins={"champion": 2}, shares={"@2": None}, shadows={"@1": True})
            change_routes(services, "btc", edit)
            pinned = [_answers(http) for http in https]
            assert reset_routes(services, "btc").processes == 2
            last = [_answers(http) for http in https]

    assert [one.faults for one in callers] == [[], []]
    assert all(one.asked > 10 for one in callers)
    routes = [[(one["route"], one["version"]) for one in answers] for answers in first]
    assert routes[0] == routes[1]  # the same entity meets the same route, in each process
    assert set(routes[0]) == {("champion", 1), ("challenger", 2)}
    more = [(one["route"], one["version"]) for one in grown[0]]
    assert all(now == then for then, now in zip(routes[0], more, strict=True) if then[1] == 2)
    assert more.count(("challenger", 2)) > routes[0].count(("challenger", 2))
    for deployment in told:
        assert deployment["routes"] == {
            "champion": "direction@1", "challenger": "direction@2",
        }  # fmt: skip
        assert deployment["shares"] == {"champion": 0.5, "challenger": 0.5}
        assert deployment["route_changes"] == 1
    assert {(one["route"], one["version"]) for one in pinned[1]} == {("champion", 2)}
    assert {(one["route"], one["version"]) for one in last[1]} == {("champion", 1)}
