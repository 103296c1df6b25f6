"""What scores saw and what is online is what the raw tables say, or somebody is told."""

from __future__ import annotations

import io
import time
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
import polars as pl
import pytest

import penstock as ps
from penstock.control import (
    NOTIFICATIONS_TOPIC,
    CheckSchedule,
    Notification,
    check_features,
    check_reads,
    check_run,
    check_scores,
    check_served,
    due,
    refresh_features,
    report_inconsistent,
    start,
    step_functions,
)
from penstock.features import space_of
from penstock.http.api_features import FeatureMetrics
from penstock.plan import Catalogue, apply
from penstock.ports import EVENTS_TOPIC, Put
from penstock.records import AppliedProject, Event, FeatureReport, ReadSample, ReadSamples, Score
from penstock.scoring import drain_scores, score_frame, scores_in
from penstock.spec import function
from penstock.testing.served_project import SYMBOLS
from penstock.testing.serving import serving

if TYPE_CHECKING:
    from penstock.runtime import LocalServices
    from penstock.testing.served_project import ServedProject

HOUR_US = 3_600_000_000


def corrupt(services: LocalServices, key: str) -> None:
    """Add a half to the newest close of an entity in the online store."""
    view = Catalogue.load(services.metadata).view("momentum")
    space, key_ = space_of(view), key.encode()
    (value,) = services.online.get(space, [key_])
    assert value is not None
    raw = services.tables.scan("raw/candles").collect()
    newest = raw.filter(raw["symbol"] == key).sort("ts")["close"][-1]
    words = np.frombuffer(value, np.float64).copy()
    places = np.flatnonzero(words == newest)
    assert len(places)
    words[places] += 0.5
    last = services.tables.applied("raw/candles", "raw/candles") + 1
    services.tables.append("raw/candles", raw.head(0), app="raw/candles", number=last)
    services.online.write(space, {key_: words.tobytes()}, progress=last)


def run_check(services: LocalServices, max_rate: float = 0.0) -> dict[str, Any]:
    """The steps of a check, each done twice, as if killed after all its work was done."""
    submission = check_run("check", max_rate=max_rate)
    functions = step_functions(services)
    outputs: dict[str, Any] = {}
    for step in submission.pipeline.steps:
        first = functions[step.function](submission.parameters, outputs)
        if step.name != "drain":
            assert functions[step.function](submission.parameters, outputs) == first
        outputs[step.name] = msgspec.json.decode(msgspec.json.encode(first))
    return outputs


def reports(services: LocalServices, outputs: dict[str, Any]) -> dict[str, FeatureReport]:
    found = [services.metadata.read(FeatureReport, one) for one in outputs["compare"]["reports"]]
    return {report.subject: report for report in found if report}


def told(services: LocalServices) -> list[Notification]:
    entries = services.log.read(NOTIFICATIONS_TOPIC, after=0, limit=100)
    return [msgspec.json.decode(entry.payload, type=Notification) for entry in entries]


def events(services: LocalServices) -> list[Event]:
    entries = services.log.read(EVENTS_TOPIC, after=0, limit=1_000)
    every = [msgspec.json.decode(entry.payload, type=Event) for entry in entries]
    return [event for event in every if event.kind == "features.inconsistent"]


@pytest.mark.slow
def test_a_served_project_is_consistent_until_its_store_is_corrupted(
    scored: LocalServices, scored_template: ServedProject
) -> None:
    endpoint = Catalogue.load(scored.metadata).deployment("btc")
    watch = ps.Monitor(
        endpoint, drift=ps.psi(), on_breach=[ps.notify("ops"), ps.retrain(), ps.notify("ops")]
    )
    project = ps.Project("served", declarations=[watch])
    apply(scored.metadata, project, actor="tester", now=scored.clock.now())
    refresh_features(scored, "candles")
    here = msgspec.structs.replace(scored_template, home=scored.home)
    with serving(here) as http:

        def ask() -> None:
            rows = [{"entity": {"symbol": symbol}} for symbol in SYMBOLS]
            url = "/v1/deployments/btc/predict"
            assert all(http.post(url, json=row).is_success for row in rows for _ in range(4))

        ask()
        found = run_check(scored)
        fine = reports(scored, found)
        assert set(fine) == {"momentum", "btc"}
        assert [check.compared for check in fine["btc"].checks] == [12] * 5
        assert {check.feature for check in fine["btc"].checks} == set(here.features)
        assert not any(report.above(0.0) for report in fine.values())
        assert not fine["btc"].skipped
        assert found["tell"] == {"inconsistent": []}
        assert (told(scored), events(scored)) == ([], [])

        corrupt(scored, "BTC")
        ask()
        # Nothing has been told of it where that many may differ.
        assert run_check(scored, 0.9)["tell"] == {"inconsistent": []}
        ask()
        found = run_check(scored)

    wrong = reports(scored, found)
    assert wrong["btc"].from_us < wrong["btc"].to_us
    (last,) = wrong["btc"].above(0.0)
    assert (last.feature, last.compared, last.mismatches) == ("momentum.last_close", 12, 4)
    assert last.rate == pytest.approx(1 / 3)
    assert (last.key, len(last.prediction_id)) == ("BTC", 26)
    assert last.worst is not None
    assert last.worst > 0
    assert [check.feature for check in wrong["momentum"].above(0.0)] == ["momentum.last_close"]
    ids = [report.report_id for report in wrong.values()]
    assert found["tell"]["inconsistent"] == ids
    assert [event.ids["report_id"] for event in events(scored)] == ids
    notes = told(scored)
    assert [(note.channel, note.monitor, note.incident_id) for note in notes] == [
        ("ops", "btc", ids[0]),
        ("ops", "btc", ids[1]),
    ]
    assert "momentum.last_close: 4 of 12 values" in notes[1].breaches[0]


