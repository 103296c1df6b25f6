from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

import msgspec
import pytest

import penstock as ps
from penstock.control import advance_canaries, carry_out, due
from penstock.deployment import (
    RouteEdit,
    abort_rollout,
    begin_rollout,
    change_routes,
    changes_of,
    deploy,
    get_rollout,
)
from penstock.errors import StateError
from penstock.plan import Catalogue, apply
from penstock.ports import EVENTS_TOPIC, Put
from penstock.records import ProcessCounts, VersionCounts
from penstock.registry import aliases, get_version
from penstock.runtime import open_services

if TYPE_CHECKING:
    from collections.abc import Iterator

    from penstock.records import Rollout
    from penstock.runtime import LocalServices
    from penstock.testing.served_project import ServedProject

pytestmark = pytest.mark.slow

PLAN = ps.Canary(steps=[0.1, 0.5], every="1us", min_scores=50)


@pytest.fixture
def services(served: ServedProject) -> Iterator[LocalServices]:
    with open_services(served.home) as opened:
        deploy(opened, "btc", version=1)
        yield opened


def _counts(process: str, answers: int, *, errors: int = 0, champion: int = 1_000) -> ProcessCounts:
    def counts(number: int, failed: int = 0) -> VersionCounts:
        return VersionCounts(answers=number, errors=failed, buckets=(number, 0), bounds_us=(1_000,))

    versions = {"1": counts(champion), "2": counts(answers, errors)}
    return ProcessCounts(process=process, deployment="btc", versions=versions)


def _begun(services: LocalServices, plan: ps.Canary = PLAN) -> Rollout:
    rollout = carry_out(services, begin_rollout(services, "btc", version=2, canary=plan))
    assert rollout.state == "canary"
    return rollout


def _share(services: LocalServices) -> float:
    return changes_of(services.metadata, "btc").shares.get("@2", 0.0)


def _champion(services: LocalServices) -> int:
    return aliases(services.metadata, "direction").champion


def test_a_version_takes_traffic_step_by_step_and_is_promoted(services: LocalServices) -> None:
    rollout = _begun(services)
    assert (_share(services), _champion(services)) == (0.1, 1)

    assert advance_canaries(services, [_counts("a", 7)]) == []  # what was before does not count
    assert advance_canaries(services, [_counts("a", 56)]) == []
    (second,) = advance_canaries(services, [_counts("a", 57)])
    assert (second.state, second.step, _share(services)) == ("canary", 1, 0.5)
    assert advance_canaries(services, [_counts("a", 60)]) == []
    (last,) = advance_canaries(services, [_counts("a", 110)])

    assert (last.state, _share(services), _champion(services)) == ("promoting", 0.5, 1)
    assert [(one.share, one.answers) for one in last.steps] == [(0.1, 50), (0.5, 50)]
    (called_for,) = [one for one in due(services) if one.pipeline.name == "deploy"]
    assert called_for.run_id == f"{rollout.rollout_id}-canary"
    done = carry_out(services, last)
    assert (done.state, _share(services), _champion(services)) == ("done", 0.0, 2)
    assert [one.action for one in services.metadata.audit()].count("canary step") == 2


@pytest.mark.parametrize("what", ["pinned", "damaged"])
def test_a_promotion_that_cannot_be_gives_the_share_back(
    services: LocalServices, what: str
) -> None:
    _begun(services, msgspec.structs.replace(PLAN, steps=(0.5,)))
    advance_canaries(services, [_counts("a", 0)])
    (last,) = advance_canaries(services, [_counts("a", 50)])
    assert (last.state, _share(services)) == ("promoting", 0.5)
    if what == "pinned":
        change_routes(services, "btc", RouteEdit(pins={"champion": 1}), wait_s=0)
    else:
        package = get_version(services.metadata, "direction", 2).package
        (services.artifacts.path(package) / "manifest.json").write_bytes(b"{")

    with suppress(StateError):
        carry_out(services, last)

    ended = get_rollout(services.metadata, last.rollout_id)
    assert (ended.state, _share(services), _champion(services)) == ("failed", 0.0, 1)


def test_what_a_process_counted_before_it_was_killed_counts(services: LocalServices) -> None:
    _begun(services)

    advance_canaries(services, [_counts("a", 0)])
    advance_canaries(services, [_counts("a", 30)])
    (moved,) = advance_canaries(services, [_counts("b", 20)])  # another process, from 0

    assert (moved.step, moved.steps[0].answers) == (1, 50)


