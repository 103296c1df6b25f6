from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec
import pytest

import penstock as ps
from penstock.control import (
    advance_experiment,
    due,
    experiment_page,
    experiments,
    find_experiment,
    sentence,
    stop_experiment,
    waiting_for,
)
from penstock.deployment import RouteEdit, change_routes, changes_of, deploy
from penstock.errors import AccessError, NotFoundError, NotReadyError
from penstock.monitoring import drain_observations
from penstock.plan import Catalogue, routed
from penstock.ports import EVENTS_TOPIC, Audit, Delete, Put
from penstock.records import ExperimentState, Identity
from penstock.registry import aliases, point
from penstock.runtime import open_services
from penstock.scoring import RouteTable, drain_scores
from penstock.testing.traffic import declare, traffic

if TYPE_CHECKING:
    from collections.abc import Iterator

    from penstock.runtime import LocalServices
    from penstock.testing.served_project import ServedProject

pytestmark = pytest.mark.slow

PLAN = ps.Experiment("trial", version=2, metric="outcome", min_scores=100, expected_scores=1_000)


@pytest.fixture
def services(served: ServedProject) -> Iterator[LocalServices]:
    with open_services(served.home) as opened:
        deploy(opened, "btc", version=1)
        yield opened


def _begun(services: LocalServices, **changed: object) -> ExperimentState:
    declare(services, experiment=msgspec.structs.replace(PLAN, **changed))
    state = _look(services)
    assert state.stage == "running"
    return state


def _look(services: LocalServices) -> ExperimentState:
    drain_scores(services)
    drain_observations(services)
    state, waits = advance_experiment(services, "btc", to_us=services.clock.now_us())
    assert state is not None, waits
    return state


def same(_: int) -> float:
    return 0.5


def _share(services: LocalServices) -> float:
    return changes_of(services.metadata, "btc").shares.get("@2", 0.0)


def _champion(services: LocalServices) -> int:
    return aliases(services.metadata, "direction").champion


def test_a_better_version_wins_and_is_promoted_with_an_entry_for_each_move(
    services: LocalServices,
) -> None:
    begun = _begun(services, on_win="promote")
    assert (begun.version, begun.champion, _share(services)) == (2, 1, 0.5)
    before = services.log.end(EVENTS_TOPIC)

    answered = traffic(services, lambda version: 0.3 if version == 1 else 0.6, scores=1_500)
    state = _look(services)

    assert abs(answered[2] / 1_500 - 0.5) < 0.1
    assert (state.verdict, state.stage, _champion(services), _share(services)) == (
        "win", "ended", 2, 0.0,
    )  # fmt: skip
    look = state.looks[-1]
    assert look.low is not None
    assert look.low > 0
    assert look.difference == pytest.approx(0.3, abs=0.1)
    assert look.tried.scores == look.tried.observed == answered[2]
    assert "direction@2 is better: its mean outcome by +0." in state.reason
    assert state.outcome == "direction@2 is the champion"
    actions = [one.action for one in services.metadata.audit()]
    assert actions[-6:] == [
        "begin experiment", "experiment running", "experiment promoting", "promote",
        "experiment ending", "experiment ended",
    ]  # fmt: skip
    told = [entry.payload for entry in services.log.read(EVENTS_TOPIC, after=before, limit=99)]
    assert sum(b'"experiment.ended"' in one for one in told) == 1
    assert changes_of(services.metadata, "btc").salts == {}
    again, waits = advance_experiment(services, "btc", to_us=services.clock.now_us())
    assert (again, waits) == (None, "'trial' has been; another question takes another name")


def test_a_worse_version_loses_and_all_traffic_returns(services: LocalServices) -> None:
    _begun(services)

    traffic(services, lambda version: 0.6 if version == 1 else 0.3, scores=1_500)
    state = _look(services)

    assert (state.verdict, state.stage, _champion(services), _share(services)) == (
        "loss", "ended", 1, 0.0,
    )  # fmt: skip
    assert state.reason.startswith("direction@2 is worse: its mean outcome by -0.")
    assert "Lost: direction@2 is worse" in sentence(state)


def test_of_a_loss_the_smaller_is_better(services: LocalServices) -> None:
    _begun(services, metric="error")  # 0.5 says yes, so the error is the rate of 0

    traffic(services, lambda version: 0.3 if version == 1 else 0.6, scores=1_500)
    state = _look(services)

    assert state.verdict == "win"
    assert state.reason.startswith("direction@2 is better: its mean error by -0.")
    assert state.looks[-1].high is not None
    assert state.looks[-1].high < 0


