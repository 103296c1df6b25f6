"""Scores asked for now and fetched later, over HTTP."""

from __future__ import annotations

import asyncio
import json
import math
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from penstock.control import replay
from penstock.deployment import deploy, load_engine
from penstock.ports import EVENTS_TOPIC
from penstock.records import ScoringJob
from penstock.registry import get_version, read_manifest
from penstock.runtime import executing
from penstock.scoring import (
    Ask,
    Fleet,
    build_fleet,
    drain_scores,
    read_target,
    score_batch,
    scores_in,
)
from penstock.testing.lanes import Giving
from penstock.testing.protecting import protect

from .test_api import Caller, caller, error_of

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["caller"]  # a fixture

JOBS = "/v1/deployments/btc/jobs"
Json = Any


def _done(caller: Caller, asked: Json) -> Json:
    """Ask, and wait until it has ended."""
    accepted = caller.http.post(JOBS, json=asked)
    assert accepted.status_code == 202, accepted.text
    where = accepted.headers["Location"]
    with executing(caller.services):
        caller.services.workflows.wait(caller.http.get(where).json()["run_id"], timeout_s=60)
    return caller.http.get(where).json()


def _pages(caller: Caller, job: Json, limit: int) -> list[Json]:
    found: list[Json] = []
    after = ""
    while True:
        where = f"{JOBS}/{job['job_id']}/scores"
        page = caller.http.get(where, params={"after": after, "limit": limit}).json()
        found += page["scores"]
        if page["next"] is None:
            return found
        after = page["next"]


def test_entities_are_scored_and_fetched_by_the_page(caller: Caller) -> None:
    deploy(caller.services, "btc", version=1)
    keys = ["BTC", "ETH", "ADA", "BTC", "unheard"]

    job = _done(caller, {"entities": keys, "at": "2026-01-08T00:00:00Z"})
    scores = _pages(caller, job, 2)

    assert (job["state"], job["share"], job["rows"], job["version"]) == (
        "succeeded", 1.0, 5, "direction@1"
    )  # fmt: skip
    assert [one["entity"] for one in scores] == keys
    assert {one["as_of"] for one in scores} == {"2026-01-08T00:00:00Z"}
    assert {one["route"] for one in scores} == {"batch"}
    assert scores[0]["probability"] == scores[3]["probability"] != scores[1]["probability"]
    for one in scores:
        again = replay(caller.services, one["prediction_id"])
        assert (again.same, again.causes) == (True, ())
    told = caller.services.log.read(EVENTS_TOPIC, after=0, limit=1_000)
    events = [json.loads(entry.payload) for entry in told if b"scores.ready" in entry.payload]
    assert [event["ids"] for event in events] == [
        {"job_id": job["job_id"], "version": "direction@1"}
    ]


def test_a_row_without_a_prediction_is_told_as_such(
    caller: Caller, monkeypatch: pytest.MonkeyPatch
) -> None:
    deploy(caller.services, "btc", version=1)
    monkeypatch.setattr("penstock.scoring.jobs.load_engine", lambda *_: Giving(1.7))

    job = _done(caller, {"entities": ["BTC"], "at": "2026-01-08T00:00:00Z"})

    (score,) = _pages(caller, job, 2)
    assert (job["state"], job["scored"]["rows"], job["scored"]["without"]) == ("succeeded", 1, 1)
    assert score["prediction"] is None
    assert score["probability"] == {"false": None, "true": None}
    assert "which is no probability" in score["reason"]
    alone = caller.http.get(f"/v1/scores/{score['prediction_id']}").json()
    assert (alone["prediction"], alone["reason"]) == (None, score["reason"])


