"""Headers, rules and scores that answer at once, changed while a deployment runs."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
import pytest

import penstock as ps
from penstock.deployment import RouteEdit, change_routes, changes_of, deploy, show_routes
from penstock.deployment.route_edits import edited
from penstock.errors import (
    DeclarationError,
    GateError,
    InputError,
    NotFoundError,
    NotReadyError,
    PenstockError,
)
from penstock.plan import Catalogue, apply, routed
from penstock.ports import Put
from penstock.registry import get_version
from penstock.runtime import open_services

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from penstock.deployment import Rerouted
    from penstock.runtime import LocalServices
    from penstock.spec import Deployment, Route
    from penstock.testing.served_project import ServedProject

BIG = ps.by_rule(ps.col("symbol").eq("BIG"), alias="candidate")
LED = [ps.champion(), ps.by_header("X-Group", "beta", version=2), BIG, ps.cached(max_age="30s")]


@pytest.fixture
def services(served: ServedProject) -> Iterator[LocalServices]:
    with open_services(served.home, actor="tester") as opened:
        deploy(opened, "btc", version=1)
        yield opened


@pytest.fixture
def declare(services: LocalServices) -> Callable[..., Deployment]:
    """Declares ``btc`` otherwise."""

    def declared(
        routes: Sequence[Route], warnings: list[str] | None = None, **changed: object
    ) -> Deployment:
        catalogue = Catalogue.load(services.metadata)
        other = catalogue.deployment("split")
        mine = msgspec.structs.replace(catalogue.deployment("btc"), routes=routes, **changed)
        project = ps.Project("served", declarations=[mine, other])
        plan = apply(services.metadata, project, actor="ann", now=services.clock.now())
        if warnings is not None:
            warnings += plan.warnings
        return mine

    return declared


def _rows(found: Rerouted) -> list[tuple[str, str, int, str]]:
    return [(one.name, one.target, one.version, one.why) for one in found.routes]


CHAMPION = ("champion", "champion", 1, "")
HEADER = ("header", "@2", 2, "header x-group=beta")
RULE = ("rule", "candidate", 2, "rule (symbol == 'BIG')")
CACHED = ("cached", "the last score", 0, "")


def test_what_is_declared_is_led_elsewhere_or_turned_off_and_goes_back(
    services: LocalServices, declare: Callable[..., Deployment]
) -> None:
    declare(LED)
    assert _rows(show_routes(services, "btc")) == [CHAMPION, HEADER, RULE, CACHED]

    edit = RouteEdit(
        headers={"X-Group=beta": "@1"}, rules={"symbol == 'BIG'": "off"}, ages={"cached": "off"}
    )
    done = change_routes(services, "btc", edit, reason="two is wrong")

    assert _rows(done) == [CHAMPION, ("header", "@1", 1, "header x-group=beta")]
    assert [one.changed for one in done.routes] == [False, True]
    assert done.changes.text == (
        "header x-group=beta leads to @1; rule (symbol == 'BIG') is off; cached scores are off"
    )
    entry = services.metadata.audit()[-1]
    assert (entry.action, entry.subject) == ("change routes", "deployment/btc")
    assert entry.difference == {
        "headers": {"x-group=beta": [None, "@1"]},
        "rules": {"(symbol == 'BIG')": [None, "off"]},
        "ages": {"cached": [None, "off"]},
        "reason": "two is wrong",
        "revision": 1,
    }

    back = RouteEdit(headers={"x-group=beta": "off"}, ages={"cached": "2m"})
    assert _rows(change_routes(services, "btc", back)) == [CHAMPION, CACHED]
    now = routed(
        Catalogue.load(services.metadata).deployment("btc"), changes_of(services.metadata, "btc")
    )
    assert now.routes[-1].max_age == "2m"
    back = RouteEdit(
        headers={"x-group=beta": None}, rules={"(symbol == 'BIG')": None}, ages={"cached": None}
    )
    last = change_routes(services, "btc", back)
    assert (_rows(last), last.changes.is_empty) == ([CHAMPION, HEADER, RULE, CACHED], True)


def test_others_are_added_after_those_that_are_declared_and_taken_away(
    services: LocalServices, declare: Callable[..., Deployment]
) -> None:
    declare(LED[:3])
    edit = RouteEdit(
        headers={"x-Z=1": "candidate", "x-a=b=c": "@2"},
        rules={"ps.col('symbol') == 'S'": "@1", "symbol != 'S' and True": "@2"},
        ages={"cached": "5s"},
    )
    done = change_routes(services, "btc", edit)

    assert _rows(done) == [
        CHAMPION,
        HEADER,
        RULE,
        ("header x-a=b=c", "@2", 2, "header x-a=b=c"),
        ("header x-z=1", "candidate", 2, "header x-z=1"),
        ("rule ((symbol != 'S') & True)", "@2", 2, "rule ((symbol != 'S') & True)"),
        ("rule (symbol == 'S')", "@1", 1, "rule (symbol == 'S')"),
        CACHED,
    ]
    away = RouteEdit(
        headers={"X-Z=1": "off", "x-a=b=c": None},
        rules={"symbol == 'S'": "off", "(symbol != 'S') & True": "off"},
        ages={"cached": "off"},
    )
    last = change_routes(services, "btc", away)
    assert (_rows(last), last.changes.is_empty) == ([CHAMPION, HEADER, RULE], True)


def test_a_name_that_is_no_word_stays_as_it_was_given(services: LocalServices) -> None:
    """What is written of it, ``(user-id == 'a')``, would be read as a difference."""
    declared = Catalogue.load(services.metadata).deployment("btc")
    given = {"col('user-id') == 'a'": "@2", "col('if') == 'a'": "@2", "col('id') == 'a'": "@2"}
    changes = edited(
        declared,
        changes_of(services.metadata, "btc"),
        RouteEdit(rules=given),
        by="tester",
        at=services.clock.now(),
        reason="",
    )
    assert list(changes.rules) == [*list(given)[:2], "(id == 'a')"]
    with pytest.raises(DeclarationError, match="reads 'user-id', which no request says"):
        routed(declared, changes)


@pytest.mark.parametrize(
    ("edit", "error", "words"),
    [
        (RouteEdit(headers={"x-group": "@2"}), InputError, "Write it as x-group=beta"),
        (RouteEdit(headers={"=beta": "@2"}), InputError, "Write it as x-group=beta"),
        (RouteEdit(headers={"x-grop=beta": "off"}), NotFoundError, "Did you mean 'x-group=beta'"),
        (RouteEdit(headers={"x group=a": "@2"}), DeclarationError, "is no name of a header"),
        (RouteEdit(headers={"cookie=a": "@2"}), DeclarationError, "has a meaning of its own"),
        (RouteEdit(headers={"x-group=beta": "@9"}), NotFoundError, "direction@9"),
        (RouteEdit(headers={"x-group=beta": "@x"}), DeclarationError, "no alias '@x'"),
        (RouteEdit(headers={"x-group=a": "challenger"}), NotReadyError, "such as @3"),
        (RouteEdit(rules={"symbol ==": "@2"}), InputError, "is no condition"),
        (RouteEdit(rules={"symbol": "@2"}), DeclarationError, "a rule is a condition"),
        (RouteEdit(rules={"simbol == 'a'": "@2"}), DeclarationError, "Did you mean 'symbol'"),
        (RouteEdit(rules={"symbol > 1": "@2"}), DeclarationError, "symbol"),
        (RouteEdit(rules={"symbol == 'x'": "off"}), NotFoundError, "symbol == 'BIG'"),
        (RouteEdit(rules={"symbol == 'x'": "candidat"}), DeclarationError, "'candidate'"),
        (RouteEdit(ages={"cached": "soon"}), DeclarationError, "max_age"),
        (RouteEdit(ages={"cache": "1s"}), NotFoundError, "Did you mean 'cached'"),
        (RouteEdit(ages={"precomputed": "1s"}), InputError, "declares no precomputed scores"),
        (RouteEdit(ages={"precomputed": "off"}), NotFoundError, "'precomputed'"),
        (RouteEdit(shares={"@x": 0.1}), DeclarationError, "no alias '@x'"),
    ],
)
def test_what_cannot_work_is_refused_and_nothing_stored(
    services: LocalServices,
    declare: Callable[..., Deployment],
    edit: RouteEdit,
    error: type[PenstockError],
    words: str,
) -> None:
    declare(LED)
    with pytest.raises(error) as refused:
        change_routes(services, "btc", edit)

    assert words in refused.value.message
    assert changes_of(services.metadata, "btc").revision == 0


def test_a_version_that_a_gate_refused_answers_no_header(
    services: LocalServices, declare: Callable[..., Deployment]
) -> None:
    declare(LED[:1])
    record = get_version(services.metadata, "direction", 2)
    services.metadata.write(Put(msgspec.structs.replace(record, ready=False)))

    for edit in (RouteEdit(headers={"x-a=b": "@2"}), RouteEdit(rules={"symbol == 'a'": "@2"})):
        with pytest.raises(GateError):
            change_routes(services, "btc", edit)


def test_precomputed_scores_are_turned_off_and_aged(
    services: LocalServices, declare: Callable[..., Deployment]
) -> None:
    batch = ps.BatchScoring(on=ps.cron("0 3 * * *"))
    declared = declare([ps.champion(), ps.precomputed(max_age="1d")], batch=batch)
    for age, expected in (("1h", ["1h"]), ("off", []), (None, ["1d"])):
        change_routes(services, "btc", RouteEdit(ages={"precomputed": age}))
        now = routed(declared, changes_of(services.metadata, "btc"))
        assert [one.max_age for one in now.routes if one.role == "precomputed"] == expected
        assert bool(now.ready_space) == bool(expected)


def test_applying_other_routes_ends_what_was_added(
    services: LocalServices, declare: Callable[..., Deployment]
) -> None:
    declare(LED[:1])
    change_routes(services, "btc", RouteEdit(rules={"symbol == 'a'": "@2"}))
    declare(LED[:1], description="as before")
    assert changes_of(services.metadata, "btc").rules == {"(symbol == 'a')": "@2"}

    declare(LED[:2])

    assert changes_of(services.metadata, "btc").is_empty


@pytest.mark.parametrize(
    ("rule", "why"),
    [
        ("symbol > 1", "since they do not go with what is declared ("),
        ("simbol == 'a'", "since they do not go with what is declared ("),
        ("symbol ==", "since they cannot be read ("),
    ],
)
def test_applying_ends_a_rule_that_fits_no_more(
    services: LocalServices, declare: Callable[..., Deployment], rule: str, why: str
) -> None:
    changes = changes_of(services.metadata, "btc")
    at = services.clock.now()
    services.metadata.write(Put(changes.followed_by(by="tom", at=at, rules={rule: "@2"})))
    btc = Catalogue.load(services.metadata).deployment("btc")
    warnings: list[str] = []

    declare(btc.routes, warnings=warnings, description="as it was, but for this")

    assert any(why in told for told in warnings)
    assert changes_of(services.metadata, "btc").is_empty