def test_without_a_difference_it_goes_on_until_its_days_are_over(services: LocalServices) -> None:
    state = _begun(services)
    for seed in range(3):
        traffic(services, same, scores=500, seed=seed + 1)
        state = _look(services)
        assert (state.stage, state.verdict) == ("running", "")
    assert sentence(state) == "Runs: no difference is sure yet."
    assert len(state.looks) == 3

    late_us = state.from_us + 31 * 86_400_000_000
    ended, _ = advance_experiment(services, "btc", to_us=late_us)

    assert ended is not None
    assert (ended.verdict, ended.stage, _share(services)) == ("undecided", "ended", 0.0)


def test_the_same_look_is_taken_once(services: LocalServices) -> None:
    _begun(services)
    traffic(services, same, scores=300)
    drain_scores(services)
    to_us = services.clock.now_us()

    first, _ = advance_experiment(services, "btc", to_us=to_us)
    second, _ = advance_experiment(services, "btc", to_us=to_us)

    assert first == second
    assert first is not None
    assert len(first.looks) == 1


def test_the_traffic_stays_split_where_somebody_is_to_decide(services: LocalServices) -> None:
    _begun(services)  # on_win="report"
    traffic(services, lambda version: 0.3 if version == 1 else 0.6, scores=1_500)
    state = _look(services)
    assert (state.stage, state.verdict, _share(services)) == ("decided", "win", 0.5)
    assert _look(services) == state

    done = stop_experiment(services, "trial", winner=True, reason="as hoped")

    assert (done.stage, done.verdict, _champion(services), _share(services)) == (
        "ended", "win", 2, 0.0,
    )  # fmt: skip
    assert done.reason.endswith("as hoped")
    with pytest.raises(NotReadyError, match="has ended"):
        stop_experiment(services, "btc/trial", winner=False)


def test_it_is_stopped_by_hand_without_a_winner_by_an_admin_alone(
    services: LocalServices,
) -> None:
    _begun(services)
    with pytest.raises(NotFoundError, match="trial"):
        stop_experiment(services, "trail", winner=False)
    ana = Identity(name="ana", role="writer", token_sha256="", created_at=services.clock.now())
    with pytest.raises(AccessError, match="takes the role admin"):
        stop_experiment(services.acting(ana), "trial", winner=False)

    done = stop_experiment(services, "trial", winner=False)

    assert (done.verdict, done.stage, _share(services), _champion(services)) == (
        "stopped", "ended", 0.0, 1,
    )  # fmt: skip


def test_an_arm_gains_nothing_by_failing(services: LocalServices) -> None:
    """Where the tried version fails the champion answers, and the score counts as the tried's."""
    _begun(services)

    traffic(services, same, fails=lambda version: version == 2)
    look = _look(services).looks[-1]

    assert look.tried.scores > 400
    assert look.tried.answered == 0
    assert look.champion.answered == look.champion.scores


def test_a_lost_part_of_one_arm_makes_it_invalid(services: LocalServices) -> None:
    _begun(services)

    def observed(version: int) -> float:
        return 0.3 if version == 2 else 1.0

    traffic(services, same, scores=2_000, entities=2_000, observed=observed)
    state = _look(services)

    assert (state.verdict, state.stage, _share(services)) == ("invalid", "ended", 0.0)
    assert "entities with an outcome do not fall to the arms as they should" in state.reason
    assert state.looks[-1].ratio > 0.1


def test_a_guardrail_ends_it_before_the_metric_says_anything(services: LocalServices) -> None:
    rail = ps.Guardrail(metric="latency_ms", worse=0.5)
    _begun(services, guardrails=[rail])

    traffic(services, same)  # version 2 takes 2 ms, version 1 takes 1
    state = _look(services)

    (seen,) = state.looks[-1].guardrails
    assert seen.difference == pytest.approx(1.0, abs=0.3)
    assert (state.verdict, state.stage, _share(services)) == ("loss", "ended", 0.0)
    assert state.reason.startswith("latency_ms is surely worse than allowed: +")


def test_a_guardrail_of_latency_needs_no_outcome(services: LocalServices) -> None:
    _begun(services, guardrails=[ps.Guardrail(metric="latency_ms", worse=0.5)])

    traffic(services, same, observed=lambda _: 0.0)
    state = _look(services)

    assert state.looks[-1].tried.observed == 0
    assert (state.verdict, state.stage, _share(services)) == ("loss", "ended", 0.0)


