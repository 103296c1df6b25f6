from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import msgspec
import pytest

import penstock as ps
from penstock.control import Known, due, monitor_run, start, train_run
from penstock.errors import DeclarationError
from penstock.monitoring import look
from penstock.plan import apply
from penstock.ports import EVENTS_TOPIC, Put, announce
from penstock.records import AppliedDeclaration, Event, ModelVersion
from penstock.spec import psi

if TYPE_CHECKING:
    from tests.unit.conftest import Watched

    from penstock.records import Record
    from penstock.spec import Declaration, Deployment, Schedule, Source

APPLIED = datetime(2026, 1, 1, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)


def us(moment: datetime) -> int:
    return (moment - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)


def source_of(watched: Watched) -> Source:
    return watched.endpoint.model.dataset.spine


def arrive(watched: Watched, number: int, source: str = "candles") -> None:
    batch_id = f"{source}-{number}-abc"
    event = Event(
        event_id=f"raw.ingested:{batch_id}",
        kind="raw.ingested",
        subject=source,
        ids={"batch_id": batch_id},
        at_us=0,
    )
    announce(watched.services.log, event)


def started(watched: Watched, now: datetime | None = None) -> list[str]:
    """The runs that were due, started."""
    asked = due(watched.services, now_us=None if now is None else us(now))
    return [start(watched.services, submission) for submission in asked]


def end(watched: Watched, *runs: str) -> None:
    for run_id in runs:
        watched.services.workflows.cancel(run_id)


def on_data(watched: Watched) -> None:
    trigger = ps.Trigger(watched.endpoint.model, on=[ps.new_data(source_of(watched))])
    watched.apply(trigger, at=APPLIED)


