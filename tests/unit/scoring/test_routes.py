from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import penstock as ps
from penstock.adapters.system import SystemClock, UlidIds
from penstock.errors import DeclarationError
from penstock.plan import difference
from penstock.scoring import Ask, Chosen, RouteTable, share_of
from penstock.spec import (
    Trainer,
    declarations_in,
    fingerprint,
    from_document,
    key_of,
    to_document,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from penstock.spec import Declared, Deployment, Model, Route


@pytest.fixture(scope="module")
def deployment() -> Callable[..., Deployment]:
    source = ps.Source(
        "s",
        entity=ps.Entity("k"),
        timestamp="t",
        schema={"k": ps.String, "t": ps.Timestamp, "x": ps.Float64, "amount": ps.Float64},
    )
    view = ps.FeatureView("v", source=source, features=[ps.last("x")])
    asked = ps.OnDemandView(
        "o", views=[view], request={"amount": ps.Float64}, features={"half": ps.col("amount") / 2}
    )
    label = ps.Label("y", ps.col("x") > 0)
    dataset = ps.Dataset("d", spine=source, features=[view, asked], label=label)
    trainer = Trainer(kind="sklearn", estimator="a:B")
    model: Model = ps.Model("m", dataset=dataset, candidates=[trainer])

    def make(*routes: Route) -> Deployment:
        return ps.Deployment("btc", model=model, routes=[ps.champion(), *routes])

    return make


def test_without_challengers_the_champion_answers(deployment: Callable[..., Deployment]) -> None:
    table = RouteTable(deployment(ps.shadow("candidate")))

    assert {table.by_share(str(key)).name for key in range(100)} == {"champion"}


def test_a_challenger_gets_its_share(deployment: Callable[..., Deployment]) -> None:
    table = RouteTable(deployment(ps.challenger(share=0.2)))

    roles = [table.by_share(f"entity-{key}").name for key in range(20_000)]

    assert roles.count("challenger") / len(roles) == pytest.approx(0.2, abs=0.01)


@given(key=st.text(), small=st.floats(0.01, 0.98), more=st.floats(0.001, 0.01))
def test_a_share_that_grows_keeps_its_entities(
    deployment: Callable[..., Deployment], key: str, small: float, more: float
) -> None:
    before = RouteTable(deployment(ps.challenger(share=small))).by_share(key).name
    after = RouteTable(deployment(ps.challenger(share=small + more))).by_share(key).name

    assert before == RouteTable(deployment(ps.challenger(share=small))).by_share(key).name
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

    before = _table(deployment, shares).by_share(key).name
    after = _table(deployment, larger).by_share(key).name

    assert before != names[grown] or after == before
    if before in names:
        assert after in {before, names[grown]}


def test_several_challengers_get_their_shares(deployment: Callable[..., Deployment]) -> None:
    table = _table(deployment, [0.1, 0.25, 0.3])

    roles = [table.by_share(f"entity-{key}").name for key in range(40_000)]

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


def _chosen(table: RouteTable, ids: UlidIds, **given: Any) -> Chosen:  # noqa: ANN401 - of an Ask
    return table.choose(Ask(0, **given), ids)


@given(
    key=st.sampled_from(["a", "b", "c", "d"]) | st.text(),
    amount=st.none() | st.floats(0, 200),
    group=st.sampled_from(["", "beta", "alpha"]),
    share=st.floats(0.01, 0.9),
)
def test_a_header_comes_before_a_rule_and_a_rule_before_a_share(
    deployment: Callable[..., Deployment],
    key: str,
    amount: float | None,
    group: str,
    share: float,
) -> None:
    table = RouteTable(
        deployment(
            ps.challenger(share=share),
            ps.by_rule((ps.col("amount") > 100) | ps.col("k").eq("a"), version=3),
            ps.by_rule(ps.col("amount") > 50, version=4),
            ps.by_header("X-Group", "beta", version=5),
        )
    )
    ids = UlidIds(SystemClock())
    headers = {"x-group": group}

    got = _chosen(table, ids, key=key, given={"amount": amount}, headers=headers)

    expected = "challenger" if share_of("btc", key) < share else "champion"
    if amount is not None and amount > 50:
        expected = "rule (amount > 50)"
    if (amount is not None and amount > 100) or key == "a":
        expected = "rule"
    if group == "beta":
        expected = "header"
    assert got.name == expected
    assert got == _chosen(table, ids, key=key, given={"amount": amount}, headers=headers)


def test_a_route_says_why_it_answers(deployment: Callable[..., Deployment]) -> None:
    table = RouteTable(
        deployment(
            ps.challenger(share=0.999),
            ps.by_rule(ps.col("amount") > 100, version=3),
            ps.by_header("X-Group", "beta", version=5),
        )
    )
    ids = UlidIds(SystemClock())

    assert table.headers == ("x-group",)
    assert not table.is_plain
    assert _chosen(table, ids, headers={"x-group": "beta"}).why == "header x-group=beta"
    assert _chosen(table, ids, given={"amount": 101.0}).why == "rule (amount > 100)"
    assert _chosen(table, ids, key="b", given={"amount": None}).why == "share 0.999"


def test_each_answer_of_a_bandit_says_the_share_its_arm_had(
    deployment: Callable[..., Deployment],
) -> None:
    plain = deployment()
    salted = [
        msgspec.structs.replace(ps.challenger(share=share, version=version), salt="bandit promo")
        for share, version in ((0.25, 3), (0.125, 4))
    ]
    table = RouteTable(
        msgspec.structs.replace(
            plain, bandit=ps.Bandit("promo", arms=[3, 4]), routes=[*plain.routes, *salted]
        )
    )
    asked = [table.by_share(f"entity-{key}") for key in range(20_000)]

    shares = {"share 0.25": 0.25, "share 0.125": 0.125, "share 0.625": 0.625}
    counted = {why: sum(one.why == why for one in asked) / len(asked) for why in shares}
    assert counted == pytest.approx(shares, abs=0.01)
    assert {one.name for one in asked} == {"champion", "challenger", "challenger @4"}
    # Without a bandit the champion takes the rest and says nothing.
    alone = RouteTable(deployment(ps.challenger(share=0.1)))
    assert {alone.by_share(f"E{key}").why for key in range(100)} == {"", "share 0.1"}


def test_a_salt_gives_an_order_of_its_own(deployment: Callable[..., Deployment]) -> None:
    def half(salt: str) -> list[bool]:
        route = msgspec.structs.replace(ps.challenger(share=0.5, version=3), salt=salt)
        table = RouteTable(deployment(route))
        return [table.by_share(f"E{key}").name == "challenger" for key in range(4_000)]

    unsalted, one, two = (np.array(half(salt)) for salt in ("", "one", "two"))

    assert np.array_equal(one, np.array(half("one")))
    for first, second in ((unsalted, one), (unsalted, two), (one, two)):
        assert np.mean(first == second) == pytest.approx(0.5, abs=0.04)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: ps.by_rule(ps.col("amuont") > 1), "reads 'amuont'.*Did you mean 'amount'"),
        (lambda: ps.by_rule(ps.col("amount") + 1), "a rule is a condition"),
        (lambda: ps.by_rule(ps.lead("amount", "1h") > 1), "a rule cannot look ahead"),
        (lambda: ps.by_header("", "b"), "no name of a header"),
        (lambda: ps.by_header("x group", "b"), "no name of a header"),
        (lambda: ps.by_header("Authorization", "b"), "a meaning of its own"),
        (lambda: ps.by_header("x-group", ""), "no value"),
        (lambda: ps.cached(max_age="soon"), "max_age"),
    ],
)
def test_routes_that_cannot_work_are_refused(
    deployment: Callable[..., Deployment], make: Callable[[], Route], words: str
) -> None:
    with pytest.raises(DeclarationError, match=words):
        deployment(make())


def test_a_rule_of_other_types_is_refused_when_it_is_applied(
    deployment: Callable[..., Deployment],
) -> None:
    declared = deployment(ps.by_rule(ps.col("k") > 5))

    with pytest.raises(DeclarationError, match="deployment/btc"):
        difference(ps.Project("p", declarations=[declared]), [])


def test_routes_of_every_kind_survive_storage(deployment: Callable[..., Deployment]) -> None:
    declared = deployment(
        ps.by_rule(ps.col("amount") > 1),
        ps.by_header("x-group", "beta", alias="candidate"),
        ps.cached(max_age="30s"),
        ps.challenger(share=0.1, version=3),
    )
    known: dict[str, Declared] = {}
    for value in declarations_in([declared]):
        known[key_of(value)] = from_document(type(value), to_document(value), known)

    assert known["deployment/btc"] == declared
    assert fingerprint(known["deployment/btc"]) == fingerprint(declared)