def test_a_guardrail_that_few_scores_tell_of_ends_nothing(services: LocalServices) -> None:
    rail = ps.Guardrail(metric="measures.revenue", better="smaller")
    _begun(services, guardrails=[rail], alpha=0.4, expected_scores=20)
    traffic(services, same)

    traffic(services, same, scores=40, seed=2, revenue=lambda version: 0.1 if version == 1 else 99)
    state = _look(services)

    (seen,) = state.looks[-1].guardrails
    assert seen.low is not None
    assert seen.low > 0
    assert (seen.breached, state.stage) == (False, "running")


def test_what_was_observed_beside_the_outcome_is_compared_too(services: LocalServices) -> None:
    rail = ps.Guardrail(metric="measures.complaints")
    _begun(services, metric="measures.revenue", guardrails=[rail])
    traffic(services, same, scores=200, seed=9)  # without revenue: they count for nothing
    assert _look(services).looks[-1].tried.observed == 0

    answered = traffic(services, same, scores=2_000, revenue=lambda version: 10.0 * version)
    state = _look(services)

    assert state.verdict == "win"
    assert state.reason.startswith("direction@2 is better: its mean measures.revenue by +")
    look = state.looks[-1]
    assert look.tried.observed == answered[2]
    assert look.tried.mean == pytest.approx(20.0, abs=2)
    assert look.guardrails[0].difference is None


def test_few_entities_decide_nothing_however_many_scores_they_have(
    services: LocalServices,
) -> None:
    _begun(services)

    traffic(services, lambda version: 0.1 if version == 1 else 0.9, scores=2_000, entities=20)
    state = _look(services)

    assert (state.stage, state.verdict) == ("running", "")
    assert "counts as" in sentence(state)


@pytest.mark.parametrize("what", ["champion", "routes", "declared", "otherwise"])
def test_what_changes_under_it_ends_it_without_a_verdict(
    services: LocalServices, what: str
) -> None:
    _begun(services)
    if what == "champion":
        deploy(services, "btc", version=2)
    elif what == "routes":
        change_routes(services, "btc", RouteEdit(shares={"@2": 0.1}))
    elif what == "declared":
        declare(services, experiment=None)
    else:
        declare(services, experiment=msgspec.structs.replace(PLAN, alpha=0.2))

    state = _look(services)

    assert (state.verdict, state.stage, _share(services)) == ("disturbed", "ended", 0.0)
    assert state.reason in {
        "direction@2 has become the champion meanwhile",
        "the routes of 'btc' were changed meanwhile",
        "it is declared no more",
        "it was declared otherwise; another question takes another name",
    }


def test_what_was_changed_and_changed_back_ends_it_too(services: LocalServices) -> None:
    _begun(services)
    change_routes(services, "btc", RouteEdit(shares={"@2": 0.9}), wait_s=0)
    change_routes(services, "btc", RouteEdit(shares={"@2": 0.5}), wait_s=0)

    state = _look(services)

    assert (state.verdict, state.stage, _share(services)) == ("disturbed", "ended", 0.0)
    assert state.reason == "the routes of 'btc' were changed meanwhile, and changed back"


def test_so_does_a_champion_that_was_away_for_a_while(services: LocalServices) -> None:
    _begun(services)
    deploy(services, "btc", version=2, wait_s=0)
    deploy(services, "btc", version=1, wait_s=0)

    state = _look(services)

    assert (state.verdict, state.stage) == ("disturbed", "ended")
    assert state.reason == "direction@1 was not the champion for a while"


def test_what_sends_nobody_to_another_version_leaves_it_alone(services: LocalServices) -> None:
    _begun(services)
    change_routes(services, "btc", RouteEdit(shadows={"@2": True}), wait_s=0)
    change_routes(services, "btc", RouteEdit(shadows={"@2": None}, pins={"previous": 1}), wait_s=0)
    point(
        services.metadata, "direction", alias="challenger", version=2, actor="tester",
        now=services.clock.now(),
    )  # fmt: skip

    assert _look(services).stage == "running"


def test_a_version_takes_its_share_and_the_rest_only_as_the_deployment_asks(
    services: LocalServices,
) -> None:
    declare(services, experiment=PLAN, checks=ps.Checks(memory_mb=0.001))
    refused, waits = advance_experiment(services, "btc", to_us=services.clock.now_us())
    assert refused is None
    assert waits.startswith("direction@2 does not hold what 'btc' asks: memory")
    assert _share(services) == 0.0

    declare(services, experiment=PLAN, checks=ps.Checks(), canary=ps.Canary())
    assert _look(services).stage == "running"
    with pytest.raises(NotReadyError, match="by an approval or a canary"):
        stop_experiment(services, "trial", winner=True)
    assert stop_experiment(services, "trial", winner=False).stage == "ended"


