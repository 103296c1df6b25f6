from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import penstock as ps
from penstock.scoring import RouteTable, share_of
from penstock.spec import Trainer

if TYPE_CHECKING:
    from collections.abc import Callable

    from penstock.spec import Deployment, Model, Route


@pytest.fixture(scope="module")
def deployment() -> Callable[..., Deployment]:
    source = ps.Source(
        "s",
        entity=ps.Entity("k"),
        timestamp="t",
        schema={"k": ps.String, "t": ps.Timestamp, "x": ps.Float64},
    )
    view = ps.FeatureView("v", source=source, features=[ps.last("x")])
    dataset = ps.Dataset("d", spine=source, features=[view], label=ps.Label("y", ps.col("x") > 0))
    trainer = Trainer(kind="sklearn", estimator="a:B")
    model: Model = ps.Model("m", dataset=dataset, candidates=[trainer])

    def make(*routes: Route) -> Deployment:
        return ps.Deployment("btc", model=model, routes=[ps.champion(), *routes])

    return make


def test_without_challengers_the_champion_answers(deployment: Callable[..., Deployment]) -> None:
    table = RouteTable(deployment(ps.shadow("candidate")))

    assert {table.role_of(str(key)) for key in range(100)} == {"champion"}


def test_a_challenger_gets_its_share(deployment: Callable[..., Deployment]) -> None:
    table = RouteTable(deployment(ps.challenger(share=0.2)))

    roles = [table.role_of(f"entity-{key}") for key in range(20_000)]

    assert roles.count("challenger") / len(roles) == pytest.approx(0.2, abs=0.01)


@given(key=st.text(), small=st.floats(0.01, 0.98), more=st.floats(0.001, 0.01))
def test_a_share_that_grows_keeps_its_entities(
    deployment: Callable[..., Deployment], key: str, small: float, more: float
) -> None:
    before = RouteTable(deployment(ps.challenger(share=small))).role_of(key)
    after = RouteTable(deployment(ps.challenger(share=small + more))).role_of(key)

    assert before == RouteTable(deployment(ps.challenger(share=small))).role_of(key)
    assert before == "champion" or after == "challenger"


SHARES = st.lists(st.floats(0.01, 0.3), min_size=3, max_size=3)
TARGETS = ("challenger", "candidate", "@7")


def _table(deployment: Callable[..., Deployment], shares: list[float]) -> RouteTable:
    routes = [
        ps.challenger(share=share, version=7)
        if target == "@7"
        else ps.challenger(share=share, alias=target)
        for target, share in zip(TARGETS, shares, strict=True)
    ]
    return RouteTable(deployment(*routes))


@given(key=st.text(), shares=SHARES, grown=st.integers(0, 2), more=st.floats(0.001, 0.09))
def test_a_share_that_grows_costs_others_only_what_goes_over_to_it(
    deployment: Callable[..., Deployment], key: str, shares: list[float], grown: int, more: float
) -> None:
    names = ["challenger", "challenger candidate", "challenger @7"]
    larger = [share + more * (place == grown) for place, share in enumerate(shares)]

    before = _table(deployment, shares).role_of(key)
    after = _table(deployment, larger).role_of(key)

    assert before != names[grown] or after == before
    if before in names:
        assert after in {before, names[grown]}


def test_several_challengers_get_their_shares(deployment: Callable[..., Deployment]) -> None:
    table = _table(deployment, [0.1, 0.25, 0.3])

    roles = [table.role_of(f"entity-{key}") for key in range(40_000)]

    shares = {role: roles.count(role) / len(roles) for role in sorted(set(roles))}
    assert shares == pytest.approx(
        {"challenger": 0.1, "challenger @7": 0.3, "challenger candidate": 0.25, "champion": 0.35},
        abs=0.01,
    )


def test_deployments_order_entities_differently_and_evenly() -> None:
    one = np.array([share_of("one", str(key)) for key in range(5_000)])
    two = np.array([share_of("two", str(key)) for key in range(5_000)])

    assert abs(np.corrcoef(one, two)[0, 1]) < 0.05
    counts, _ = np.histogram(one, bins=10, range=(0, 1))
    assert counts.min() > 400
    assert one.min() >= 0
    assert one.max() < 1
