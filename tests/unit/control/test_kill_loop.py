"""kill -9 at every step of an incident, a trigger, a drain and a rollout; then the same again."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import msgspec
import pytest

import penstock as ps
from penstock.control import NOTIFICATIONS_TOPIC
from penstock.deployment import begin_rollout
from penstock.monitoring import look, observe
from penstock.ports import EVENTS_TOPIC, announce
from penstock.records import Event, Incident, Observation, Rollout, RouteChanges
from penstock.registry import aliases
from penstock.spec import psi

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.unit.conftest import Watched

    from penstock.runtime import LocalServices

ZYGOTE = Path(__file__).with_name("loop_zygote.py")
NEVER = 99


class Zygote(Protocol):
    def __call__(self, what: str, method: str, place: int, moment: str, home: Path) -> int:
        """Let a child do something until it is killed; returns its signal or 0."""
        ...


@pytest.fixture(scope="module")
def child() -> Iterator[Zygote]:
    with subprocess.Popen(
        [sys.executable, str(ZYGOTE)], text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as zygote:
        stdin, stdout = zygote.stdin, zygote.stdout
        assert stdin is not None
        assert stdout is not None

        def let(what: str, method: str, place: int, moment: str, home: Path) -> int:
            stdin.write(f"{what} {method} {place} {moment} {home}\n")
            stdin.flush()
            return int(stdout.readline())

        yield let
        stdin.close()


@pytest.mark.slow
def test_an_incident_killed_at_every_write_is_one_incident(watched: Watched, child: Zygote) -> None:
    services = watched.services
    actions = [ps.notify("ops"), ps.rollback(), ps.retrain()]
    monitor = ps.Monitor(deployment=watched.endpoint, drift=psi(), on_breach=actions)
    watched.apply(monitor)
    watched.answers(2, previous=1)
    now_us = services.clock.now_us()
    watched.scored(watched.reference[:200] + 3, at_us=now_us, version=2)
    look(services, monitor, now_us=now_us)
    # Each child gets one write further than the one before; the first gets none.
    for method, moment in [("write", "before"), ("write", "after"), ("publish", "after")]:
        assert child("act", method, 1, moment, services.home) == signal.SIGKILL
    kills = 0
    while child("act", "write", 1, "after", services.home):
        kills += 1
    assert kills == 4
    assert child("act", "write", 1, "after", services.home) == 0
    (incident,) = services.metadata.find(Incident)
    assert list(incident.actions) == ["notify ops", "rollback", "retrain"]
    assert incident.actions["rollback"] == "direction@1 answers now"
    now = aliases(services.metadata, "direction")
    assert (now.champion, now.previous, now.revision) == (1, 2, 2)
    assert services.log.end(NOTIFICATIONS_TOPIC) == 1
    assert len(services.workflows.runs()) == 1
    events = services.log.read(EVENTS_TOPIC, after=0, limit=99)
    kinds = [msgspec.json.decode(entry.payload, type=Event).kind for entry in events]
    assert sorted(kinds) == ["deployment.changed", "monitor.breached"]
    assert services.metadata.verify_audit() == len(services.metadata.audit())


@pytest.mark.slow
def test_a_drain_killed_around_every_write_loses_and_doubles_nothing(
    watched: Watched, child: Zygote
) -> None:
    services, sent = watched.services, 0
    for method in ("append", "commit", "publish"):
        for moment in ("before", "after"):
            names = [services.ids.new() for _ in range(3)]
            outcomes = [
                Observation(prediction_id=name, value=1, observed_at_us=1) for name in names
            ]
            sent += observe(services, "btc", outcomes)
            assert child("drain", method, 1, moment, services.home) == signal.SIGKILL
    assert child("drain", "append", NEVER, "after", services.home) == 0
    rows = services.tables.scan("observations/btc").collect()
    assert rows.height == sent
    assert rows["prediction_id"].n_unique() == sent


@pytest.mark.slow
def test_a_trigger_killed_before_it_remembers_starts_one_run(
    watched: Watched, child: Zygote
) -> None:
    services = watched.services
    source = watched.endpoint.model.dataset.spine
    watched.apply(ps.Trigger(watched.endpoint.model, on=[ps.new_data(source)]))
    event = Event(
        event_id="raw.ingested:candles-1-abc", kind="raw.ingested", subject="candles",
        ids={"batch_id": "candles-1-abc"}, at_us=0,
    )  # fmt: skip
    announce(services.log, event)
    assert child("trigger", "submit", 1, "before", services.home) == signal.SIGKILL
    assert services.workflows.runs() == []
    assert child("trigger", "submit", 1, "after", services.home) == signal.SIGKILL
    for _ in range(2):
        assert child("trigger", "commit", NEVER, "before", services.home) == 0
    (run,) = services.workflows.runs()
    services.workflows.cancel(run.run_id)
    assert child("trigger", "commit", 1, "after", services.home) == signal.SIGKILL
    assert child("trigger", "commit", 1, "after", services.home) == 0
    assert [run.run_id for run in services.workflows.runs()] == ["train-direction-candles-1-abc"]


PLAN = ps.Canary(steps=[0.2, 0.6], every="1ms", min_scores=1, latency=1000.0)


def _rollout(services: LocalServices) -> Rollout:
    """The rollout that there is; what answers fits it, whoever was killed."""
    (rollout,) = services.metadata.find(Rollout)
    routes = services.metadata.read(RouteChanges, "btc")
    shares = dict(routes.shares) if routes else {}
    now = aliases(services.metadata, "direction")
    expected = {"@2": PLAN.steps[rollout.step]} if rollout.state in {"canary", "promoting"} else {}
    assert shares == expected
    if rollout.state != "promoting":
        assert now.champion == (2 if rollout.state == "done" else 1)
    assert services.metadata.verify_audit() == len(services.metadata.audit())
    return rollout


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_rollout_killed_around_every_write_is_one_promotion(
    scored: LocalServices, child: Zygote
) -> None:
    before = scored.log.end(EVENTS_TOPIC)
    begin_rollout(scored, "btc", version=2, canary=PLAN, approval=ps.Approval(four_eyes=False))

    def killed(what: str, until: str, *points: tuple[str, str], place: int = 1) -> list[str]:
        """The states in which its killed children leave the rollout."""
        seen: list[str] = []
        for method, moment in points:
            assert child(what, method, place, moment, scored.home) == signal.SIGKILL, (
                method,
                moment,
            )
            seen.append(_rollout(scored).state)
        # Each child gets one write further than the one before.
        while _rollout(scored).state != until:
            assert child(what, "write", place, "after", scored.home) in {0, signal.SIGKILL}
            seen.append(_rollout(scored).state)
            assert len(seen) < 30, seen
        assert child(what, "write", 1, "after", scored.home) == 0
        return seen

    write_before, publish = ("write", "before"), [("publish", "before"), ("publish", "after")]
    checked = killed("roll_out", "waiting", write_before)
    assert checked == ["checking", "checking", "checking", "waiting"]
    assert killed("approve", "approved", write_before) == ["waiting", "approved"]
    assert killed("roll_out", "canary", write_before) == ["approved", "canary"]
    # A look stores what was counted, and moves the rollout at the second look of a step.
    assert child("step", "write", 1, "before", scored.home) == signal.SIGKILL
    assert child("step", "write", 1, "after", scored.home) == signal.SIGKILL
    stepped = killed("step", "promoting", write_before, place=2)
    assert stepped[-1] == "promoting"
    assert _rollout(scored).step == 1
    promoted = killed("roll_out", "done", write_before, *publish)
    assert promoted[:3] == ["promoting"] * 3

    done = _rollout(scored)
    assert (done.reason, [one.share for one in done.steps]) == ("", [0.2, 0.6])
    assert done.approver is not None
    now = aliases(scored.metadata, "direction")
    assert (now.champion, now.previous) == (2, 1)
    actions = [one.action for one in scored.metadata.audit()]
    once = ["begin rollout", "check rollout", "replay requests", "ask for approval",
            "approve rollout", "rollout promoting", "rollout done"]  # fmt: skip
    assert [actions.count(action) for action in once] == [1] * len(once)
    assert actions.count("canary step") == 2
    assert actions.count("promote") == 2  # version 1 at first, then this one
    told = [entry.payload for entry in scored.log.read(EVENTS_TOPIC, after=before, limit=99)]
    assert sum(b'"deployment.changed"' in one and b'"btc"' in one for one in told) == 1