def test_it_says_what_it_waits_for(services: LocalServices) -> None:
    cases: list[tuple[dict[str, Any], str]] = [
        ({"version": 1}, "@1 is version 1, which is the champion"),
        ({"version": 0, "alias": "challenger"}, "no version of 'direction' is challenger"),
        ({"version": 7}, "There is no version 'direction@7'"),
    ]
    for fields, words in cases:
        declare(services, experiment=msgspec.structs.replace(PLAN, **fields))
        state, waits = advance_experiment(services, "btc", to_us=services.clock.now_us())
        assert state is None
        assert waits.startswith(words)
        declared = Catalogue.load(services.metadata).deployment("btc")
        assert waiting_for(services, declared) == waits
    declare(services, experiment=PLAN)
    declared = Catalogue.load(services.metadata).deployment("btc")
    assert waiting_for(services, declared) == ""
    assert experiments(services.metadata) == []
    with pytest.raises(NotFoundError):
        find_experiment(services.metadata, "trial")


class Killed(Exception):  # noqa: N818 - what a kill -9 looks like from inside
    pass


@pytest.mark.parametrize("write", [1, 2, 3, 4, 5])
def test_who_is_killed_after_any_write_is_made_up_for(
    services: LocalServices, monkeypatch: pytest.MonkeyPatch, write: int
) -> None:
    """The writes: the split, the count, the verdict, the alias, the share's return."""
    declare(services, experiment=msgspec.structs.replace(PLAN, on_win="promote"))
    before, writes = services.log.end(EVENTS_TOPIC), 0
    real = services.metadata.write

    def dying(*changes: Put | Delete, audit: Audit | None = None) -> None:
        nonlocal writes
        writes += 1
        real(*changes, audit=audit)
        if writes == write:
            raise Killed

    def looks() -> None:
        for seed in (1, 2, 3):
            found = experiments(services.metadata)
            if not found or found[0].is_live:
                _look(services)
                traffic(services, lambda version: 0.3 * version, scores=800, seed=seed)

    monkeypatch.setattr(services.metadata, "write", dying)
    with pytest.raises(Killed):
        looks()
    monkeypatch.setattr(services.metadata, "write", real)
    looks()

    (state,) = experiments(services.metadata)
    assert (state.stage, state.verdict, _champion(services), _share(services)) == (
        "ended", "win", 2, 0.0,
    )  # fmt: skip
    actions = [one.action for one in services.metadata.audit()]
    for action in (
        "begin experiment", "experiment promoting", "experiment ending", "experiment ended",
    ):  # fmt: skip
        assert actions.count(action) == 1, action
    told = [entry.payload for entry in services.log.read(EVENTS_TOPIC, after=before, limit=99)]
    assert sum(b'"experiment.ended"' in one for one in told) == 1


def test_it_is_due_once_in_each_interval_and_no_more_when_it_has_ended(
    services: LocalServices,
) -> None:
    def called_for(now_us: int) -> list[str]:
        return [one.run_id for one in due(services, now_us=now_us)
                if one.pipeline.name == "experiment"]  # fmt: skip

    assert called_for(10**15) == []
    declare(services, experiment=PLAN)
    assert called_for(10**15) == ["experiment-btc-20010909T0140"]
    _look(services)
    assert called_for(10**15 + 600_000_000) == ["experiment-btc-20010909T0150"]
    stop_experiment(services, "trial", winner=False)
    assert called_for(10**15 + 1_200_000_000) == []


def test_halves_of_two_experiments_say_nothing_of_each_other(services: LocalServices) -> None:
    halves: list[set[int]] = []
    for name in ("one", "two"):
        _begun(services, name=name)
        declared = Catalogue.load(services.metadata).deployment("btc")
        table = RouteTable(routed(declared, changes_of(services.metadata, "btc")))
        halves.append({key for key in range(4_000) if table.by_share(f"E{key}").name != "champion"})
        stop_experiment(services, name, winner=False)

    both, first = len(halves[0] & halves[1]), len(halves[0])
    assert abs(both / first - 0.5) < 0.04


def test_its_page_says_what_was_seen(services: LocalServices) -> None:
    begun = _begun(services)
    assert "nothing was looked at yet" in experiment_page(begun).lower()
    for seed in range(3):
        traffic(services, same, scores=400, seed=seed)
        _look(services)

    page = experiment_page(find_experiment(services.metadata, "btc/trial"))

    assert "Runs: no difference is sure yet." in page
    assert page.count("<polygon") == 1
    assert page.count("as they should") >= 2
    assert "direction@2 (tried)" in page