def as_looked_up(services: LocalServices, count: int, **changes: object) -> list[Score]:
    """Scores of the batch run, put into the table as if they had been looked up online."""
    rows = scores_in(services.tables.scan("scores/btc").collect().head(count))
    made = [
        msgspec.structs.replace(
            row, origin="online", route="champion", prediction_id=services.ids.new(), **changes
        )
        for row in rows
    ]
    number = services.clock.now_us()
    services.tables.append("scores/btc", score_frame(made), app="served", number=number)
    return made


def test_scores_are_compared_with_the_batches_each_had_seen(scored: LocalServices) -> None:
    """Batch 3 holds an older record: who has seen it and says so is right, who has not is too."""
    to_us = scored.clock.now_us() + HOUR_US
    as_looked_up(scored, 60)
    fine = check_served(scored, "btc", from_us=0, to_us=to_us)
    assert {check.compared for check in fine.checks} == {60}
    assert not fine.above(0.0)
    as_looked_up(scored, 60, progress={"momentum": 3})
    wrong = check_served(scored, "btc", from_us=0, to_us=to_us)
    assert {check.compared for check in wrong.checks} == {120}
    assert "momentum.max_close_2d" in {check.feature for check in wrong.above(0.0)}
    assert all(check.mismatches <= 60 for check in wrong.checks)


def test_a_sample_is_drawn_from_the_window_and_from_what_was_looked_up(
    scored: LocalServices,
) -> None:
    now_us = scored.clock.now_us()
    assert check_served(scored, "btc", from_us=0, to_us=now_us).checks == ()  # only a batch
    as_looked_up(scored, 300, scored_at_us=now_us)
    as_looked_up(scored, 50, scored_at_us=now_us - HOUR_US)
    as_looked_up(scored, 50, scored_at_us=now_us + HOUR_US)
    whole = check_served(scored, "btc", from_us=now_us - 1, to_us=now_us)
    assert {check.compared for check in whole.checks} == {300}
    few = check_served(scored, "btc", from_us=now_us - 1, to_us=now_us, sample=20)
    assert {check.compared for check in few.checks} == {20}
    assert check_scores(scored, "split", from_us=0, to_us=now_us) is None


def test_a_null_that_should_be_a_value_has_no_size(scored: LocalServices) -> None:
    as_looked_up(scored, 5, features=(None, None, None, None, None))
    to_us = scored.clock.now_us() + 1
    report = check_scores(scored, "btc", from_us=0, to_us=to_us)
    assert report is not None
    last = next(check for check in report.checks if check.feature == "momentum.last_close")
    assert (last.mismatches, last.worst) == (5, None)
    assert scored.metadata.read(FeatureReport, report.report_id) == report


def test_what_cannot_be_computed_again_is_named(scored: LocalServices) -> None:
    as_looked_up(scored, 3, features=(1.0,))
    as_looked_up(scored, 3, version=9)
    report = check_scores(scored, "btc", from_us=0, to_us=scored.clock.now_us() + 1)
    assert report is not None
    assert report.checks == ()
    assert "another number of features" in report.skipped["direction@1"]
    assert "direction@9" in report.skipped["direction@9"]
    assert not report_inconsistent(scored, report, max_rate=0.0)