def test_that_scores_are_ready_is_among_the_events(caller: Caller) -> None:
    deploy(caller.services, "btc", version=1)
    before = caller.http.get("/v1/events", params={"limit": 1}).json()
    job = _done(caller, {"entities": ["BTC"], "at": "2026-01-08T00:00:00Z"})
    asked = {"after": before["end"], "kind": "scores.ready"}

    found = caller.http.get("/v1/events", params=asked, headers=caller.as_role("reader")).json()

    assert [(len(before["events"]), before["next"])] == [(1, 1)]
    assert [(one["kind"], one["subject"], one["ids"]) for one in found["events"]] == [
        ("scores.ready", "btc", {"job_id": job["job_id"], "version": "direction@1"})
    ]
    assert found["next"] == found["end"] > before["end"]
    again = caller.http.get("/v1/events", params={"after": found["next"]}).json()
    assert again == {"events": [], "next": found["end"], "end": found["end"]}


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"after": "x"}, "query.after"),
        ({"after": -1}, "query.after"),
        ({"after": 1 << 63}, "query.after"),
        ({"after": 1 << 62}, "The cursor is of another project"),
        ({"limit": 1_001}, "query.limit"),
        ({"kind": "score.ready"}, "'scores.ready'"),
    ],
)
def test_events_that_cannot_be_asked_for(caller: Caller, asked: Json, said: str) -> None:
    answer = caller.http.get("/v1/events", params=asked)

    assert error_of(answer) == (422, "input")
    assert said in answer.json()["error"]["message"]


def test_features_that_are_handed_in_are_scored_as_they_are(caller: Caller) -> None:
    deploy(caller.services, "btc", version=2)
    record = get_version(caller.services.metadata, "direction", 2)
    folder = caller.services.artifacts.path(record.package)
    manifest = read_manifest(folder)
    x = np.random.default_rng(1).normal(size=(30, len(manifest.features))).round(3)
    x[:, manifest.features.index("momentum.count_1d")] = 24
    x[3, 0] = math.nan
    rows = [
        {
            "features": {
                name: None if math.isnan(value) else (24 if "count" in name else value)
                for name, value in zip(manifest.features, row.tolist(), strict=True)
            }
        }
        for row in x
    ]

    job = _done(caller, {"rows": rows, "id": "mine"})
    scores = _pages(caller, job, 1_000)

    expected = load_engine(folder, manifest).predict(x).tolist()
    assert [one["probability"]["true"] for one in scores] == pytest.approx(expected, abs=1e-12)
    assert replay(caller.services, scores[3]["prediction_id"]).same


def test_the_same_id_is_the_same_job(caller: Caller) -> None:
    deploy(caller.services, "btc", version=1)
    asked = {"entities": ["BTC"], "id": "nightly-1"}

    first, second = (caller.http.post(JOBS, json=asked) for _ in range(2))
    other = caller.http.post(JOBS, json={**asked, "entities": ["ETH"]})
    job = _done(caller, asked)

    assert first.json() == second.json()
    assert error_of(other) == (409, "conflict")
    assert len(caller.services.metadata.find(ScoringJob)) == 1
    assert len(_pages(caller, job, 10)) == 1
    assert [one["job_id"] for one in caller.http.get(JOBS).json()] == ["nightly-1"]
    actions = [(entry.action, entry.subject) for entry in caller.services.metadata.audit()]
    assert actions.count(("score job", "run/job-btc-nightly-1")) == 1


def test_a_job_is_of_the_version_that_was_champion_when_it_was_asked_for(caller: Caller) -> None:
    deploy(caller.services, "btc", version=1)
    accepted = caller.http.post(JOBS, json={"entities": ["BTC"]}).json()
    deploy(caller.services, "btc", version=2)

    with executing(caller.services):
        run_id = f"job-btc-{accepted['job_id']}"
        caller.services.workflows.wait(run_id, timeout_s=60)

    (score,) = caller.http.get(accepted["scores"]).json()["scores"]
    assert score["version"] == 1


