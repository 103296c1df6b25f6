from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec
import pytest

import penstock as ps
from penstock.control import carry_out, deploy_run, due, start
from penstock.deployment import (
    RouteEdit,
    abort_rollout,
    begin_rollout,
    change_routes,
    decide_rollout,
    deploy,
    live_rollout,
    move_rollout,
    refuse_going_around,
    rollouts,
)
from penstock.errors import AccessError, ConflictError, GateError, InputError, NotReadyError
from penstock.plan import Catalogue, apply
from penstock.ports import EVENTS_TOPIC, Put
from penstock.records import AppliedDeclaration, Identity
from penstock.registry import aliases, get_version
from penstock.runtime import open_services
from penstock.scoring import ScoreLog, drain_scores, scores_in
from penstock.spec import fingerprint, key_of, to_document

if TYPE_CHECKING:
    from collections.abc import Iterator

    from penstock.runtime import LocalServices
    from penstock.testing.served_project import ServedProject

pytestmark = pytest.mark.slow


@pytest.fixture
def services(served: ServedProject) -> Iterator[LocalServices]:
    with open_services(served.home) as opened:
        yield opened


def _declare(services: LocalServices, **fields: Any) -> None:  # noqa: ANN401 - as declared
    """Declare ``btc`` otherwise."""
    catalogue = Catalogue.load(services.metadata)
    changed = [
        msgspec.structs.replace(one, **fields) if one.name == "btc" else one
        for one in catalogue.all(ps.Deployment)
    ]
    project = ps.Project("served", declarations=changed)
    apply(services.metadata, project, actor="tester", now=services.clock.now())


def _as(services: LocalServices, name: str, role: Any) -> LocalServices:  # noqa: ANN401 - a role
    who = Identity(name=name, role=role, token_sha256="", created_at=services.clock.now())
    return services.acting(who)


def _change_view(services: LocalServices) -> None:
    """Have the features mean something else."""
    catalogue = Catalogue.load(services.metadata)
    (view,) = catalogue.all(ps.FeatureView)
    changed = msgspec.structs.replace(view, features=(*view.features, ps.last("volume")))
    documents = {key: to_document(one) for key, one in catalogue.declarations.items()}
    documents[key_of(view)] = to_document(changed)
    for record in services.metadata.find(AppliedDeclaration):
        known = msgspec.structs.replace(record, document=documents[record.key])
        if record.key == key_of(view):
            known = msgspec.structs.replace(known, fingerprint=fingerprint(changed))
        services.metadata.write(Put(known))


def _champion(services: LocalServices) -> int:
    return aliases(services.metadata, "direction").champion


def test_a_version_is_checked_asked_again_and_promoted(scored: LocalServices) -> None:
    before = scored.log.end(EVENTS_TOPIC)

    rollout = carry_out(scored, begin_rollout(scored, "btc", version=2))

    assert (rollout.state, rollout.reason) == ("done", "")
    assert rollout.ended_at is not None
    assert _champion(scored) == 2
    assert {one.kind for one in rollout.checks} == {"package", "unit", "replay"}
    assert all(one.passed for one in rollout.checks)
    found = rollout.regression
    assert found is not None
    assert found.rows == 200
    assert found.against == ("direction@1",)
    assert 0 < found.mean_difference <= found.max_difference
    assert found.quantiles[0] <= found.quantiles[1] <= found.quantiles[2] <= found.max_difference
    page = (scored.artifacts.path(found.report) / "report.html").read_text()
    assert found.most[0].prediction_id in page
    assert page.count("<circle") == 200
    told = [entry.payload for entry in scored.log.read(EVENTS_TOPIC, after=before, limit=9)]
    assert sum(b'"deployment.changed"' in one and b'"btc"' in one for one in told) == 1
    actions = [one.action for one in scored.metadata.audit()]
    assert actions[-6:] == [
        "begin rollout", "check rollout", "replay requests", "rollout promoting", "promote",
        "rollout done",
    ]  # fmt: skip
    assert live_rollout(scored.metadata, "direction") is None


