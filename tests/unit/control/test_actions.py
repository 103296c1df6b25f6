from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
import pytest

import penstock as ps
from penstock.control import NOTIFICATIONS_TOPIC, Notification, react
from penstock.ports import EVENTS_TOPIC, Put
from penstock.records import (
    Check,
    Event,
    Incident,
    MonitorReport,
    RouteChanges,
    ServingStatus,
)
from penstock.registry import aliases
from penstock.spec import Action, psi

if TYPE_CHECKING:
    from tests.unit.conftest import Watched

    from penstock.ports import Metadata, Services

NOW_US = 1_800_000_000_000_000
EVERYTHING = (ps.notify("ops"), ps.rollback(), ps.retrain())


def declare(watched: Watched, *actions: Action) -> None:
    watched.apply(ps.Monitor(deployment=watched.endpoint, drift=psi(), on_breach=actions))


def report(
    watched: Watched, value: float | None, *, version: int = 1, after_us: int = 0, of: str = "close"
) -> MonitorReport:
    """What a monitor saw; above 0.2 is a breach."""
    services = watched.services
    check = Check(
        name="drift", subject=of, value=value, bound=0.2, rows=300,
        breached=value is not None and value > 0.2, reason=f"psi {value}",
    )  # fmt: skip
    made = MonitorReport(
        report_id=f"{NOW_US + after_us:016d}-btc",
        monitor="btc",
        deployment="btc",
        version=f"direction@{version}",
        from_us=NOW_US - 1000,
        to_us=NOW_US + after_us,
        checks=(check,),
        created_at=services.clock.now(),
    )
    services.metadata.write(Put(made))
    return made


def incidents(services: Services) -> list[Incident]:
    return services.metadata.find(Incident)


def told(services: Services) -> list[Notification]:
    entries = services.log.read(NOTIFICATIONS_TOPIC, after=0, limit=99)
    return [msgspec.json.decode(entry.payload, type=Notification) for entry in entries]


def test_a_breach_opens_one_incident_and_does_every_action_in_order(watched: Watched) -> None:
    declare(watched, *EVERYTHING)
    watched.answers(2, previous=1)
    first = react(watched.services, report(watched, 0.5, version=2))
    assert first is not None
    retraining = f"train-direction-{first.incident_id}"
    assert dict(first.actions) == {
        "notify ops": "told",
        "rollback": "direction@1 answers now",
        "retrain": f"run {retraining}",
    }
    assert list(first.actions) == ["notify ops", "rollback", "retrain"]
    assert incidents(watched.services) == [first]
    assert aliases(watched.services.metadata, "direction").champion == 1
    (note,) = told(watched.services)
    assert (note.channel, note.version, note.breaches) == (
        "ops", "direction@2", ("drift of close: psi 0.5",),
    )  # fmt: skip
    run = watched.services.workflows.get(retraining)
    assert run is not None
    assert (run.pipeline, run.subject, run.parameters["promote"]) == ("train", "direction", True)
    events = watched.services.log.read(EVENTS_TOPIC, after=0, limit=99)
    kinds = [msgspec.json.decode(entry.payload, type=Event).kind for entry in events]
    assert kinds.count("monitor.breached") == 1
    audit = [entry.action for entry in watched.services.metadata.audit()]
    assert audit == ["open incident", "notify ops", "rollback", "rollback", "retrain"]


def test_while_it_is_open_another_breach_of_the_version_does_nothing_more(watched: Watched) -> None:
    declare(watched, *EVERYTHING)
    watched.answers(1)
    first = react(watched.services, report(watched, 0.5))
    audited = len(watched.services.metadata.audit())
    second = react(watched.services, report(watched, 0.9, after_us=60))
    assert second == first
    assert len(watched.services.metadata.audit()) == audited
    assert first is not None
    assert first.actions["rollback"] == "not done: there is no previous version"
    assert len(told(watched.services)) == 1
    assert len(watched.services.workflows.runs()) == 1


@pytest.mark.parametrize(
    ("following", "version", "state"),
    [
        (0.1, 1, "closed"),  # the bounds hold again
        (None, 1, "open"),  # too few rows say nothing
        (0.1, 2, "closed"),  # another version answers
        (None, 2, "closed"),
    ],
)
def test_an_incident_ends_when_the_bounds_hold_or_another_version_answers(
    watched: Watched, following: float | None, version: int, state: str
) -> None:
    declare(watched, ps.notify("ops"))
    watched.answers(1)
    react(watched.services, report(watched, 0.5))
    found = react(watched.services, report(watched, following, version=version, after_us=60))
    (incident,) = incidents(watched.services)
    assert incident.state == state
    assert (incident.closed_at is not None) == (state == "closed")
    assert found == (incident if state == "open" else None)