def test_a_breach_brings_all_traffic_back_at_once(services: LocalServices) -> None:
    rollout = _begun(services)
    before = services.log.end(EVENTS_TOPIC)
    advance_canaries(services, [_counts("a", 0)])

    (moved,) = advance_canaries(services, [_counts("a", 3, errors=2)])

    assert (moved.state, _share(services), _champion(services)) == ("returned", 0.0, 1)
    assert moved.reason.startswith("errors: 2 of 50 (4.00%)")
    assert moved.steps[-1].answers == 3
    assert moved.ended_at is not None
    told = [entry.payload for entry in services.log.read(EVENTS_TOPIC, after=before, limit=9)]
    assert sum(b'"deployment.changed"' in one and b'"returned":"2"' in one for one in told) == 1
    assert [one.action for one in services.metadata.audit()][-2:] == [
        "return canary", "rollout returned",
    ]  # fmt: skip
    assert advance_canaries(services, [_counts("a", 99)]) == []
    assert carry_out(services, rollout).state == "returned"


def test_a_return_that_was_killed_before_it_was_told_is_told_once(
    services: LocalServices,
) -> None:
    rollout = _begun(services)
    half = msgspec.structs.replace(rollout, state="returning", reason="errors")
    services.metadata.write(Put(half, expected=rollout))
    before = services.log.end(EVENTS_TOPIC)

    (moved,) = advance_canaries(services, [])
    advance_canaries(services, [])

    assert moved.state == "returned"
    assert services.log.end(EVENTS_TOPIC) == before + 1


def test_a_step_takes_its_time_and_its_answers(services: LocalServices) -> None:
    _begun(services, msgspec.structs.replace(PLAN, every="1h"))
    advance_canaries(services, [_counts("a", 0)])

    assert advance_canaries(services, [_counts("a", 5_000)]) == []
    assert _share(services) == 0.1


def test_a_step_without_answers_is_called_off_where_that_is_declared(
    services: LocalServices,
) -> None:
    _begun(services, msgspec.structs.replace(PLAN, most="1us"))

    (moved,) = advance_canaries(services, [_counts("a", 0)])

    assert (moved.state, _share(services)) == ("returned", 0.0)
    assert "0 answers within 1us, 50 needed" in moved.reason


def test_whoever_changes_the_share_by_hand_ends_it(services: LocalServices) -> None:
    _begun(services)
    change_routes(services, "btc", RouteEdit(shares={"@2": 0.3}), wait_s=0)

    (moved,) = advance_canaries(services, [_counts("a", 0)])

    assert (moved.state, _share(services)) == ("returned", 0.0)
    assert "somebody changed the routes of 'btc'" in moved.reason


def test_another_champion_ends_it(services: LocalServices) -> None:
    _begun(services)
    deploy(services, "btc", version=2)

    (moved,) = advance_canaries(services, [_counts("a", 0)])

    assert moved.state == "returned"
    assert "direction@2 has become the champion" in moved.reason


def _declared_no_more(services: LocalServices) -> None:
    known = Catalogue.load(services.metadata).all(ps.Deployment)
    others = [one for one in known if one.name != "btc"]
    project = ps.Project("served", declarations=others)
    apply(services.metadata, project, actor="tester", now=services.clock.now())


def test_a_deployment_that_is_declared_no_more_ends_its_canary(services: LocalServices) -> None:
    _begun(services)
    _declared_no_more(services)

    (moved,) = advance_canaries(services, [_counts("a", 0)])

    assert (moved.state, _share(services)) == ("returned", 0.0)
    assert advance_canaries(services, []) == []


def test_a_canary_of_what_is_declared_no_more_can_be_aborted(services: LocalServices) -> None:
    rollout = _begun(services)
    _declared_no_more(services)

    ended = abort_rollout(services, get_rollout(services.metadata, rollout.rollout_id))

    assert ended.state == "aborted"


def test_a_step_that_the_other_routes_leave_no_room_for_ends_it(services: LocalServices) -> None:
    """One that cannot go on is in the way of no other: whoever looks goes on to the next."""
    _begun(services)
    change_routes(services, "btc", RouteEdit(shares={"candidate": 0.6}), wait_s=0)
    advance_canaries(services, [_counts("a", 0)])

    (moved,) = advance_canaries(services, [_counts("a", 50)])

    assert (moved.state, _share(services), _champion(services)) == ("returned", 0.0, 1)
    assert "share 1.1 of the traffic" in moved.reason
    assert changes_of(services.metadata, "btc").shares == {"candidate": 0.6}


def test_an_abort_gives_the_share_back(services: LocalServices) -> None:
    rollout = _begun(services)

    ended = abort_rollout(services, get_rollout(services.metadata, rollout.rollout_id))

    assert (ended.state, _share(services), _champion(services)) == ("aborted", 0.0, 1)


def test_a_first_version_has_nobody_to_be_compared_with(served: ServedProject) -> None:
    with open_services(served.home) as services:
        rollout = carry_out(services, begin_rollout(services, "btc", version=2, canary=PLAN))

        assert (rollout.state, _champion(services)) == ("done", 2)