def test_there_is_nothing_to_fetch_before_it_is_done(caller: Caller) -> None:
    deploy(caller.services, "btc", version=1)
    accepted = caller.http.post(JOBS, json={"entities": ["BTC"]}).json()

    assert caller.http.get(accepted["status"]).json()["state"] == "queued"
    assert error_of(caller.http.get(accepted["scores"])) == (409, "not_ready")
    ended = caller.http.delete(accepted["status"])
    assert (ended.status_code, ended.json()["state"]) == (202, "cancelled")
    assert caller.services.metadata.audit()[-1].action == "cancel"


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (b"{", "no job"),
        (b"{}", "either 'rows' or 'entities'"),
        (b'{"rows": [], "entities": []}', "either"),
        (b'{"entities": []}', "length >= 1 - at `$.entities`"),
        (b'{"entities": ["BTC", 1]}', "got `int` - at `$.entities[1]`"),
        (b'{"entities": "BTC"}', "at `$.entities`"),
        (b'{"entities": ["BTC"], "at": "2026-01-08T00:00:00"}', "at `$.at`. Write a time with"),
        (b'{"rows": [{"entity": {"symbol": "BTC"}, "at": 1}]}', "at `$.rows[0].at`"),
        (b'{"rows": [{"entity": {"smybol": "BTC"}}]}', "Did you mean 'symbol'"),
        (b'{"rows": [{"entity": {"symbol": "BTC"}}], "at": "2026-01-01T00:00:00Z"}', "'at' goes"),
        (b'{"entities": ["BTC"], "id": "../x"}', "letters, digits"),
        (b'{"entities": ["BTC"], "webhook": "ftp://x"}', "is no address"),
        (b'{"entities": ["BTC"], "webhook": "http://example.com/"}', "not encrypted"),
        (b'{"entities": ["BTC"], "webhok": ""}', "unknown field `webhok`"),
    ],
)
def test_what_is_no_job_is_refused_whole(caller: Caller, body: bytes, says: str) -> None:
    deploy(caller.services, "btc", version=1)

    refused = caller.http.post(JOBS, content=body)

    assert refused.status_code in {400, 422}
    assert says in refused.json()["error"]["message"]
    assert caller.services.metadata.find(ScoringJob) == []


def test_who_may_ask_and_who_may_look(caller: Caller) -> None:
    deploy(caller.services, "btc", version=1)
    reader, writer = caller.as_role("reader"), caller.as_role("writer")
    asked = {"entities": ["BTC"]}

    assert error_of(caller.http.post(JOBS, json=asked, headers=reader)) == (403, "access")
    accepted = caller.http.post(JOBS, json=asked, headers=writer)
    where = accepted.json()["status"]
    assert caller.http.get(where, headers=reader).json()["asked_by"] == "ana-writer"
    assert error_of(caller.http.delete(where, headers=reader)) == (403, "access")
    assert caller.services.metadata.audit()[-1].actor == "ana-writer"
    missing = caller.http.get(JOBS + "/other")
    assert error_of(missing) == (404, "not_found")
    assert "There is no job 'other'." in missing.text
    nowhere = "/v1/deployments/none/jobs"
    assert error_of(caller.http.post(nowhere, json=asked)) == (404, "not_found")
    assert error_of(caller.http.get("/v1/deployments/split/jobs/x/scores")) == (404, "not_found")


def _online(caller: Caller) -> str:
    nothing = Fleet()
    fleet = build_fleet(
        caller.services, nothing, read_target(caller.services.metadata, nothing.target)
    )
    ask = Ask(caller.services.clock.now_us(), key="BTC", request_id="r1")
    score = asyncio.run(fleet.endpoints["btc"].score(ask))
    fleet.close()
    return score.prediction_id


def _of_a_batch(caller: Caller) -> str:
    score_batch(caller.services, "btc")
    rows = caller.services.tables.scan("scores/btc").collect()
    return scores_in(rows)[7].prediction_id


@pytest.mark.parametrize("made", [_online, _of_a_batch], ids=["online", "batch"])
def test_a_score_is_found_by_its_id(caller: Caller, made: Callable[[Caller], str]) -> None:
    deploy(caller.services, "btc", version=1)
    prediction_id = made(caller)

    before = caller.http.get(f"/v1/scores/{prediction_id}").json()
    drain_scores(caller.services)
    after = caller.http.get(f"/v1/scores/{prediction_id}").json()

    assert before == after
    assert (before["prediction_id"], before["version"]) == (prediction_id, 1)
    assert set(before["features"]) == {
        "momentum.last_close", "momentum.mean_ret_6h", "momentum.std_ret_1d",
        "momentum.max_close_2d", "momentum.count_1d",
    }  # fmt: skip
    assert error_of(caller.http.get("/v1/scores/none")) == (404, "not_found")


def test_protected_values_stay_protected(caller: Caller) -> None:
    deploy(caller.services, "btc", version=1)
    prediction_id = _online(caller)
    reader = protect(caller.services, "momentum")

    headers = {"Authorization": f"Bearer {reader}"}
    seen = caller.http.get(f"/v1/scores/{prediction_id}", headers=headers).json()

    assert set(seen["features"].values()) == {"protected"}
    assert isinstance(seen["prediction"], float)
