"""Routes changed while a deployment runs: stored, refused, audited, ended."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import msgspec
import pytest

import penstock as ps
from penstock.deployment import (
    RouteEdit,
    change_routes,
    changes_of,
    deploy,
    reset_routes,
    rollback,
    show_routes,
    split_put,
)
from penstock.errors import (
    AccessError,
    ConflictError,
    DeclarationError,
    GateError,
    InputError,
    NotFoundError,
    NotReadyError,
)
from penstock.plan import Catalogue, apply, preview, routed
from penstock.ports import Put
from penstock.records import Identity
from penstock.registry import get_version
from penstock.runtime import open_services

if TYPE_CHECKING:
    from collections.abc import Iterator

    from penstock.deployment import Rerouted
    from penstock.plan import Plan
    from penstock.runtime import LocalServices
    from penstock.spec import Deployment
    from penstock.testing.served_project import ServedProject


@pytest.fixture
def services(served: ServedProject) -> Iterator[LocalServices]:
    with open_services(served.home, actor="tester") as opened:
        deploy(opened, "btc", version=1)
        yield opened


def _rows(found: Rerouted) -> list[tuple[str, str, int, float | None]]:
    return [(one.name, one.target, one.version, one.share) for one in found.routes]


def _declared(services: LocalServices, name: str) -> Deployment:
    return Catalogue.load(services.metadata).deployment(name)


def _apply(services: LocalServices, *, preview_only: bool = False, **changed: object) -> Plan:
    """Apply the project with the deployment ``split`` declared otherwise."""
    split = msgspec.structs.replace(_declared(services, "split"), **changed)
    project = ps.Project("served", declarations=[_declared(services, "btc"), split])
    now = services.clock.now()
    if preview_only:
        return preview(services.metadata, project, now=now)
    return apply(services.metadata, project, actor="ann", now=now)


def test_routes_are_as_declared_at_first(services: LocalServices) -> None:
    found = show_routes(services, "split")

    assert _rows(found) == [
        ("champion", "champion", 1, 0.6),
        ("challenger", "challenger", 0, 0.4),
        ("shadow", "candidate", 2, None),
    ]
    assert (found.revision, found.changes.is_empty) == (0, True)
    assert not any(one.changed for one in found.routes)


def test_shares_shadows_pins_and_the_fallback_are_changed_and_audited(
    services: LocalServices,
) -> None:
    fallback = ps.Fallback(deadline="30ms", to="constant", value=0.5)
    edit = RouteEdit(
        shares={"challenger": 0, "@2": 0.25},
        shadows={"candidate": False, "@1": True},
        pins={"champion": 2},
        fallback=fallback,
    )

    done = change_routes(services, "split", edit, reason="try two", expected=0)

    assert _rows(done) == [
        ("champion", "champion", 2, 0.75),
        ("challenger", "@2", 2, 0.25),
        ("shadow", "@1", 1, None),
    ]
    assert (done.changed, done.revision, done.fallback) == (True, 1, fallback)
    entry = services.metadata.audit()[-1]
    assert (entry.actor, entry.action, entry.subject) == (
        "tester",
        "change routes",
        "deployment/split",
    )
    assert entry.difference == {
        "shares": {"@2": [None, 0.25], "challenger": [None, 0]},
        "shadows": {"@1": [None, True], "candidate": [None, False]},
        "pins": {"champion": [None, 2]},
        "fallback": [None, {"deadline": "30ms", "to": "constant", "value": 0.5}],
        "reason": "try two",
        "revision": 1,
    }
    assert show_routes(services, "btc").changes.is_empty  # of that deployment alone


def test_a_part_goes_back_to_what_is_declared(services: LocalServices) -> None:
    edit = RouteEdit(shares={"@2": 0.2}, pins={"champion": 2}, shadows={"candidate": False})
    change_routes(services, "split", edit)

    back = RouteEdit(shares={"@2": None}, pins={"champion": None})
    done = change_routes(services, "split", back)

    assert [row[:3] for row in _rows(done)] == [
        ("champion", "champion", 1),
        ("challenger", "challenger", 0),
    ]
    assert changes_of(services.metadata, "split").shadows == {"candidate": False}


def test_reset_takes_everything_back_and_counts_on(services: LocalServices) -> None:
    change_routes(services, "split", RouteEdit(shares={"@2": 0.2}))

    done = reset_routes(services, "split", reason="enough", expected=1)
    again = reset_routes(services, "split")

    assert (done.revision, done.changed, done.changes.is_empty) == (2, True, True)
    assert (again.revision, again.changed) == (2, False)
    assert services.metadata.audit()[-1].action == "reset routes"


def test_a_change_that_changes_nothing_writes_nothing(services: LocalServices) -> None:
    change_routes(services, "split", RouteEdit(shares={"@2": 0.2}))
    entries = len(services.metadata.audit())

    again = change_routes(services, "split", RouteEdit(shares={"@2": 0.2}), reason="again")

    assert (again.changed, again.revision) == (False, 1)
    assert len(services.metadata.audit()) == entries


def test_of_two_who_read_the_same_revision_one_is_refused(services: LocalServices) -> None:
    change_routes(services, "split", RouteEdit(shares={"@2": 0.2}), expected=0)

    with pytest.raises(ConflictError, match=r"at revision 1, not 0: tester changed them last"):
        change_routes(services, "split", RouteEdit(shares={"@2": 0.3}), expected=0)
    with pytest.raises(ConflictError, match="at revision 1, not 0"):
        reset_routes(services, "split", expected=0)

    assert changes_of(services.metadata, "split").shares == {"@2": 0.2}


def test_of_many_at_once_each_revision_is_one_s_own(services: LocalServices) -> None:
    done: list[int] = []
    refused: list[ConflictError] = []

    def change(share: float) -> None:
        try:
            edit = RouteEdit(shares={"@2": share})
            done.append(change_routes(services, "split", edit).revision)
        except ConflictError as error:
            refused.append(error)

    threads = [threading.Thread(target=change, args=(0.1 + n / 100,)) for n in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert sorted(done) == list(range(1, len(done) + 1))
    assert len(done) + len(refused) == 6
    assert changes_of(services.metadata, "split").revision == len(done)


@pytest.mark.parametrize(
    ("edit", "error", "words"),
    [
        (RouteEdit(), InputError, "Nothing is to be changed"),
        (RouteEdit(shares={"@2": 1.0}), InputError, "not from 0 to below 1"),
        (RouteEdit(shares={"@2": -0.1}), InputError, "not from 0 to below 1"),
        (RouteEdit(shares={"@2": 0.5, "@1": 0.5}), DeclarationError, "leave some to the champion"),
        (RouteEdit(shares={"candidat": 0.1}), DeclarationError, "Did you mean 'candidate'"),
        (RouteEdit(shares={"challenger": 0.1}), NotReadyError, "such as @3"),
        (RouteEdit(shares={"@9": 0.1}), NotFoundError, "direction@9"),
        (RouteEdit(pins={"champion": 9}), NotFoundError, "direction@9"),
        (RouteEdit(pins={"champoin": 1}), NotFoundError, "Did you mean 'champion'"),
        (RouteEdit(shadows={"@9": True}), NotFoundError, "direction@9"),
    ],
)
def test_what_cannot_work_is_refused_and_nothing_stored(
    services: LocalServices, edit: RouteEdit, error: type[Exception], words: str
) -> None:
    with pytest.raises(error, match=words):
        change_routes(services, "split", edit)

    assert changes_of(services.metadata, "split").revision == 0


def test_a_version_that_a_gate_refused_may_shadow_and_not_answer(services: LocalServices) -> None:
    record = get_version(services.metadata, "direction", 2)
    services.metadata.write(Put(msgspec.structs.replace(record, ready=False)))

    for edit in (RouteEdit(shares={"@2": 0.1}), RouteEdit(pins={"champion": 2})):
        with pytest.raises(GateError):
            change_routes(services, "btc", edit)
    done = change_routes(services, "btc", RouteEdit(shadows={"@2": True}))

    assert _rows(done)[-1] == ("shadow", "@2", 2, None)


def test_only_an_admin_changes_routes(services: LocalServices) -> None:
    ana = Identity(name="ana", role="writer", token_sha256="", created_at=services.clock.now())
    acting = services.acting(ana)

    with pytest.raises(AccessError, match="takes the role admin"):
        change_routes(acting, "split", RouteEdit(shares={"@2": 0.1}))
    with pytest.raises(AccessError, match="takes the role admin"):
        reset_routes(acting, "split")
    assert show_routes(acting, "split").revision == 0


def test_what_is_pinned_is_neither_deployed_over_nor_rolled_back(services: LocalServices) -> None:
    deploy(services, "btc", version=2)
    change_routes(services, "btc", RouteEdit(pins={"champion": 1}), reason="incident 7")

    pinned = r"pinned to version 1 by tester \(incident 7\)"
    with pytest.raises(ConflictError, match=pinned):
        deploy(services, "btc", version=2)
    with pytest.raises(ConflictError, match=pinned):
        rollback(services, "btc")

    change_routes(services, "btc", RouteEdit(pins={"champion": None}))
    assert rollback(services, "btc").version == 1


def test_applying_other_routes_ends_the_changes_and_says_so(services: LocalServices) -> None:
    change_routes(services, "split", RouteEdit(shares={"@2": 0.2}, pins={"champion": 2}))

    routes = [ps.champion(), ps.challenger(share=0.1, alias="candidate")]
    expected = (
        "deployment/split: what tester changed of its routes at run time ends, since they are "
        "declared anew: share of @2 is 0.2; champion is pinned to 2"
    )
    assert _apply(services, preview_only=True, routes=routes).warnings == (expected,)
    assert changes_of(services.metadata, "split").revision == 1
    plan = _apply(services, routes=routes)

    found = show_routes(services, "split")
    assert plan.warnings == (expected,)
    assert (found.revision, found.changes.is_empty, found.changes.changed_by) == (2, True, "ann")
    assert _rows(found)[1] == ("challenger", "candidate", 2, 0.1)


@pytest.mark.parametrize(
    ("share", "declared"),
    [
        (0.2, {"bandit": ps.Bandit("promo", arms=["candidate"])}),
        (0.6, {"experiment": ps.Experiment("trial", share=0.5)}),
    ],
)
def test_applying_what_the_changes_do_not_go_with_ends_them(
    services: LocalServices, share: float, declared: dict[str, object]
) -> None:
    change_routes(services, "btc", RouteEdit(shares={"@2": share}))
    btc = msgspec.structs.replace(_declared(services, "btc"), **declared)
    project = ps.Project("served", declarations=[btc, _declared(services, "split")])

    plan = apply(services.metadata, project, actor="ann", now=services.clock.now())

    warning, _ = plan.warnings  # the other: nobody is the challenger of ``split``
    assert "ends, since they do not go with what is declared (" in warning
    found = show_routes(services, "btc")
    assert (found.changes.is_empty, found.changes.changed_by) == (True, "ann")


def test_an_order_of_its_own_goes_with_the_share(services: LocalServices) -> None:
    split = split_put(services, "btc", {"@2": 0.3}, salt="experiment trial", reason="trial")
    services.metadata.write(split)
    change_routes(services, "btc", RouteEdit(shares={"@2": 0.2}))
    assert changes_of(services.metadata, "btc").salts == {"@2": "experiment trial"}

    change_routes(services, "btc", RouteEdit(shares={"@2": None}))

    assert changes_of(services.metadata, "btc").salts == {}


def test_applying_anything_else_ends_nothing(services: LocalServices) -> None:
    change_routes(services, "split", RouteEdit(shares={"@2": 0.2}))

    plan = _apply(services, description="two at once", stale="refuse")

    assert not [told for told in plan.warnings if "ends" in told]
    assert changes_of(services.metadata, "split").shares == {"@2": 0.2}


def test_removing_the_deployment_ends_its_changes(services: LocalServices) -> None:
    change_routes(services, "split", RouteEdit(shares={"@2": 0.2}))
    split = _declared(services, "split")

    for declared in ([_declared(services, "btc")], [_declared(services, "btc"), split]):
        project = ps.Project("served", declarations=declared)
        apply(services.metadata, project, actor="ann", now=services.clock.now())

    assert _rows(show_routes(services, "split"))[1] == ("challenger", "challenger", 0, 0.4)


def test_a_change_and_an_application_at_once_are_not_both_done(services: LocalServices) -> None:
    """The change is refused where the deployment was declared anew after it was read."""
    metadata = services.metadata
    write = metadata.write

    def late(*changes: object, **given: object) -> None:
        metadata.write = write  # type: ignore[method-assign]
        _apply(services, routes=[ps.champion(), ps.shadow("candidate")])
        write(*changes, **given)  # type: ignore[arg-type]

    metadata.write = late  # type: ignore[method-assign]
    with pytest.raises(ConflictError, match="deployment/split"):
        change_routes(services, "split", RouteEdit(shares={"@2": 0.2}))

    assert changes_of(metadata, "split").revision == 0


def test_without_changes_the_declaration_is_as_it_was(services: LocalServices) -> None:
    declared = _declared(services, "split")

    assert routed(declared, None) is declared
    assert routed(declared, changes_of(services.metadata, "split")) is declared
