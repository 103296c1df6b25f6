from __future__ import annotations

import itertools
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import msgspec
import pytest

import penstock as ps
from penstock.control import (
    NOTIFICATIONS_TOPIC,
    due,
    next_try,
    retry_failed,
    start,
    step_functions,
    train_run,
)
from penstock.errors import ConflictError, DeclarationError, InputError
from penstock.ports import EVENTS_TOPIC, announce
from penstock.records import Event, RunRetries
from penstock.spec import psi

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tests.unit.conftest import Watched

    from penstock.ports import RunInfo

APPLIED = datetime(2026, 1, 1, 12, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
RUN = "train-direction-candles-1-abc"


class Broken:
    """Step functions whose trainings fail until they are mended."""

    def __init__(self, watched: Watched) -> None:
        self.watched = watched
        self.tries = 0
        self.mended = False
        functions = {**step_functions(watched.services), "train.pin": self._pin}
        watched.services.workflows.launch(
            {name: functions[name] if name == "train.pin" else self._done for name in functions}
        )

    def _pin(self, _: Mapping[str, object], __: Mapping[str, object]) -> Mapping[str, object]:
        self.tries += 1
        if not self.mended:
            raise InputError(f"no rows at try {self.tries}")
        return {}

    def _done(self, _: Mapping[str, object], __: Mapping[str, object]) -> Mapping[str, object]:
        return {}

    def arrive(self, number: int) -> None:
        event = Event(
            event_id=f"raw.ingested:{number}",
            kind="raw.ingested",
            subject="candles",
            ids={"batch_id": f"candles-{number}-abc"},
            at_us=0,
        )
        announce(self.watched.services.log, event)

    def started(self) -> list[str]:
        services = self.watched.services
        return [start(services, submission) for submission in due(services)]

    def ended(self, run_id: str = RUN) -> RunInfo:
        return self.watched.services.workflows.wait(run_id, timeout_s=20)

    def retried(self, after: timedelta) -> list[tuple[str, str]]:
        """What is done that long from now; each run that goes on is followed to its end."""
        now_us = (self.watched.services.clock.now() + after - EPOCH) // timedelta(microseconds=1)
        found = retry_failed(self.watched.services, now_us=now_us)
        for one in found:
            self.ended(one.run_id)
        return [(one.run_id, one.became) for one in found]

    def told(self, topic: str, kind: str = "") -> list[dict[str, object]]:
        entries = self.watched.services.log.read(topic, after=0, limit=1_000)
        found = [msgspec.json.decode(one.payload, type=dict[str, object]) for one in entries]
        return [one for one in found if not kind or one["kind"] == kind]


@pytest.fixture
def broken(watched: Watched) -> Broken:
    trigger = ps.Trigger(
        watched.endpoint.model,
        on=[ps.new_data(watched.endpoint.model.dataset.spine)],
        retry=ps.Retry(times=2, after="5m"),
    )
    monitor = ps.Monitor(watched.endpoint, drift=psi(), on_breach=[ps.notify("ops")])
    watched.apply(trigger, monitor, at=APPLIED)
    return Broken(watched)


def test_a_training_that_failed_is_tried_again_and_goes_on(broken: Broken) -> None:
    broken.arrive(1)
    assert broken.started() == [RUN]
    assert broken.ended().state == "failed"
    assert broken.started() == []  # its events are used up
    assert broken.retried(4 * MINUTE) == []
    broken.mended = True
    assert broken.retried(6 * MINUTE) == [(RUN, "queued")]
    assert (broken.ended().state, broken.tries) == ("succeeded", 2)
    assert broken.retried(600 * MINUTE) == []
    actions = [one.action for one in broken.watched.services.metadata.audit()]
    assert actions == ["start train", "retry"]


def test_each_try_waits_twice_as_long_and_after_the_last_somebody_is_told(broken: Broken) -> None:
    broken.arrive(1)
    broken.started()
    broken.ended()
    assert broken.retried(6 * MINUTE) == [(RUN, "queued")]
    assert broken.retried(15 * MINUTE) == []  # 10 minutes after the second failure, at 6
    assert broken.told(NOTIFICATIONS_TOPIC) == []
    assert broken.retried(17 * MINUTE) == [(RUN, "queued")]
    assert broken.retried(17 * MINUTE) == [(RUN, "given up")]
    assert broken.retried(600 * MINUTE) == []
    assert broken.tries == 3

    (notification,) = broken.told(NOTIFICATIONS_TOPIC)
    assert (notification["incident_id"], notification["channel"]) == (RUN, "ops")
    assert "no rows at try 3; 'penstock runs retry" in str(notification["breaches"])
    (event,) = broken.told(EVENTS_TOPIC, "run.failed")
    assert event["ids"] == {"run_id": RUN, "pipeline": "train"}
    entry = broken.watched.services.metadata.audit()[-1]
    assert (entry.action, entry.subject, entry.difference["retries"]) == (
        "give up", f"run/{RUN}", 2,
    )  # fmt: skip


def test_killed_anywhere_it_is_given_up_once(
    broken: Broken, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken.arrive(1)
    broken.started()
    broken.ended()
    services = broken.watched.services
    real, calls = services.metadata.write, itertools.count()

    def killed(*args: object, **named: object) -> None:
        if next(calls) % 2 == 0 and any(
            type(getattr(one, "record", 0)) is RunRetries for one in args
        ):
            raise KeyboardInterrupt
        real(*args, **named)  # type: ignore[arg-type]  # handed on as they came

    monkeypatch.setattr(services.metadata, "write", killed)
    for minutes in itertools.count(6, 60):
        try:
            if (RUN, "given up") in broken.retried(minutes * MINUTE):
                break
        except KeyboardInterrupt:
            broken.ended()
    monkeypatch.undo()
    assert broken.tries >= 3
    assert len(broken.told(NOTIFICATIONS_TOPIC)) == 1
    assert len(broken.told(EVENTS_TOPIC, "run.failed")) == 1


def test_a_later_run_takes_its_place(broken: Broken) -> None:
    broken.arrive(1)
    broken.started()
    broken.ended()
    broken.arrive(2)
    broken.mended = True
    (later,) = broken.started()
    assert broken.ended(later).state == "succeeded"
    assert broken.retried(600 * MINUTE) == []
    assert broken.ended().state == "failed"
    kept = broken.watched.services.metadata.read(RunRetries, RUN)
    assert kept is not None
    assert (kept.state, kept.times) == ("replaced", 0)


def test_what_people_start_or_cancel_is_theirs(broken: Broken) -> None:
    services = broken.watched.services
    start(services, train_run("by-hand", "direction"))
    assert broken.ended("by-hand").state == "failed"
    assert broken.retried(600 * MINUTE) == []


def test_two_that_ask_at_once_try_it_once(broken: Broken, monkeypatch: pytest.MonkeyPatch) -> None:
    broken.arrive(1)
    broken.started()
    broken.ended()

    def first(_: str) -> None:
        raise ConflictError("it is queued")

    monkeypatch.setattr(broken.watched.services.workflows, "retry", first)
    assert broken.retried(6 * MINUTE) == []
    assert broken.watched.services.metadata.read(RunRetries, RUN) is None


def test_a_run_says_when_it_is_tried_again(broken: Broken) -> None:
    broken.arrive(1)
    broken.started()
    failed, services = broken.ended(), broken.watched.services
    found = next_try(services, failed)
    assert found is not None
    assert found.at is not None
    assert failed.ended_at is not None
    assert (found.tried, found.times, found.at - failed.ended_at) == (0, 2, 5 * MINUTE)
    for minutes in (6, 17, 17):
        broken.retried(minutes * MINUTE)
    assert next_try(services, broken.ended()) == (2, 2, None)
    broken.mended = True
    services.workflows.retry(RUN)
    assert next_try(services, broken.ended()) is None


@pytest.mark.parametrize(
    ("times", "after", "words"),
    [(-1, "5m", "from 0 to 20"), (21, "5m", "from 0 to 20"), (1, "soon", "no duration"),
     (1, "0s", "after is zero")],
)  # fmt: skip
def test_a_policy_says_what_is_wrong_with_it(times: int, after: str, words: str) -> None:
    with pytest.raises(DeclarationError, match=words):
        ps.Retry(times=times, after=after)