def test_bounds_that_hold_for_another_feature_do_not_end_it(watched: Watched) -> None:
    declare(watched)
    watched.answers(1)
    react(watched.services, report(watched, 0.5))
    react(watched.services, report(watched, 0.1, after_us=60, of="volume"))
    assert [incident.state for incident in incidents(watched.services)] == ["open"]


def test_an_old_report_that_comes_again_changes_nothing(watched: Watched) -> None:
    declare(watched, *EVERYTHING)
    watched.answers(1)
    old = report(watched, 0.5, after_us=0)
    react(watched.services, old)
    react(watched.services, report(watched, 0.1, after_us=60))
    watched.answers(2)
    react(watched.services, report(watched, 0.5, version=2, after_us=90))
    before = incidents(watched.services)
    assert [incident.state for incident in before] == ["closed", "open"]
    assert react(watched.services, old) is None
    assert incidents(watched.services) == before


@pytest.mark.parametrize("champion", [1, 2])
def test_no_rollback_of_a_pinned_champion(watched: Watched, champion: int) -> None:
    declare(watched, ps.rollback())
    watched.answers(champion, previous=3 - champion)
    changed = RouteChanges(
        deployment="btc", changed_at=watched.services.clock.now(), changed_by="ana", revision=1,
        pins={"champion": 1},
    )  # fmt: skip
    watched.services.metadata.write(Put(changed))

    found = react(watched.services, report(watched, 0.5, version=1))

    assert found is not None
    assert found.actions["rollback"] == "not done: the champion is pinned to direction@1 by ana"
    assert aliases(watched.services.metadata, "direction").champion == champion


def test_no_rollback_to_a_version_that_breached_itself(watched: Watched) -> None:
    declare(watched, ps.rollback())
    watched.answers(1)
    first = react(watched.services, report(watched, 0.5))
    watched.answers(2, previous=1)
    second = react(watched.services, report(watched, 0.5, version=2, after_us=60))
    assert first is not None
    assert second is not None
    assert second.actions["rollback"] == (
        f"not done: direction@1 breached itself ({first.incident_id})"
    )
    assert aliases(watched.services.metadata, "direction").champion == 2


def test_an_action_that_fails_is_recorded_and_the_next_is_done(watched: Watched) -> None:
    declare(watched, *EVERYTHING)
    watched.answers(2, previous=1)
    status = ServingStatus(
        process_id=1,
        address="http://127.0.0.1:1",
        versions={"btc/champion": "direction@2"},
        revision={"direction": 99},
        errors={"btc/champion": "the file is damaged."},
        at=watched.services.clock.now(),
    )
    watched.services.metadata.write(Put(status))
    incident = react(watched.services, report(watched, 0.5, version=2))
    assert incident is not None
    assert incident.actions["rollback"].startswith("failed: The serving process 1")
    assert incident.actions["retrain"].startswith("run ")


class Killed(BaseException):
    """What a kill -9 looks like from inside: nothing after it is done."""


@pytest.mark.parametrize("kill_at", range(10))
def test_killed_at_any_write_nothing_is_done_twice(
    watched: Watched, monkeypatch: pytest.MonkeyPatch, kill_at: int
) -> None:
    declare(watched, *EVERYTHING)
    watched.answers(2, previous=1)
    seen = report(watched, 0.5, version=2)
    writes, real = [0], type(watched.services.metadata).write

    def write(metadata: Metadata, *changes: object, audit: object = None) -> None:
        place, writes[0] = writes[0], writes[0] + 1
        if place == kill_at // 2 and kill_at % 2 == 0:
            raise Killed
        real(metadata, *changes, audit=audit)  # type: ignore[arg-type]  # handed on as it came
        if place == kill_at // 2:
            raise Killed

    with monkeypatch.context() as patched:
        patched.setattr(type(watched.services.metadata), "write", write)
        with pytest.raises(Killed):
            react(watched.services, seen)
    react(watched.services, seen)
    (incident,) = incidents(watched.services)
    assert list(incident.actions) == ["notify ops", "rollback", "retrain"]
    assert incident.actions["rollback"] == "direction@1 answers now"
    now = aliases(watched.services.metadata, "direction")
    assert (now.champion, now.previous) == (1, 2)
    assert len(told(watched.services)) == 1
    assert len(watched.services.workflows.runs()) == 1
    actions = [entry.action for entry in watched.services.metadata.audit()]
    assert actions.count("open incident") == 1
