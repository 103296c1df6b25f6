from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
import pytest

import penstock as ps
from penstock.control import advance_bandit, bandits, due, find_bandit, prune_scores
from penstock.deployment import (
    RouteEdit,
    begin_rollout,
    change_routes,
    changes_of,
    deploy,
    reset_routes,
)
from penstock.errors import ConflictError, NotFoundError
from penstock.monitoring import drain_observations
from penstock.runtime import open_services
from penstock.scoring import drain_scores
from penstock.testing.traffic import declare, traffic

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from penstock.records import BanditState
    from penstock.runtime import LocalServices
    from penstock.testing.served_project import ServedProject

pytestmark = pytest.mark.slow

DAY_US = 86_400_000_000
PLAN = ps.Bandit("promo", arms=[2], floor=0.1, min_scores=50)


@pytest.fixture
def services(served: ServedProject) -> Iterator[LocalServices]:
    with open_services(served.home) as opened:
        deploy(opened, "btc", version=1)
        yield opened


def _look(services: LocalServices) -> BanditState:
    drain_scores(services)
    drain_observations(services)
    state = advance_bandit(services, "btc", to_us=services.clock.now_us())
    assert state is not None
    return state


def _shares(services: LocalServices) -> dict[str, float]:
    return dict(changes_of(services.metadata, "btc").shares)


def _played(
    services: LocalServices, rate: Callable[[int], float], *, rounds: int = 6, scores: int = 300
) -> dict[int, int]:
    total: dict[int, int] = {}
    for seed in range(rounds):
        answered = traffic(services, rate, scores=scores, seed=seed)
        for version, count in answered.items():
            total[version] = total.get(version, 0) + count
        _look(services)
    return total


def test_the_best_arm_gets_most_traffic_and_the_others_keep_their_floor(
    services: LocalServices,
) -> None:
    def rate(version: int) -> float:
        return {1: 0.3, 2: 0.5}[version]

    declare(services, bandit=PLAN)
    first = _look(services)
    assert _shares(services) == {"@2": 0.5}
    assert [(arm.target, arm.version, arm.chance) for arm in first.arms] == [
        ("champion", 1, None), ("@2", 2, None),
    ]  # fmt: skip

    total = _played(services, rate, rounds=20, scores=120)
    state = find_bandit(services.metadata, "btc/promo")

    assert _shares(services)["@2"] == pytest.approx(0.9, abs=0.02)
    champion, other = state.arms
    assert champion.share >= 0.1
    assert champion.share + other.share == pytest.approx(1.0)
    assert other.chance is not None
    assert other.chance > 0.95
    best, asked = 0.5, sum(total.values())
    regret = sum(count * (best - rate(version)) for version, count in total.items())
    assert regret < 0.6 * asked * (best - 0.4)  # of even shares
    for arm in state.arms:
        assert arm.weighed is not None
        assert arm.error is not None
        assert abs(arm.weighed - rate(arm.version)) < 4 * arm.error
    assert len(state.updates) > 2
    assert all(update.shares["@2"] <= 0.9 for update in state.updates)


def test_arms_that_bring_the_same_share_alike_on_the_whole(services: LocalServices) -> None:
    declare(services, bandit=PLAN)
    _look(services)

    _played(services, lambda version: 0.4 + 0 * version)

    assert 0.1 <= _shares(services)["@2"] <= 0.9
    assert find_bandit(services.metadata, "promo").arms[0].mean == pytest.approx(0.4, abs=0.08)


def test_a_loss_is_the_better_the_smaller(services: LocalServices) -> None:
    declare(services, bandit=msgspec.structs.replace(PLAN, metric="error"))  # 0.5 says yes
    _look(services)

    _played(services, lambda version: {1: 0.8, 2: 0.4}[version])

    assert _shares(services)["@2"] == pytest.approx(0.1, abs=0.01)


def test_a_measure_is_a_reward_as_well(services: LocalServices) -> None:
    declare(services, bandit=msgspec.structs.replace(PLAN, metric="measures.revenue"))
    _look(services)

    traffic(services, lambda version: 0.5 + 0 * version, scores=600, revenue=lambda v: 4.0 / v)
    state = _look(services)

    assert _shares(services)["@2"] == pytest.approx(0.1, abs=0.01)
    assert state.arms[0].weighed == pytest.approx(4.0, abs=0.8)