def test_nothing_is_due_without_declarations_or_occasions(
    watched: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("penstock.control.known.PAGE", 3)
    assert due(watched.services) == []
    on_data(watched)
    log = watched.services.log
    for number in (1, 2, 3):
        arrive(watched, number, source="others")
        assert due(watched.services) == []
        # What calls for nothing is passed over durably once in a while.
        assert log.committed(EVENTS_TOPIC, "trigger/direction") == (3 if number == 3 else 0)
    arrive(watched, 4)
    assert len(due(watched.services)) == 1


def test_a_look_that_knows_of_those_before_asks_for_nothing_again(watched: Watched) -> None:
    services, known = watched.services, Known()
    on: list[Schedule] = [ps.new_data(source_of(watched)), ps.cron("0 * * * *")]
    watched.apply(ps.Trigger(watched.endpoint.model, on=on), at=APPLIED)
    now_us = us(APPLIED + HOUR * 1.5)

    def looked() -> list[str]:
        return [start(services, one) for one in due(services, known=known, now_us=now_us)]

    assert looked() == ["train-direction-20260101T1300"]
    end(watched, "train-direction-20260101T1300")
    arrive(watched, 1, source="others")
    assert looked() == []
    arrive(watched, 2)
    assert looked() == ["train-direction-candles-2-abc"]
    arrive(watched, 3)
    assert looked() == []  # it is under way
    end(watched, "train-direction-candles-2-abc")
    assert looked() == ["train-direction-candles-3-abc"]
    end(watched, "train-direction-candles-3-abc")
    assert looked() == []
    # Another worker, which knows of nothing, comes to the same.
    assert due(services, now_us=now_us) == []


def test_new_data_starts_one_run_that_promotes(watched: Watched) -> None:
    on_data(watched)
    arrive(watched, 1)
    arrive(watched, 2)
    (submission,) = due(watched.services)
    assert submission.run_id == "train-direction-candles-1-abc"
    assert submission.parameters == {
        "model": "direction", "run_id": submission.run_id, "promote": True,
        "asked_by": "trigger/direction",
    }  # fmt: skip
    assert started(watched) == [submission.run_id]
    assert started(watched) == []


def test_data_that_arrives_meanwhile_is_one_following_run(watched: Watched) -> None:
    on_data(watched)
    arrive(watched, 1)
    (first,) = started(watched)
    for number in (2, 3, 4):
        arrive(watched, number)
        assert started(watched) == []
    end(watched, first)
    assert started(watched) == ["train-direction-candles-2-abc"]
    end(watched, "train-direction-candles-2-abc")
    assert started(watched) == []


def test_killed_between_submission_and_commit_the_run_is_not_doubled(watched: Watched) -> None:
    on_data(watched)
    arrive(watched, 1)
    (submission,) = due(watched.services)
    start(watched.services, msgspec.structs.replace(submission, group=""))
    arrive(watched, 2)
    assert started(watched) == []
    end(watched, submission.run_id)
    assert started(watched) == ["train-direction-candles-2-abc"]
    assert len(watched.services.workflows.runs()) == 2


def test_two_that_ask_at_once_start_one_run(watched: Watched) -> None:
    on_data(watched)
    arrive(watched, 1)
    first, second = due(watched.services), due(watched.services)
    for submission in first + second:
        start(watched.services, submission)
    assert len(watched.services.workflows.runs()) == 1


def test_data_that_a_run_by_hand_has_seen_starts_none(watched: Watched) -> None:
    on_data(watched)
    arrive(watched, 1)
    start(watched.services, train_run("by-hand", "direction"))
    end(watched, "by-hand")
    assert started(watched) == []
    arrive(watched, 2)
    assert started(watched) == ["train-direction-candles-2-abc"]


def test_data_from_before_the_declaration_starts_none(watched: Watched) -> None:
    arrive(watched, 1)
    trigger = ps.Trigger(watched.endpoint.model, on=[ps.new_data(source_of(watched))])
    watched.apply(trigger, at=watched.services.clock.now() + HOUR)
    assert started(watched) == []


def test_a_cron_occasion_is_one_run_and_missed_ones_are_not_made_up(watched: Watched) -> None:
    trigger = ps.Trigger(watched.endpoint.model, on=[ps.cron("0 * * * *")])
    watched.apply(trigger, at=APPLIED + HOUR / 2)
    assert started(watched, APPLIED + HOUR * 0.9) == []
    assert started(watched, APPLIED + HOUR) == ["train-direction-20260101T1300"]
    assert started(watched, APPLIED + HOUR * 1.5) == []
    assert started(watched, APPLIED + HOUR * 5.5) == []
    end(watched, "train-direction-20260101T1300")
    assert started(watched, APPLIED + HOUR * 5.6) == ["train-direction-20260101T1700"]
    end(watched, "train-direction-20260101T1700")
    assert started(watched, APPLIED + HOUR * 5.7) == []


def test_a_model_is_trained_once_at_a_time_whatever_asks(watched: Watched) -> None:
    on = (ps.new_data(source_of(watched)), ps.cron("0 * * * *"))
    watched.apply(ps.Trigger(watched.endpoint.model, on=on), at=APPLIED)
    arrive(watched, 1)
    now = watched.services.clock.now()
    (first,) = started(watched, now)
    assert first == "train-direction-candles-1-abc"
    assert started(watched, now) == []
    end(watched, first)
    assert len(started(watched, now)) == 1


def test_what_is_applied_is_read_once_until_it_is_applied_anew(
    watched: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    services, known = watched.services, Known()
    model, on = watched.endpoint.model, [ps.cron("0 * * * *")]
    at = services.clock.now()

    def applied(*declared: Declaration) -> None:
        project = ps.Project("p", declarations=[watched.endpoint, *declared])
        apply(services.metadata, project, actor="tester", now=at)

    def found() -> list[str]:
        return [one.subject for one in due(services, known=known, now_us=us(at + 2 * HOUR))]

    applied()
    assert found() == []
    read, reads = services.metadata.find, []

    def counted(cls: type[Record], **given: object) -> list[Record]:
        reads.append(cls)
        return read(cls, **given)  # type: ignore[arg-type]  # handed on as it came

    monkeypatch.setattr(services.metadata, "find", counted)
    assert found() == []
    assert AppliedDeclaration not in reads
    applied(ps.Trigger(model, on=on))
    assert found() == ["direction"]
    assert reads.count(AppliedDeclaration) > 0
    applied()
    assert found() == []


def test_a_model_is_trained_once_at_a_time_however_many_others_wait(watched: Watched) -> None:
    on_data(watched)
    arrive(watched, 1)
    (first,) = started(watched)
    for number in range(60):
        start(watched.services, train_run(f"other-{number}", f"other-{number}"))
    arrive(watched, 2)
    assert started(watched) == []
    end(watched, first)
    assert started(watched) == ["train-direction-candles-2-abc"]


def test_two_triggers_of_one_model_are_one_run(watched: Watched) -> None:
    on = [ps.new_data(source_of(watched))]
    model = watched.endpoint.model
    watched.apply(ps.Trigger(model, on=on), ps.Trigger(model, on=on, name="again"), at=APPLIED)
    arrive(watched, 1)
    assert started(watched) == ["train-direction-candles-1-abc"]
    end(watched, "train-direction-candles-1-abc")
    assert started(watched) == []


def scored_on_data(watched: Watched) -> Deployment:
    batch = ps.BatchScoring(on=ps.new_data(source_of(watched)))
    watched.endpoint = msgspec.structs.replace(watched.endpoint, batch=batch)
    watched.apply(at=APPLIED)
    return watched.endpoint


def test_batch_scoring_waits_for_a_champion_and_forgets_no_data(watched: Watched) -> None:
    scored_on_data(watched)
    arrive(watched, 1)
    assert started(watched) == []
    watched.answers(1)
    assert started(watched) == ["score-btc-candles-1-abc"]
    run = watched.services.workflows.get("score-btc-candles-1-abc")
    assert run is not None
    assert (run.pipeline, run.subject) == ("score", "btc")
    assert started(watched) == []


@pytest.mark.parametrize(
    ("every", "stamps"),
    [("1h", ("20260101T1300", "20260101T1400")), ("20m", ("20260101T1300", "20260101T1320"))],
)
def test_a_monitor_looks_once_in_each_interval(
    watched: Watched, every: str, stamps: tuple[str, str]
) -> None:
    watched.apply(ps.Monitor(deployment=watched.endpoint, drift=psi(), every=every), at=APPLIED)
    now = APPLIED + HOUR + timedelta(minutes=5)
    assert started(watched, now) == []  # nobody answers yet
    watched.answers(1)
    first, second = (f"monitor-btc-{stamp}" for stamp in stamps)
    assert started(watched, now) == [first]
    assert started(watched, now + timedelta(minutes=10)) == []
    assert started(watched, now + HOUR) == []  # the first has not ended
    end(watched, first)
    assert started(watched, now + timedelta(minutes=10)) == []  # this interval has had its run
    following = now + (HOUR if every == "1h" else HOUR / 3)
    assert started(watched, following) == [second]


def test_a_look_by_hand_counts_for_its_interval(watched: Watched) -> None:
    monitor = ps.Monitor(deployment=watched.endpoint, drift=psi(), every="1h")
    watched.apply(monitor, at=APPLIED)
    watched.answers(1)
    look(watched.services, monitor, now_us=us(APPLIED + HOUR * 1.2))
    assert started(watched, APPLIED + HOUR * 1.5) == []
    assert started(watched, APPLIED + HOUR * 2) == ["monitor-btc-20260101T1400"]


def test_runs_say_what_they_are_about() -> None:
    run = monitor_run("m", "watch")
    assert (run.subject, run.pipeline.name) == ("watch", "monitor")
    assert [step.function for step in run.pipeline.steps] == [
        "monitor.drain", "monitor.look", "monitor.react",
    ]  # fmt: skip


def _blend(watched: Watched) -> ps.Graph:
    model = watched.endpoint.model
    return ps.Graph("blend", dataset=model.dataset, steps={"a": ps.Predict(model)})


def _made(watched: Watched, number: int, pin: str) -> None:
    like = watched.services.metadata.find(ModelVersion)[0]
    made = msgspec.structs.replace(like, model="blend", version=number, params={"a": pin})
    watched.services.metadata.write(Put(made))


def test_a_graph_is_made_again_once_when_its_models_move_on(watched: Watched) -> None:
    watched.apply(ps.Trigger(_blend(watched), on=[ps.new_pins()]), at=APPLIED)
    assert started(watched, APPLIED) == []  # there is no champion to be pinned to

    watched.answers(1)
    (first,) = started(watched, APPLIED + HOUR)
    assert first.startswith("train-blend-0-")
    assert started(watched, APPLIED + HOUR) == []
    end(watched, first)
    assert started(watched, APPLIED + 2 * HOUR) == []  # it did not come to a version: no second try

    _made(watched, 1, "direction@1")
    assert started(watched, APPLIED + 3 * HOUR) == []
    watched.answers(2, previous=1)
    (second,) = started(watched, APPLIED + 4 * HOUR)
    assert second.startswith("train-blend-1-")
    end(watched, second)
    _made(watched, 2, "direction@2")
    watched.answers(1, previous=2)
    (third,) = started(watched, APPLIED + 5 * HOUR)
    assert third.startswith("train-blend-2-")


def test_new_pins_are_an_occasion_for_graphs_alone(watched: Watched) -> None:
    with pytest.raises(DeclarationError, match="is for a graph, and 'direction' is a model"):
        ps.Trigger(watched.endpoint.model, on=[ps.new_pins()])
    with pytest.raises(DeclarationError, match=r"ps\.new_pins\(\) is for a trigger"):
        ps.BatchScoring(on=ps.new_pins())
