"""A bandit with real processes under load, whose worker is killed while it moves the shares."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Any

import pytest

import penstock as ps
from penstock.control import bandits
from penstock.deployment import changes_of, deploy
from penstock.runtime import open_services
from penstock.testing.caller import Caller
from penstock.testing.observer import Observer
from penstock.testing.serving import serving
from penstock.testing.traffic import declare
from penstock.testing.working import until, working

if TYPE_CHECKING:
    from collections.abc import Mapping

    from penstock.testing.served_project import ServedProject

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

RATES = {1: 0.3, 2: 0.7}
FLOOR = 0.05
PLAN = ps.Bandit("promo", arms=[2], floor=FLOOR, every="500ms", min_scores=400)


class Answers:
    """What entities met.

    Attributes:
        seen: The versions that each entity met, by the share that version 2 had then.
    """

    def __init__(self) -> None:
        self.seen: dict[float, dict[str, set[int]]] = {}

    def note(self, entity: str, answer: Mapping[str, Any]) -> None:
        """Note an answer; its reason says the share of its arm."""
        own = float(answer.get("reason", "share 1").removeprefix("share "))
        share = round(own if answer["route"] == "challenger" else 1 - own, 4)
        self.seen.setdefault(share, {}).setdefault(entity, set()).add(answer["version"])


def test_shares_move_to_the_better_arm_though_the_worker_is_killed_on_the_way(
    served: ServedProject,
) -> None:
    with open_services(served.home) as services:
        deploy(services, "btc", version=1)
        declare(services, bandit=PLAN)

        def share() -> float:
            return changes_of(services.metadata, "btc").shares.get("@2", 0.0)

        answers = Answers()
        observer = Observer(services, RATES, answers.note)
        with (
            serving(served) as server,
            Caller(str(server.base_url), served.token, observer.ask) as caller,
        ):
            with working(services.home) as first:
                until(lambda: share() > 0, "No share was set")
                first.kill()
                first.wait()
            # Nobody looks: the shares stay, and so does everybody.
            left = share()
            until(lambda: len(answers.seen.get(left, {})) > 150, "Too few were asked")
            kept = share()
            with working(services.home):
                until(lambda: share() == 1 - FLOOR, "The better arm did not get the most")
                until(lambda: len(answers.seen.get(1 - FLOOR, {})) > 250, "Too few were asked")
        (state,) = bandits(services.metadata)
        set_by = [one.action for one in services.metadata.audit()].count("bandit shares")

    assert caller.faults == []
    assert left == kept
    assert state.ended == state.held == ""
    assert [arm.share for arm in state.arms] == pytest.approx([FLOOR, 1 - FLOOR])
    assert state.arms[1].chance == pytest.approx(1.0, abs=1e-3)
    assert [arm.weighed for arm in state.arms] == pytest.approx([0.3, 0.7], abs=0.15)
    assert set_by == len(state.updates) >= 2
    # While the shares are what they are, each entity meets one version.
    assert all(len(met) == 1 for one in answers.seen.values() for met in one.values())
    # And who has met the arm that grows stays with it.
    shares = sorted(answers.seen)
    for less, more in pairwise(shares):
        then, now = answers.seen[less], answers.seen[more]
        assert all(now[key] == {2} for key in then.keys() & now.keys() if then[key] == {2})