def test_what_was_learned_of_removed_scores_stays(
    services: LocalServices, monkeypatch: pytest.MonkeyPatch
) -> None:
    declare(services, bandit=PLAN, log=ps.ScoreLog(keep="1d"))
    _look(services)
    _played(services, lambda version: 0.2 + 0.2 * version, rounds=3)
    first_us = services.clock.now_us()
    _played(services, lambda version: 0.2 + 0.2 * version, rounds=2)
    second_us = services.clock.now_us()
    _played(services, lambda version: 0.2 + 0.2 * version, rounds=2)
    before = _look(services)

    def removed(below_us: int) -> int:
        (told,) = prune_scores(services, now_us=below_us + DAY_US)
        return told.rows

    def seen() -> BanditState:
        found = _look(services)
        for arm, was in zip(found.arms, before.arms, strict=True):
            assert (arm.scores, arm.entities) == (was.scores, was.entities)
            for name in ("mean", "weighed", "error", "chance"):
                assert getattr(arm, name) == pytest.approx(getattr(was, name), rel=1e-9)
        return found

    def killed(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    assert removed(first_us) == 900
    seen()
    with monkeypatch.context() as patch:
        patch.setattr(services.tables, "remove", killed)
        with pytest.raises(KeyboardInterrupt):
            removed(second_us)
    seen()  # they are summed up, and still there
    assert removed(second_us) == 600
    seen()
    assert removed(services.clock.now_us()) == 600
    assert seen().arms[1].share == before.arms[1].share
    (kept,) = services.tables.names("rewards/")
    assert "E1" not in str(services.tables.scan(kept).collect().rows())

    declare(services, bandit=msgspec.structs.replace(PLAN, floor=0.2), log=ps.ScoreLog(keep="1d"))
    assert [arm.scores for arm in _look(services).arms] == [0, 0]


def test_the_same_look_sets_the_same_shares_and_the_next_nothing_without_rewards(
    services: LocalServices,
) -> None:
    declare(services, bandit=PLAN)
    _look(services)
    traffic(services, lambda version: version / 4, scores=500)
    drain_scores(services)
    drain_observations(services)
    to_us = services.clock.now_us()

    first = advance_bandit(services, "btc", to_us=to_us)
    again = advance_bandit(services, "btc", to_us=to_us)
    revision = changes_of(services.metadata, "btc").revision
    later = _look(services)

    assert first == again
    assert later.updates == again.updates if again else False
    assert changes_of(services.metadata, "btc").revision == revision
    actions = [one.action for one in services.metadata.audit()]
    assert actions.count("bandit shares") == 2


def test_shares_that_somebody_changed_are_left_alone_until_they_are_reset(
    services: LocalServices,
) -> None:
    declare(services, bandit=PLAN)
    _look(services)
    _played(services, lambda version: version / 4, rounds=1)
    assert _shares(services)["@2"] > 0.5
    change_routes(services, "btc", RouteEdit(shares={"@2": 0.01}), reason="an incident")

    _played(services, lambda version: version / 4, rounds=2)
    held = find_bandit(services.metadata, "promo")
    assert _shares(services) == {"@2": 0.01}
    assert "changed the shares by hand" in held.held
    reset_routes(services, "btc")
    state = _look(services)

    assert state.held == ""
    assert _shares(services)["@2"] > 0.5


def test_another_plan_begins_anew_and_none_gives_the_shares_back(services: LocalServices) -> None:
    declare(services, bandit=PLAN)
    began_us = _look(services).began_us
    _played(services, lambda version: version / 4, rounds=2)
    declare(services, bandit=msgspec.structs.replace(PLAN, floor=0.2))
    anew = _look(services)
    assert anew.began_us > began_us
    assert (anew.held, anew.arms[0].scores, _shares(services)) == ("", 0, {"@2": 0.5})

    declare(services, bandit=None)
    assert [one.run_id for one in due(services, now_us=10**15) if one.pipeline.name == "bandit"]
    drained = advance_bandit(services, "btc", to_us=services.clock.now_us())

    assert drained is None
    assert _shares(services) == {}
    assert bandits(services.metadata)[0].ended == "it is declared no more"
    assert [one for one in due(services, now_us=10**15) if one.pipeline.name == "bandit"] == []
    with pytest.raises(NotFoundError, match="promo"):
        find_bandit(services.metadata, "promos")


def test_an_arm_that_is_declared_no_more_gives_its_share_back(services: LocalServices) -> None:
    declare(services, bandit=msgspec.structs.replace(PLAN, arms=["candidate"]))
    _look(services)
    assert _shares(services) == {"candidate": 0.5}

    declare(services, bandit=PLAN)
    state = _look(services)

    assert (state.held, _shares(services)) == ("", {"@2": 0.5})
    assert changes_of(services.metadata, "btc").salts == {"@2": "bandit promo"}


def test_a_canary_would_move_its_shares(services: LocalServices) -> None:
    declare(services, bandit=PLAN)
    _look(services)

    with pytest.raises(ConflictError, match="'promo' sets the shares"):
        begin_rollout(services, "btc", version=2, canary=ps.Canary())


def test_an_arm_without_a_version_of_its_own_waits(services: LocalServices) -> None:
    declare(services, bandit=ps.Bandit("promo", arms=["challenger", 1, 2, 9], floor=0.05))

    state = _look(services)

    assert [(arm.target, arm.version, arm.share) for arm in state.arms] == [
        ("champion", 1, 0.5), ("challenger", 0, 0.0), ("@1", 0, 0.0), ("@2", 2, 0.5),
        ("@9", 0, 0.0),
    ]  # fmt: skip
    reasons = {arm.target: arm.reason for arm in state.arms if arm.reason}
    assert reasons["challenger"] == "no version is challenger"
    assert reasons["@1"] == "version 1 is an arm already"
    assert "direction@9" in reasons["@9"]
