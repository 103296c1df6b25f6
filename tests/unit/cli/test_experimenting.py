"""The commands about experiments and bandits."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

import penstock as ps
from penstock.control import advance_bandit, advance_experiment, find_bandit
from penstock.deployment import deploy
from penstock.monitoring import drain_observations
from penstock.runtime import open_services
from penstock.scoring import drain_scores
from penstock.testing.traffic import declare, traffic

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from penstock.testing.served_project import ServedProject

    from .conftest import Said


@pytest.fixture
def run(served: ServedProject, call: Callable[..., Said]) -> Callable[..., Said]:
    with open_services(served.home, actor="tester") as services:
        deploy(services, "btc", version=1)
    return lambda *words: call(*words, "--home", served.home)


def _declared(served: ServedProject, version: int) -> None:
    rails = [ps.Guardrail(metric="measures.complaints"), ps.Guardrail(metric="latency_ms", worse=9)]
    plan = ps.Experiment("trial", version=version, metric="outcome", guardrails=rails)
    with open_services(served.home) as services:
        declare(services, experiment=plan)


def test_what_is_declared_waits_then_runs_and_is_stopped(
    run: Callable[..., Said], served: ServedProject, tmp_path: Path
) -> None:
    nothing = run("experiments", "list")
    _declared(served, 1)
    refused = run("experiments", "list")
    _declared(served, 2)
    waits = run("experiments", "list")
    with open_services(served.home) as services:
        advance_experiment(services, "btc", to_us=services.clock.now_us())
        traffic(services, lambda version: 0.5 + 0 * version)
        drain_scores(services)
        drain_observations(services)
        advance_experiment(services, "btc", to_us=services.clock.now_us())
    page = tmp_path / "report.html"

    listed = run("experiments", "list", "--json")
    shown = run("experiments", "show", "trial", "--report", str(page))
    unsaid = run("experiments", "stop", "trial")
    done = run("experiments", "stop", "btc/trial", "--no-winner", "--reason", "enough [of] it")
    late = run("experiments", "stop", "trial", "--winner")
    missing = run("experiments", "show", "tril")

    assert "Give a deployment experiment=ps.Experiment(...)" in nothing.out
    assert "trial waits: @1 is version 1, which is the champion." in refused.out
    assert "trial waits: the worker begins it at its next look, where" in waits.out
    assert listed.value["experiments"][0]["stage"] == "running"
    assert listed.value["waiting"] == []
    for text in ("direction@2 against @1", "Runs: no difference is sure yet.", "tried", "champion"):
        assert text in shown.out, text
    assert "Guardrail measures.complaints: too little is known." in shown.out
    assert "Guardrail latency_ms: holds." in shown.out
    assert "Entities fall to the arms as they should (evidence 1; below 0.0005" in shown.out
    assert page.read_text().startswith("<!doctype html>")
    assert "--winner" in unsaid.err
    assert "Stopped by" in done.out
    assert "enough [of] it. Now: not promoted." in done.out
    assert "has ended (stopped)" in late.err
    assert "Did you mean" in missing.err or "Known: 'trial'" in missing.err


def test_a_bandit_is_shown_with_its_shares_and_what_its_arms_brought(
    run: Callable[..., Said], served: ServedProject
) -> None:
    nothing = run("bandits", "list")
    with open_services(served.home) as services:
        declare(services, bandit=ps.Bandit("promo", arms=[2, "challenger"], min_scores=50))
    waits = run("bandits", "list")
    with open_services(served.home) as services:
        advance_bandit(services, "btc", to_us=services.clock.now_us())
        traffic(services, lambda version: version / 4)
        drain_scores(services)
        drain_observations(services)
        before = find_bandit(services.metadata, "promo")
    even = run("bandits", "show", "promo")
    with open_services(served.home) as services:
        advance_bandit(services, "btc", to_us=services.clock.now_us())

    listed = run("bandits", "list")
    shown = run("bandits", "show", "btc/promo")

    assert "Give a deployment bandit=ps.Bandit(...)" in nothing.out
    assert "btc/promo waits for a champion, and the worker's next look." in waits.out
    assert [arm.share for arm in before.arms] == [0.5, 0.5, 0.0]
    assert "Even shares, until every arm has scores enough." in even.out
    assert "champion 5 %, @2 95 %, challenger 0 %" in listed.out
    assert "challenger: no version is challenger" in shown.out
    assert "±" in shown.out
