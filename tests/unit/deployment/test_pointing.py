"""The challenger is named by hand: checked, audited; and routes that lead nowhere are told."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import msgspec
import pytest

import penstock as ps
from penstock.deployment import RouteEdit, change_routes, deploy, point_alias
from penstock.errors import AccessError, GateError, InputError, NotFoundError, UnavailableError
from penstock.plan import Catalogue, apply, preview
from penstock.ports import Put
from penstock.records import Identity, ServingStatus
from penstock.registry import aliases, get_version
from penstock.runtime import open_services
from penstock.scoring import Fleet, build_fleet, read_target

if TYPE_CHECKING:
    from collections.abc import Iterator

    from penstock.runtime import LocalServices
    from penstock.testing.served_project import ServedProject

MODEL = "direction"


@pytest.fixture
def services(served: ServedProject) -> Iterator[LocalServices]:
    with open_services(served.home, actor="tester") as opened:
        deploy(opened, "btc", version=1)
        yield opened


def _project(services: LocalServices, **changed: object) -> ps.Project:
    """The project with the deployment ``btc`` alone, declared otherwise."""
    btc = Catalogue.load(services.metadata).deployment("btc")
    return ps.Project("served", declarations=[msgspec.structs.replace(btc, **changed)])


def _fleet(services: LocalServices, before: Fleet) -> Fleet:
    return build_fleet(services, before, read_target(services.metadata, before.target))


def test_the_challenger_is_packaged_checked_and_audited(
    services: LocalServices, served: ServedProject
) -> None:
    packaged = get_version(services.metadata, MODEL, 2)
    services.metadata.write(Put(served.registered[1], expected=packaged))

    after = point_alias(services, MODEL, "challenger", 2, reason="try it")

    assert (after.challenger, after.champion) == (2, 1)
    # The fastest is measured anew, and two that are about as fast change places.
    assert {get_version(services.metadata, MODEL, 2).engine, packaged.engine} <= {"onnx", "trees"}
    *_, made, entry = services.metadata.audit()
    assert (made.action, entry.action, entry.actor) == ("package", "point alias", "tester")
    assert entry.difference == {"challenger": [0, 2], "reason": "try it"}
    fleet = _fleet(services, Fleet())
    assert fleet.versions["split/challenger"] == "direction@2"
    assert point_alias(services, MODEL, "challenger", 2) == after

    assert point_alias(services, MODEL, "challenger", 0).challenger == 0
    assert "split/challenger" not in _fleet(services, fleet).versions


def test_what_must_not_answer_is_no_challenger(services: LocalServices) -> None:
    before = aliases(services.metadata, MODEL)
    refused = get_version(services.metadata, MODEL, 2)
    services.metadata.write(Put(msgspec.structs.replace(refused, ready=False), expected=refused))
    ana = Identity(name="ana", role="writer", token_sha256="", created_at=services.clock.now())

    with pytest.raises(GateError, match="direction@2 is not ready"):
        point_alias(services, MODEL, "challenger", 2)
    with pytest.raises(NotFoundError, match="direction@9"):
        point_alias(services, MODEL, "candidate", 9)
    with pytest.raises(NotFoundError, match="Did you mean 'challenger'"):
        point_alias(services, MODEL, "challanger", 1)
    with pytest.raises(NotFoundError, match="Did you mean 'direction'"):
        point_alias(services, "directon", "challenger", 1)
    with pytest.raises(InputError, match="moves by what is deployed"):
        point_alias(services, MODEL, "champion", 1)
    with pytest.raises(AccessError, match="takes the role admin"):
        point_alias(services.acting(ana), MODEL, "challenger", 1)

    assert aliases(services.metadata, MODEL) == before


def test_routes_that_lead_nowhere_are_told_before_and_when_applied(services: LocalServices) -> None:
    routes = [
        ps.champion(),
        ps.challenger(share=0.1),
        ps.challenger(share=0.1, version=7),
        ps.by_header("x-group", "old", alias="previous"),
        ps.shadow("candidate"),
    ]
    project = _project(services, routes=routes)
    btc = "deployment/btc: the route to"
    told = (
        (
            f"{btc} challenger leads nowhere, since no version of 'direction' is challenger yet; "
            "'penstock models alias direction@N challenger' names one"
        ),
        f"{btc} @7 leads nowhere, since there is no version 7 of 'direction'",
        f"{btc} previous leads nowhere, since no version of 'direction' is previous yet",
    )
    now = services.clock.now()
    assert preview(services.metadata, project, now=now).warnings == told
    assert apply(services.metadata, project, actor="ann", now=now).warnings == told
    bandit = _project(services, routes=[ps.champion()], bandit=ps.Bandit("b", arms=["challenger"]))
    assert preview(services.metadata, bandit, now=now).warnings == told[:1]
    point_alias(services, MODEL, "challenger", 2)
    assert preview(services.metadata, bandit, now=now).warnings == ()


def test_a_route_to_a_version_that_there_is_not_is_no_error_and_leads_there_later(
    services: LocalServices,
) -> None:
    routes = [ps.champion(), ps.challenger(share=0.1, version=7), ps.shadow(version=8)]
    project = _project(services, routes=routes)
    apply(services.metadata, project, actor="ann", now=services.clock.now())

    before = _fleet(services, Fleet())

    assert before.errors == {}
    assert before.versions == {"btc/champion": "direction@1"}
    made = msgspec.structs.replace(get_version(services.metadata, MODEL, 2), version=7)
    services.metadata.write(Put(made, expected=None))
    # Its package is of another version here, but it is looked for.
    assert set(_fleet(services, before).errors) | set(_fleet(services, before).versions) == {
        "btc/champion", "btc/challenger",
    }  # fmt: skip


def test_a_serving_process_that_does_not_follow_is_named(services: LocalServices) -> None:
    status = ServingStatus(
        process_id=os.getpid(),
        address="http://127.0.0.1:1",
        versions={},
        revision={MODEL: aliases(services.metadata, MODEL).revision},
        at=services.clock.now(),
    )
    services.metadata.write(Put(status))
    named = rf"of '\w+' have not taken that in within 0 s, the first being {os.getpid()} at http://"

    with pytest.raises(UnavailableError, match=f"'challenger' of 'direction' is set.*{named}"):
        point_alias(services, MODEL, "challenger", 2, wait_s=0)
    with pytest.raises(UnavailableError, match=f"routes are changed.*{named}"):
        change_routes(services, "split", RouteEdit(pins={"champion": 1}), wait_s=0)

    assert aliases(services.metadata, MODEL).challenger == 2
