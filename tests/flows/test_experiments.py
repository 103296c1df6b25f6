"""An experiment with real processes: split, answered, observed, killed in between, promoted."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

import penstock as ps
from penstock.control import experiments
from penstock.deployment import changes_of, deploy
from penstock.registry import aliases
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
PLAN = ps.Experiment(
    "trial", version=2, metric="outcome", min_scores=800, expected_scores=2_000, every="1s",
    on_win="promote",
)  # fmt: skip


def test_an_experiment_is_won_though_its_worker_is_killed_while_it_runs(
    served: ServedProject,
) -> None:
    with open_services(served.home) as services:
        deploy(services, "btc", version=1)
        declare(services, experiment=PLAN)

        def looks() -> int:
            found = experiments(services.metadata)
            return len(found[0].looks) if found else 0

        def champion() -> int:
            return aliases(services.metadata, "direction").champion

        versions: dict[str, set[int]] = {}

        def note(entity: str, answer: Mapping[str, Any]) -> None:
            versions.setdefault(entity, set()).add(answer["version"])

        observer = Observer(services, RATES, note)
        with (
            serving(served) as server,
            Caller(str(server.base_url), served.token, observer.ask) as caller,
        ):
            with working(services.home) as first:
                until(lambda: looks() > 0)
                versions.clear()
                first.kill()
            until(lambda: len(versions) > 100)
            seen = [set(met) for met in list(versions.values())]
            with working(services.home):
                until(lambda: champion() == 2 and not experiments(services.metadata)[0].is_live)
        (state,) = experiments(services.metadata)

        assert caller.faults == []
        assert (state.verdict, state.stage) == ("win", "ended")
        assert state.looks[-1].difference == pytest.approx(0.4, abs=0.15)
        assert state.looks[-1].low is not None
        assert state.looks[-1].low > 0
        # While nobody looks the traffic stays split, and each entity meets one version.
        assert all(len(versions) == 1 for versions in seen)
        assert 0.3 < sum(versions == {2} for versions in seen) / len(seen) < 0.7
        assert changes_of(services.metadata, "btc").shares == {}
        actions = [one.action for one in services.metadata.audit()]
        assert actions.count("begin experiment") == 1
        assert actions.count("experiment ended") == 1
