"""Routes of a deployment that runs, changed under load, with real processes."""

from __future__ import annotations

from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

import pytest

from penstock.deployment import RouteEdit, change_routes, deploy, reset_routes
from penstock.runtime import open_services
from penstock.testing.caller import Caller
from penstock.testing.serving import serving

if TYPE_CHECKING:
    from collections.abc import Generator

    import httpx

    from penstock.runtime import LocalServices
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


@contextmanager
def _two_that_answer(
    served: ServedProject,
) -> Generator[tuple[LocalServices, list[httpx.Client]]]:
    """Two processes that serve version 1, and are asked all along: no request may fail."""
    with ExitStack() as stack:
        services = stack.enter_context(open_services(served.home, actor="tester"))
        deploy(services, "btc", version=1)
        https = [stack.enter_context(serving(served)) for _ in range(2)]
        with ExitStack() as asking:
            urls = [str(http.base_url) for http in https]
            callers = [asking.enter_context(Caller(url, served.token, _ask)) for url in urls]
            yield services, https
    assert [one.faults for one in callers] == [[], []]
    assert all(one.asked > 10 for one in callers)


def test_every_process_routes_anew_when_the_change_returns_and_no_request_fails(
    served: ServedProject,
) -> None:
    with _two_that_answer(served) as (services, https):
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


def _met(https: list[httpx.Client]) -> list[tuple[str, int]]:
    """Who answers a header, an entity and another in the one process, and so in the other."""
    met: list[tuple[str, int]] = []
    for symbol, headers in (("BTC", {"X-Group": "beta"}), ("ETH", {}), ("BTC", {})):
        body = {"entity": {"symbol": symbol}}
        told = [http.post(PREDICT, json=body, headers=headers).json() for http in https]
        one, other = [(answer["route"], answer["version"]) for answer in told]
        assert one == other
        met.append(one)
    return met


def test_headers_rules_and_last_scores_are_changed_while_they_answer(
    served: ServedProject,
) -> None:
    with _two_that_answer(served) as (services, https):
        first = _met(https)
        edit = RouteEdit(headers={"x-group=beta": "@2"}, rules={"symbol == 'ETH'": "@2"})
        change_routes(services, "btc", edit)
        led = _met(https)
        edit = RouteEdit(
            headers={"x-group=beta": "@1"}, rules={"symbol == 'ETH'": "off"}, ages={"cached": "1h"}
        )
        change_routes(services, "btc", edit)
        _met(https)
        again = _met(https)
        reset_routes(services, "btc")
        last = _met(https)

    assert first == last == [("champion", 1)] * 3
    assert led == [("header", 2), ("rule", 2), ("champion", 1)]
    assert again == [("cached", 1)] * 3