@pytest.mark.parametrize(
    ("asked", "named"),
    [
        ({"approve": ps.Approval()}, "an approval"),
        ({"checks": ps.Checks(latency="1s"), "canary": ps.Canary()}, "checks and a canary"),
    ],
)
def test_nobody_goes_around_what_a_deployment_asks_of_a_version(
    services: LocalServices, asked: dict[str, object], named: str
) -> None:
    refuse_going_around(services, "direction")  # nothing is asked

    _declare(services, **asked)

    with pytest.raises(ConflictError, match=f"'btc' declares {named} for a version of 'direction'"):
        refuse_going_around(services, "direction")
    refuse_going_around(services, "other")


def test_the_newest_answers_of_the_champion_are_the_ones_asked_again(
    scored: LocalServices,
) -> None:
    table = scored.tables.scan("scores/btc").collect().sort("scored_at_us", "prediction_id")
    (last,) = scores_in(table.tail(1))
    newer = [
        msgspec.structs.replace(
            last, prediction_id=f"{name}{place:02}", scored_at_us=last.scored_at_us + 1 + place,
            version=version, route=route, features=features,
        )
        for name, version, route, features, count in (
            ("new", 1, "champion", last.features, 3),
            ("other", 2, "challenger", last.features, 2),
            ("shadow", 1, "shadow", last.features, 2),
            ("bare", 1, "champion", (), 1),
        )
        for place in range(count)
    ]  # fmt: skip
    log = ScoreLog(scored.score_log / "btc", scored.ids)
    log.append(newer)
    log.close()
    _declare(scored, checks=ps.Checks(replay=5))

    found = carry_out(scored, begin_rollout(scored, "btc", version=2)).regression

    assert found is not None
    assert found.skipped == {"were stored without their features": 1}
    assert found.rows == 4
    asked = {one.prediction_id for one in found.most}
    assert {"new00", "new01", "new02"} <= asked
    assert not asked & {"other00", "shadow00"}
    assert drain_scores(scored) == 0


def test_a_bound_that_breaks_refuses_the_version(scored: LocalServices) -> None:
    _declare(scored, checks=ps.Checks(mean_difference=0.0001))

    rollout = carry_out(scored, begin_rollout(scored, "btc", version=2))

    assert rollout.state == "refused"
    assert "mean difference: 0.0" in rollout.reason
    assert ", above 0.0001" in rollout.reason
    assert _champion(scored) == 1
    again = carry_out(scored, begin_rollout(scored, "btc", version=1))
    assert again.state == "done"  # the same answers: no difference


def test_a_version_that_does_not_hold_is_asked_nothing(services: LocalServices) -> None:
    _declare(services, checks=ps.Checks(latency="1us"))

    rollout = carry_out(services, begin_rollout(services, "btc", version=1))

    assert (rollout.state, rollout.regression) == ("refused", None)
    assert "latency of 1 row" in rollout.reason
    assert _champion(services) == 0


def test_one_is_under_way_per_model(services: LocalServices) -> None:
    first = begin_rollout(services, "btc", version=1)

    with pytest.raises(ConflictError, match=r"direction@1 is on its way behind 'btc' already"):
        begin_rollout(services, "split", version=2)
    abort_rollout(services, first, reason="a mistake")

    assert begin_rollout(services, "split", version=2).version == 2
    (ended,) = rollouts(services.metadata, "btc")
    assert (ended.state, ended.reason) == ("aborted", "aborted by admin: a mistake")


def test_what_was_aborted_goes_no_further(services: LocalServices) -> None:
    rollout = begin_rollout(services, "btc", version=1)
    abort_rollout(services, rollout)

    assert carry_out(services, rollout).state == "aborted"
    assert _champion(services) == 0
    with pytest.raises(NotReadyError, match="cannot be aborted"):
        abort_rollout(services, rollouts(services.metadata, "btc")[0])


def test_a_version_that_a_gate_refused_begins_nothing(services: LocalServices) -> None:
    record = get_version(services.metadata, "direction", 2)
    services.metadata.write(Put(msgspec.structs.replace(record, ready=False)))

    with pytest.raises(GateError):
        begin_rollout(services, "btc", version=2)

    assert rollouts(services.metadata, "btc") == []


def test_steps_done_again_change_nothing_more(services: LocalServices) -> None:
    rollout = carry_out(services, begin_rollout(services, "btc", version=1))
    entries = len(services.metadata.audit())

    again = carry_out(services, rollout)

    assert again == rollout
    assert len(services.metadata.audit()) == entries