def test_one_look_goes_on_where_the_last_ended(scored: LocalServices) -> None:
    now_us = scored.clock.now_us()
    as_looked_up(scored, 7, scored_at_us=now_us - 100)
    as_looked_up(scored, 3, scored_at_us=now_us - 50)
    as_looked_up(scored, 9, scored_at_us=now_us - 25 * HOUR_US)  # longer ago than a day
    views_and_scores = check_features(scored, to_us=now_us - 60)
    assert [report.origin for report in views_and_scores] == ["online", "served"]
    assert views_and_scores[1].checks[0].compared == 7
    (later,) = [r for r in check_features(scored, to_us=now_us) if r.origin == "served"]
    assert (later.from_us, later.checks[0].compared) == (now_us - 60, 3)
    (again,) = [r for r in check_features(scored, to_us=now_us) if r.origin == "served"]
    assert msgspec.structs.replace(again, created_at=later.created_at) == later
    assert [r.origin for r in check_features(scored, to_us=now_us + 10)] == ["online"]


FAULTS: list[str] = []


def moody(close: object) -> object:
    """Fails where there is a fault, with a price in its words."""
    for fault in FAULTS:
        raise ValueError(fault)
    return close


def test_a_view_that_cannot_be_computed_keeps_no_other_from_being_checked(
    scored: LocalServices, monkeypatch: pytest.MonkeyPatch
) -> None:
    catalogue = Catalogue.load(scored.metadata)
    moods = ps.FeatureView(
        "moods",
        source=catalogue.source("candles"),
        derive={"mood": function(moody, "close")},
        features=[ps.last("mood")],
    )
    project = ps.Project("p", declarations=[moods, *catalogue.declarations.values()])
    apply(scored.metadata, project, actor="a", now=scored.clock.now())
    refresh_features(scored, "candles")
    monkeypatch.setitem(globals(), "FAULTS", ["12345.0 is no price"])

    reports = check_features(scored, to_us=scored.clock.now_us())

    found = {one.subject: one for one in reports if one.origin == "online"}
    assert set(found) == {"momentum", "moods"}
    assert found["momentum"].checks
    assert (found["moods"].checks, dict(found["moods"].skipped)) == (
        (), {"moods": "A function of the user failed."},
    )  # fmt: skip
    assert not report_inconsistent(scored, found["moods"], max_rate=0.0)


def test_features_are_checked_once_in_each_interval(scored: LocalServices) -> None:
    schedule = CheckSchedule(HOUR_US, 0.25)
    now = scored.clock.now()
    now_us = scored.clock.now_us() + HOUR_US
    assert due(scored, now_us=now_us) == []
    applied = scored.metadata.read(AppliedProject, "project")
    assert applied is not None
    hour_us = int(applied.applied_at.timestamp()) // 3_600 * HOUR_US
    assert due(scored, now_us=hour_us, check=schedule) == []
    (submission,) = due(scored, now_us=now_us, check=schedule)
    slot = (now + timedelta(hours=1)).strftime("%Y%m%dT%H00")
    assert submission.run_id == f"check-features-{slot}"
    assert submission.parameters == {"max_rate": 0.25}
    start(scored, submission)
    assert due(scored, now_us=now_us, check=schedule) == []
    assert due(scored, now_us=now_us + HOUR_US, check=schedule) == []  # the first has not ended
    scored.workflows.cancel(submission.run_id)
    assert len(due(scored, now_us=now_us + HOUR_US, check=schedule)) == 1


def test_nothing_is_checked_where_there_is_nothing(watched: Any) -> None:  # noqa: ANN401 - a fixture's class
    now_us = watched.services.clock.now_us()
    assert due(watched.services, now_us=now_us, check=CheckSchedule(HOUR_US)) == []
    assert check_features(watched.services, to_us=now_us) == []
    assert drain_scores(watched.services) == 0