def test_a_promotion_that_was_killed_is_finished_once(services: LocalServices) -> None:
    rollout = begin_rollout(services, "btc", version=1)
    rollout = move_rollout(services, rollout, state="promoting")
    deploy(services, "btc", version=1)  # and here it was killed

    done = carry_out(services, rollout)

    assert done.state == "done"
    assert [one.action for one in services.metadata.audit()].count("promote") == 1


def test_who_declares_an_approval_waits_for_it(services: LocalServices) -> None:
    _declare(services, approve=ps.Approval())
    asking = _as(services, "ana", "admin")
    rollout = carry_out(services, begin_rollout(asking, "btc", version=1))
    name = rollout.rollout_id
    assert rollout.state == "waiting"

    with pytest.raises(AccessError, match="four eyes"):
        decide_rollout(asking, name, approved=True, reason="mine")
    with pytest.raises(AccessError, match="takes the role admin"):
        decide_rollout(_as(services, "bob", "writer"), name, approved=True, reason="")
    with pytest.raises(InputError, match="needs a reason"):
        decide_rollout(_as(services, "eva", "admin"), name, approved=False, reason="")
    assert _champion(services) == 0
    decide_rollout(_as(services, "eva", "admin"), name, approved=True, reason="as expected")
    (called_for,) = [one for one in due(services) if one.pipeline.name == "deploy"]
    assert called_for.run_id == f"{name}-approved"
    done = carry_out(services, rollout)

    assert done.state == "done"
    assert done.approver is not None
    assert (done.approver.name, done.approver.reason) == ("eva", "as expected")
    assert _champion(services) == 1
    entries = {one.action: one for one in services.metadata.audit()}
    assert entries["approve rollout"].actor == "eva"
    assert entries["approve rollout"].difference["why"] == "as expected"
    with pytest.raises(NotReadyError, match="it is done"):
        decide_rollout(_as(services, "eva", "admin"), name, approved=True, reason="")


@pytest.mark.parametrize("what", ["pinned", "declared otherwise"])
def test_what_changed_while_it_waited_ends_it_and_is_in_nobodys_way(
    services: LocalServices, what: str
) -> None:
    deploy(services, "btc", version=1)
    begun = begin_rollout(services, "btc", version=2, approval=ps.Approval(four_eyes=False))
    assert carry_out(services, begun).state == "waiting"
    if what == "pinned":
        change_routes(services, "btc", RouteEdit(pins={"champion": 1}), wait_s=0)
    else:
        _change_view(services)
    approved = decide_rollout(services, begun.rollout_id, approved=True, reason="fine")

    ended = carry_out(services, approved)

    assert ended.state == "failed"
    assert ("is pinned to version 1" if what == "pinned" else "has changed since") in ended.reason
    assert live_rollout(services.metadata, "direction") is None


def test_a_rejection_ends_it(services: LocalServices) -> None:
    approval = ps.Approval(role="writer", four_eyes=False)
    rollout = carry_out(services, begin_rollout(services, "btc", version=1, approval=approval))
    writer = _as(services, "bob", "writer")

    decided = decide_rollout(writer, rollout.rollout_id, approved=False, reason="too many flips")

    assert (decided.state, decided.reason) == ("rejected", "rejected by bob: too many flips")
    assert carry_out(services, rollout).state == "rejected"
    assert _champion(services) == 0


def test_a_rollout_whose_run_was_never_asked_for_is_called_for(services: LocalServices) -> None:
    rollout = begin_rollout(services, "btc", version=1)  # and here it was killed

    (called_for,) = [one for one in due(services) if one.pipeline.name == "deploy"]
    assert called_for == deploy_run(rollout.rollout_id, "btc")
    start(services, called_for)

    assert [one for one in due(services) if one.pipeline.name == "deploy"] == []


def test_features_that_were_not_asked_for_then_are_computed_from_raw(
    scored: LocalServices, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As if version 1 had known only the first feature: the rest comes from the raw tables."""
    whole = carry_out(scored, begin_rollout(scored, "btc", version=2)).regression
    deploy(scored, "btc", version=1)
    monkeypatch.setattr(
        "penstock.control.regressing._features_of",
        lambda _, score: ("momentum.gone",) * len(score.features),
    )

    again = carry_out(scored, begin_rollout(scored, "btc", version=2)).regression

    assert whole is not None
    assert again is not None
    assert (again.rows, again.skipped) == (whole.rows, {})
    assert again.mean_difference == pytest.approx(whole.mean_difference, rel=1e-6)