@pytest.mark.slow
def test_what_feature_servers_answer_is_compared_too(
    scored: LocalServices, scored_template: ServedProject
) -> None:
    catalogue = Catalogue.load(scored.metadata)
    (view,) = catalogue.all(ps.FeatureView)
    gap = ps.OnDemandView(
        "gap",
        views=[view],
        request={"bid": ps.Float64},
        features={"far": ps.col("bid") - ps.col("momentum.mean_ret_6h")},
    )
    quotes = ps.FeatureService("quotes", features=[gap, view])
    learned = catalogue.deployment("btc").model.dataset.service
    assert learned is not None
    watch = ps.Monitor(catalogue.deployment("btc"), drift=ps.psi(), on_breach=[ps.notify("ops")])
    project = ps.Project("served", declarations=[watch, quotes])
    apply(scored.metadata, project, actor="tester", now=scored.clock.now())
    refresh_features(scored, "candles")
    here = msgspec.structs.replace(scored_template, home=scored.home)

    def served() -> dict[str, FeatureReport]:
        begun_us = scored.clock.now_us()
        with serving(here) as http:
            for symbol in [*SYMBOLS, "nobody"]:
                row = {"entity": {"symbol": symbol}}
                asked = {**row, "request": {"bid": 1.5}}
                assert http.post("/v1/features/quotes", json=asked).is_success
                assert http.post(f"/v1/features/{learned.name}", json=row).is_success
                time.sleep(0.25)  # one row is taken every 200 ms
            frame = pl.DataFrame({"symbol": SYMBOLS, "bid": [1.0, 2.0, 3.0]})
            body = io.BytesIO()
            frame.write_ipc_stream(body, compat_level=pl.CompatLevel.oldest())
            headers = {"content-type": "application/vnd.apache.arrow.stream"}
            url = "/v1/features/quotes"
            assert http.post(url, content=body.getvalue(), headers=headers).is_success
            for _ in range(100):
                found = scored.metadata.find(ReadSamples, where={"service": "quotes"})
                newest = [one for one in found if one.written_us > begun_us][-1:]
                if newest and len(newest[0].rows) == 5:
                    break
                time.sleep(0.1)
        return reports(scored, run_check(scored))

    fine = served()
    assert fine["quotes"].origin == "read"
    assert [(one.feature, one.compared) for one in fine["quotes"].checks] == [
        (name, 5) for name in quotes.names
    ]
    assert {one.compared for one in fine[learned.name].checks} == {4}
    assert not any(report.above(0.0) for report in fine.values())
    # What was compared once is not compared again.
    assert {"quotes", learned.name}.isdisjoint(reports(scored, run_check(scored)))

    corrupt(scored, "BTC")
    wrong = served()
    (last,) = wrong["quotes"].above(0.0)
    assert (last.feature, last.key) == ("momentum.last_close", "BTC")
    assert last.mismatches in {1, 2}  # the row of the stream may be hers
    assert {event.subject for event in events(scored)} >= {"quotes", learned.name}
    assert learned.name in {one.incident_id.rpartition("-read-")[2] for one in told(scored)}
    (metric,) = [
        sample.value
        for family in FeatureMetrics(scored).collect()
        for sample in family.samples
        if sample.name == "penstock_feature_mismatch_rate"
        and sample.labels == {
            "origin": "read", "subject": "quotes", "feature": "momentum.last_close",
        }
    ]  # fmt: skip
    assert metric == pytest.approx(last.rate)


def test_answers_of_another_meaning_and_of_long_ago_are_left_out(scored: LocalServices) -> None:
    catalogue = Catalogue.load(scored.metadata)
    (view,) = catalogue.all(ps.FeatureView)
    service = ps.FeatureService("quotes", features=[view["last_close"]])
    now_us = scored.clock.now_us()
    row = ReadSample(
        read_us=now_us - 1, as_of_us=now_us, keys={"symbol": "BTC"}, request={}, values=(-1.0,),
        progress={"momentum": 1},
    )  # fmt: skip
    samples = ReadSamples(
        service="quotes", service_id="other", process="here/1", rows=(row,), written_us=now_us
    )
    scored.metadata.write(Put(samples))
    assert check_reads(scored, service, from_us=0, to_us=now_us) is None
    same = msgspec.structs.replace(samples, service_id=service.service_id, process="here/2")
    scored.metadata.write(Put(same))
    assert check_reads(scored, service, from_us=now_us, to_us=now_us + 1) is None
    report = check_reads(scored, service, from_us=0, to_us=now_us)
    assert report is not None
    assert [(one.key, one.mismatches) for one in report.checks] == [("BTC", 1)]
    check_features(scored, to_us=now_us + HOUR_US)
    assert len(scored.metadata.find(ReadSamples)) == 2
    check_features(scored, to_us=now_us + 72 * HOUR_US)
    assert scored.metadata.find(ReadSamples) == []


def test_a_sample_of_the_answers_is_compared(scored: LocalServices) -> None:
    catalogue = Catalogue.load(scored.metadata)
    (view,) = catalogue.all(ps.FeatureView)
    service = ps.FeatureService("quotes", features=[view["last_close"]])
    now_us = scored.clock.now_us()
    rows = tuple(
        ReadSample(
            read_us=now_us - 1, as_of_us=now_us, keys={"symbol": symbol}, request={},
            values=(-1.0,), progress={"momentum": 1},
        )
        for symbol in ("BTC", "ETH") * 5
    )  # fmt: skip
    samples = ReadSamples(
        service="quotes", service_id=service.service_id, process="here/1", rows=rows,
        written_us=now_us,
    )  # fmt: skip
    scored.metadata.write(Put(samples))

    def compared(seed: int) -> tuple[int, str | int | None]:
        report = check_reads(scored, service, from_us=0, to_us=now_us, sample=1, seed=seed)
        assert report is not None
        (check,) = report.checks
        return check.compared, check.key

    assert {compared(seed) for seed in range(10)} == {(1, "BTC"), (1, "ETH")}
    assert compared(3) == compared(3)
