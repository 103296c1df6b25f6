from __future__ import annotations

import json
import socket
import threading
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import httpx
import pytest
import uvicorn

import penstock as ps
from penstock.access import token_hash
from penstock.control import advance_bandit, advance_experiment, carry_out
from penstock.deployment import deploy, get_rollout
from penstock.http.api_app import build_app
from penstock.http.api_limit import BODY_LIMIT_BYTES
from penstock.monitoring import drain_observations
from penstock.ports import Put
from penstock.records import FeatureCheck, FeatureReport, Identity
from penstock.runtime import LocalServices, open_services
from penstock.testing.traffic import declare

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator

    from penstock.records import Role
    from penstock.testing.served_project import ServedProject

RECORD = {"symbol": "BTC", "ts": "2026-02-01T00:00:00Z", "open": 1.0, "close": 2.0, "volume": 3.0}
EVENTS = "/v1/sources/candles/events"


class Caller:
    """A client of the control plane, and the project behind it."""

    def __init__(self, services: LocalServices, token: str, address: str) -> None:
        self.services = services
        headers = {"Authorization": f"Bearer {token}"}
        self.http = httpx.Client(base_url=address, headers=headers, timeout=60)

    def as_role(self, role: Role) -> dict[str, str]:
        """Headers of somebody of that role."""
        now = datetime(2026, 1, 1, tzinfo=UTC)
        name = f"ana-{role}"
        known = Identity(name=name, role=role, token_sha256=token_hash(role), created_at=now)
        self.services.metadata.write(Put(known))
        return {"Authorization": f"Bearer {role}"}

    def carry_out(self, rollout_id: str) -> None:
        """Do what a worker would."""
        carry_out(self.services, get_rollout(self.services.metadata, rollout_id))


@contextmanager
def running(services: LocalServices) -> Generator[str]:
    """The control plane on a free port, in a thread."""
    bound = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(build_app(services), log_config=None))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [bound]})
    thread.start()
    yield f"http://127.0.0.1:{bound.getsockname()[1]}"
    server.should_exit = True
    thread.join()
    bound.close()


@pytest.fixture
def caller(served: ServedProject) -> Iterator[Caller]:
    with open_services(served.home, kind="api") as services, running(services) as address:
        made = Caller(services, served.token, address)
        yield made
        made.http.close()


def error_of(answer: Any) -> tuple[int, str]:  # noqa: ANN401 - an httpx response
    return answer.status_code, answer.json()["error"]["kind"]


@pytest.mark.parametrize("path", ["/healthz", "/v2/health/live", "/v2/health/ready"])
def test_health_takes_no_token(caller: Caller, path: str) -> None:
    del caller.http.headers["Authorization"]

    assert caller.http.get(path).status_code == 200


def test_everything_else_takes_one(caller: Caller) -> None:
    paths = caller.http.get("/openapi.json").json()["paths"]
    del caller.http.headers["Authorization"]
    guarded = {path for path in paths if "health" not in path} | {"/openapi.json"}

    assert len(guarded) > 15
    for path in guarded:
        method = "GET" if path == "/openapi.json" else next(iter(paths[path])).upper()
        answer = caller.http.request(method, path.replace("{", "").replace("}", ""), json={})
        assert error_of(answer) == (401, "access"), path
        assert answer.headers["WWW-Authenticate"] == "Bearer"


def test_roles_are_kept_apart(caller: Caller) -> None:
    reader, writer = caller.as_role("reader"), caller.as_role("writer")

    assert caller.http.get("/v1/models", headers=reader).status_code == 200
    assert error_of(caller.http.post(EVENTS, json=RECORD, headers=reader)) == (403, "access")
    assert caller.http.post(EVENTS, json=RECORD, headers=writer).status_code == 202
    answer = caller.http.post("/v1/deployments/btc/deploy", headers=writer)
    assert error_of(answer) == (403, "access")


def test_events_are_durable_when_they_are_answered(caller: Caller) -> None:
    lines = "\n".join(json.dumps(RECORD) for _ in range(3))
    kind = {"Content-Type": "application/x-ndjson"}

    one = caller.http.post(EVENTS, json=RECORD)
    three = caller.http.post(EVENTS, content=lines, headers=kind)

    assert (one.json(), three.json()) == ({"count": 1, "offset": 1}, {"count": 3, "offset": 4})
    entries = caller.services.log.read("candles", after=0, limit=10)
    assert [json.loads(entry.payload) for entry in entries] == [RECORD] * 4


def test_what_is_sent_keeps_who_sent_it(caller: Caller) -> None:
    writer = caller.as_role("writer")
    assert caller.http.post(EVENTS, json=RECORD, headers=writer).status_code == 202
    outcome = {"deployment": "btc", "observations": [{"prediction_id": "p", "value": 1}]}
    answer = caller.http.post("/v1/observations", json=outcome, headers=writer)
    assert answer.status_code == 202

    services = caller.services
    (event,) = services.log.read("candles", after=0, limit=9)
    assert event.sender == "ana-writer"
    assert drain_observations(services) == 1
    assert services.tables.scan("observations/btc").collect()["sender"].to_list() == ["ana-writer"]


@pytest.mark.parametrize(
    ("body", "kind", "status"),
    [
        (b'{"symbol": ', "application/json", 400),
        (b'{"a": 1}\n{"b": ', "application/x-ndjson", 400),
        (b"", "application/json", 400),
        (b"a,b\n1,2", "text/csv", 415),
        (b"[" + b" " * BODY_LIMIT_BYTES + b"]", "application/json", 413),
    ],
    ids=["malformed", "malformed line", "empty", "another type", "too large"],
)
def test_bodies_that_are_no_events_are_refused_whole(
    caller: Caller, body: bytes, kind: str, status: int
) -> None:
    answer = caller.http.post(EVENTS, content=body, headers={"Content-Type": kind})

    kinds = {413: "too_large"}
    assert error_of(answer) == (status, kinds.get(status, "input"))
    assert caller.services.log.end("candles") == 0


def test_a_body_without_a_length_is_limited_too(caller: Caller) -> None:
    chunks = (b" " * (1 << 20) for _ in range(20))

    answer = caller.http.post(EVENTS, content=chunks)

    assert error_of(answer) == (413, "too_large")


def test_unknown_names_get_the_nearest(caller: Caller) -> None:
    for path in ("/v1/sources/candle", "/v1/models/directions", "/v1/deployments/btx"):
        answer = caller.http.get(path)
        assert error_of(answer) == (404, "not_found")
        assert "Did you mean" in answer.json()["error"]["message"]
    assert error_of(caller.http.get("/v1/runs/none")) == (404, "not_found")
    assert error_of(caller.http.get("/v1/nothing")) == (404, "not_found")
    assert error_of(caller.http.get("/v1/runs?limit=0")) == (422, "input")


@pytest.mark.parametrize(
    "path",
    [
        "/v1/deployments/btc/predict", "/v1/deployments/btc/explain", "/v1/models/btc:predict",
        "/v1/models/btc/versions/1:explain", "/v2/models/btc/infer", "/invocations",
        "/v1/features/scoring",
    ],
)  # fmt: skip
def test_whoever_asks_for_scores_is_sent_to_the_process_that_answers_them(
    caller: Caller, path: str
) -> None:
    answer = caller.http.post(path, json={})

    assert answer.status_code in {404, 405}  # the last where the path is that of a model's page
    assert "asked of 'penstock serve'" in answer.json()["error"]["message"]


def test_sources_models_and_deployments_are_told(caller: Caller) -> None:
    (source,) = caller.http.get("/v1/sources").json()
    shown = caller.http.get("/v1/sources/candles").json()
    (model,) = caller.http.get("/v1/models").json()
    versions = caller.http.get("/v1/models/direction").json()["all_versions"]

    assert source["read"] == source["stored"] + source["quarantined"] + source["duplicates"] > 0
    assert [batch["number"] for batch in shown["batches"]] == [1]
    assert (model["name"], model["versions"]) == ("direction", 2)
    assert [version["version"] for version in versions] == [2, 1]


def test_a_deployment_is_changed_in_the_name_of_the_caller(caller: Caller) -> None:
    admin = caller.as_role("admin")
    path = "/v1/deployments/btc"

    begun = caller.http.post(f"{path}/deploy", json={"version": 1}, headers=admin)
    rollout = begun.json()
    run = caller.http.get(f"/v1/runs/{rollout['run_id']}").json()
    busy = caller.http.post(f"{path}/deploy", json={"version": 2})
    caller.carry_out(rollout["rollout_id"])
    done = caller.http.get(f"/v1/rollouts/{rollout['rollout_id']}").json()
    again = caller.http.post(f"{path}/deploy", json={"version": 1}, headers=admin)
    caller.carry_out(caller.http.post(f"{path}/deploy", json={"version": 2}).json()["rollout_id"])
    back = caller.http.post(f"{path}/rollback", headers=admin)

    assert (begun.status_code, rollout["state"], rollout["version"]) == (202, "checking", 1)
    assert (rollout["asked_by"], run["pipeline"]) == ("ana-admin", "deploy")
    assert error_of(busy) == (409, "conflict")
    assert (done["state"], done["ended_at"] is not None) == ("done", True)
    assert {check["kind"] for check in done["checks"]} == {"package", "unit", "replay"}
    assert (again.status_code, again.json()["changed"], back.json()["version"]) == (200, False, 1)
    told = caller.http.get(path).json()
    assert (told["champion"], told["previous"]) == (1, 2)
    listed = caller.http.get(f"{path}/rollouts").json()
    assert [one["version"] for one in listed] == [2, 1]
    page = caller.http.get(f"/v1/rollouts/{rollout['rollout_id']}/report")
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    assert "direction@1 on btc" in page.text
    audit = caller.http.get("/v1/audit").json()
    assert caller.http.get("/v1/audit", params={"after": (1 << 63) - 1}).json() == []
    assert caller.http.get("/v1/audit", params={"after": 1 << 63}).status_code == 422
    mine = [entry["action"] for entry in audit if entry["actor"] == "ana-admin"]
    assert mine == ["begin rollout", "start deploy", "rollback"]
    assert error_of(caller.http.post("/v1/deployments/btc/deploy", json={"version": 9})) == (
        404,
        "not_found",
    )


def test_a_rollout_waits_for_whoever_may_approve_it(caller: Caller) -> None:
    path = "/v1/deployments/btc/deploy"
    asked = {"version": 1, "approve": True}
    name = caller.http.post(path, json=asked, headers=caller.as_role("admin")).json()["rollout_id"]
    caller.carry_out(name)
    waiting = caller.http.get(f"/v1/rollouts/{name}").json()

    mine = caller.http.post(f"/v1/rollouts/{name}/approve", headers=caller.as_role("admin"))
    small = caller.http.post(f"/v1/rollouts/{name}/approve", headers=caller.as_role("writer"))
    bare = caller.http.post(f"/v1/rollouts/{name}/reject", json={})
    decided = caller.http.post(f"/v1/rollouts/{name}/approve", json={"reason": "fine"})
    late = caller.http.post(f"/v1/rollouts/{name}/reject", json={"reason": "no"})

    assert waiting["state"] == "waiting"
    assert [error_of(one) for one in (mine, small, bare, late)] == [
        (403, "access"), (403, "access"), (422, "input"), (409, "not_ready"),
    ]  # fmt: skip
    assert (decided.status_code, decided.json()["state"]) == (202, "approved")
    assert decided.json()["approver"]["reason"] == "fine"
    caller.carry_out(name)
    assert caller.http.get("/v1/deployments/btc").json()["champion"] == 1


def test_a_rollout_is_aborted_by_admins(caller: Caller) -> None:
    name = caller.http.post("/v1/deployments/btc/deploy", json={"version": 1}).json()["rollout_id"]
    path = f"/v1/rollouts/{name}/abort"

    refused = caller.http.post(path, headers=caller.as_role("writer"))
    aborted = caller.http.post(path, json={"reason": "a mistake"})

    assert error_of(refused) == (403, "access")
    assert aborted.json()["state"] == "aborted"
    assert "a mistake" in aborted.json()["reason"]
    assert error_of(caller.http.post(path)) == (409, "not_ready")
    assert error_of(caller.http.get("/v1/rollouts/none")) == (404, "not_found")
    assert error_of(caller.http.get(f"/v1/rollouts/{name}/report")) == (404, "not_found")


def test_experiments_are_listed_shown_reported_and_stopped_by_admins(caller: Caller) -> None:
    deploy(caller.services, "btc", version=1)
    declare(caller.services, experiment=ps.Experiment("trial", version=2))
    advance_experiment(caller.services, "btc", to_us=caller.services.clock.now_us())
    path, body = "/v1/experiments/trial", {"winner": False, "reason": "enough"}

    (listed,) = caller.http.get("/v1/experiments", params={"deployment": "btc"}).json()
    shown = caller.http.get("/v1/experiments/btc/trial").json()
    report = caller.http.get("/v1/experiments/btc/trial/report")
    small = caller.http.post(f"{path}/stop", json=body, headers=caller.as_role("writer"))
    wrong = caller.http.post(f"{path}/stop", json={"reason": "enough"})
    done = caller.http.post(f"{path}/stop", json=body)

    assert listed == shown
    assert (shown["stage"], shown["version"], shown["champion"]) == ("running", 2, 1)
    assert report.headers["content-type"].startswith("text/html")
    assert "Experiment trial on btc" in report.text
    assert (error_of(small), error_of(wrong)) == ((403, "access"), (422, "input"))
    assert (done.json()["stage"], done.json()["verdict"]) == ("ended", "stopped")
    assert error_of(caller.http.post(f"{path}/stop", json=body)) == (409, "not_ready")
    assert error_of(caller.http.get("/v1/experiments/none")) == (404, "not_found")


def test_bandits_are_listed_and_shown(caller: Caller) -> None:
    deploy(caller.services, "btc", version=1)
    declare(caller.services, bandit=ps.Bandit("promo", arms=[2]))
    advance_bandit(caller.services, "btc", to_us=caller.services.clock.now_us())

    (listed,) = caller.http.get("/v1/bandits").json()

    assert listed == caller.http.get("/v1/bandits/btc/promo").json()
    assert [(arm["target"], arm["share"]) for arm in listed["arms"]] == [
        ("champion", 0.5), ("@2", 0.5),
    ]  # fmt: skip
    assert error_of(caller.http.get("/v1/bandits/none")) == (404, "not_found")


def test_records_are_deleted_once_and_by_admins(caller: Caller) -> None:
    path, admin = "/v1/sources/candles/deletions", caller.as_role("admin")
    body = {"keys": ["BTC"], "id": "gdpr-1", "reason": "asked to"}
    source = caller.services.tables.scan("raw/candles").filter(symbol="BTC").collect()
    at = source["ts"].sort()[0].isoformat()

    assert error_of(caller.http.post(path, json=body, headers=caller.as_role("writer"))) == (
        403,
        "access",
    )
    one = caller.http.post(path, json={"keys": ["BTC"], "at": at}, headers=admin).json()
    rest = caller.http.post(path, json=body, headers=admin)
    again = caller.http.post(path, json=body, headers=admin)

    assert (one["deleted"], rest.json()["deleted"]) == (1, source.height - 1)
    assert rest.json() == again.json()
    assert rest.json()["delete_id"] == "gdpr-1"
    shown = caller.http.get("/v1/sources/candles").json()
    assert shown["deleted"] == source.height
    assert shown["batches"][0]["deletion"]["actor"] == "ana-admin"
    audit = caller.http.get("/v1/audit").json()
    assert [(e["actor"], e["action"]) for e in audit[-2:]] == [("ana-admin", "delete")] * 2
    for wrong, status in (
        ({"keys": ["BTC"]}, 404),  # none is left
        ({"keys": ["ETH"], "id": "gdpr-1"}, 409),
        ({"keys": []}, 422),
        ({"keys": [7]}, 422),
        ({"keys": [True]}, 422),
        ({"keys": ["ETH"], "at": "2026-01-01T00:00:00"}, 422),
        ({"keys": ["ETH"], "id": "x" * 201}, 422),
        ({"keys": ["ETH"], "key": "BTC"}, 422),
    ):
        assert caller.http.post(path, json=wrong).status_code == status, wrong
    assert caller.http.post("/v1/sources/candle/deletions", json=body).status_code == 404


@pytest.mark.parametrize("said", [None, "application/x-www-form-urlencoded"])
def test_a_body_is_json_where_nobody_said_what_it_is(caller: Caller, said: str | None) -> None:
    """As of ``curl -d``, which the guides call."""
    one = {"prediction_id": "p", "value": 1}
    body = json.dumps({"deployment": "btc", "observations": [one]})
    headers = {} if said is None else {"Content-Type": said}

    taken = caller.http.post("/v1/observations", content=body, headers=headers)
    other = caller.http.post("/v1/observations", content=body, headers={"Content-Type": "text/csv"})
    events = caller.http.post("/v1/sources/candles/events", content="[]", headers=headers)

    assert (taken.status_code, taken.json()) == (202, {"count": 1})
    assert other.status_code == 422
    assert events.status_code == 415


def test_observations_are_checked_and_durable(caller: Caller) -> None:
    path = "/v1/observations"
    one = {"prediction_id": "p", "value": 1, "measures": {"revenue": 2.5}}

    taken = caller.http.post(path, json={"deployment": "btc", "observations": [one]})

    assert (taken.status_code, taken.json()) == (202, {"count": 1})
    assert caller.services.log.end("observations") == 1
    for wrong, status in (
        ({"deployment": "btx", "observations": [one]}, 404),
        ({"deployment": "btc", "observations": []}, 422),
        ({"deployment": "btc", "observations": [one | {"value": 0.5}]}, 422),
        ({"deployment": "btc", "observations": [one | {"valu": 1}]}, 422),
    ):
        assert caller.http.post(path, json=wrong).status_code == status
    assert caller.services.log.end("observations") == 1


def test_a_training_is_queued_and_audited(caller: Caller) -> None:
    answer = caller.http.post("/v1/models/direction/train")

    run_id = answer.json()["run_id"]
    assert answer.status_code == 202
    shown = caller.http.get(f"/v1/runs/{run_id}").json()
    assert (shown["pipeline"], shown["subject"], shown["state"]) == ("train", "direction", "queued")
    (newest, *_) = caller.http.get("/v1/audit").json()[::-1]
    assert (newest["action"], newest["subject"]) == ("start train", f"run/{run_id}")


def test_metrics_count_by_route_not_by_path(caller: Caller) -> None:
    caller.http.get("/v1/models/direction")
    caller.http.get("/v1/models/none")

    text = caller.http.get("/metrics").text

    ok = 'penstock_api_requests_total{method="GET",route="/v1/models/{name}",status="200"} 1.0'
    assert ok in text
    assert "/v1/models/none" not in text


def test_origins_are_told(caller: Caller) -> None:
    found = caller.http.get("/v1/lineage/direction@1").json()

    assert found["kind"] == "version"
    assert error_of(caller.http.get("/v1/lineage/nothing")) == (404, "not_found")
    assert error_of(caller.http.get("/v1/replay/nothing")) == (404, "not_found")


def test_reports_on_features_are_listed_and_measured(caller: Caller) -> None:
    metadata, now = caller.services.metadata, datetime(2026, 1, 1, tzinfo=UTC)
    for number, origin, subject, wrong in (
        (1, "served", "btc", 4),
        (2, "served", "btc", 1),
        (3, "online", "momentum", 0),
    ):
        check = FeatureCheck(
            feature="momentum.count_1d", compared=4, mismatches=wrong, worst=0.5, key="BTC"
        )
        report = FeatureReport(
            report_id=f"{number}-{origin}-{subject}",
            origin=origin,  # type: ignore[arg-type]  # one of two texts
            subject=subject,
            from_us=0,
            to_us=number * 1_000_000,
            checks=(check,),
            created_at=now,
        )
        metadata.write(Put(report))

    every = caller.http.get("/v1/feature-reports").json()
    served = caller.http.get("/v1/feature-reports", params={"origin": "served", "limit": 1}).json()
    of_view = caller.http.get("/v1/feature-reports", params={"subject": "momentum"}).json()
    text = caller.http.get("/metrics").text

    assert [one["report_id"][0] for one in every] == ["3", "2", "1"]
    assert [one["checks"][0]["mismatches"] for one in served] == [1]
    assert [one["report_id"] for one in of_view] == ["3-online-momentum"]
    assert caller.http.get("/v1/feature-reports", params={"origin": "x"}).status_code == 422
    assert 'penstock_partition_batch{of="1",partition="1",view="momentum"} 1.0' in text
    assert 'penstock_partition_waiting_batches{of="1",partition="1",view="momentum"} 0.0' in text
    assert 'penstock_partition_process{of="1",partition="1",view="momentum"} 0.0' in text
    assert 'penstock_partition_swept_total{of="1",partition="1",view="momentum"} 0.0' in text
    labels = 'feature="momentum.count_1d",origin="served",subject="btc"'
    assert f"penstock_feature_mismatch_rate{{{labels}}} 0.25" in text
    assert f"penstock_feature_values_compared{{{labels}}} 4.0" in text
    when = 'penstock_feature_check_timestamp_seconds{origin="online",subject="momentum"} 3.0'
    assert when in text


def test_routes_are_changed_and_taken_back_in_the_name_of_the_caller(caller: Caller) -> None:
    path = "/v1/deployments/split/routes"
    deploy(caller.services, "split", version=1)

    body = {
        "shares": {"@2": 0.1},
        "shadows": {"candidate": False},
        "fallback": {"deadline": "40ms", "to": "constant", "value": 0.5},
        "reason": "try two",
        "expected": 0,
    }
    done = caller.http.post(path, json=body, headers=caller.as_role("admin")).json()
    told = caller.http.get(path, headers=caller.as_role("reader")).json()
    shown = caller.http.get("/v1/deployments/split").json()

    assert (done["revision"], done["changed"]) == (1, True)
    assert told["routes"] == shown["routes"] == done["routes"]
    assert [(one["name"], one["version"], one["share"]) for one in told["routes"]] == [
        ("champion", 1, pytest.approx(0.5)),
        ("challenger", 0, 0.4),
        ("challenger @2", 2, 0.1),
    ]
    # What would go to a version that is not there the champion takes.
    taken = {one["name"]: one["takes"] for one in told["routes"]}
    assert taken == {
        "champion": pytest.approx(0.9), "challenger": 0.0, "challenger @2": 0.1,
    }  # fmt: skip
    assert shown["route_changes"]["reason"] == "try two"
    assert caller.services.metadata.audit()[-1].actor == "ana-admin"
    assert error_of(caller.http.post(path, json=body)) == (409, "conflict")
    assert error_of(caller.http.delete(path, params={"expected": 5})) == (409, "conflict")
    back = caller.http.post(path, json={"fallback": "declared"}).json()
    assert (back["fallback"], back["revision"]) == (None, 2)
    led = {"headers": {"x-group=b": "@1"}, "rules": {"symbol == 'a'": "@2"}, "cached": "9s"}
    found = caller.http.post(path, json=led).json()
    assert [(one["name"], one["version"]) for one in found["routes"][3:]] == [
        ("header", 1), ("rule", 2), ("cached", 0),
    ]  # fmt: skip
    led = {"headers": {"x-group=b": None}, "rules": {"symbol == 'a'": "off"}, "cached": "declared"}
    assert len(caller.http.post(path, json=led).json()["routes"]) == 3
    reset = caller.http.delete(path, params={"expected": 4}).json()
    assert (reset["revision"], reset["changes"]["shares"]) == (5, {})


@pytest.mark.parametrize(
    ("body", "status", "kind"),
    [
        ({}, 422, "input"),
        ({"share": {"@2": 0.1}}, 422, "input"),
        ({"shares": {"@2": 1.5}}, 422, "input"),
        ({"shares": {"@2": 0.7}}, 422, "declaration"),
        ({"shares": {"@9": 0.1}}, 404, "not_found"),
        ({"headers": {"x-group": "@1"}}, 422, "input"),
        ({"rules": {"symbol ==": "@1"}}, 422, "input"),
        ({"rules": {"simbol == 'a'": "@1"}}, 422, "declaration"),
        ({"precomputed": "1h"}, 422, "input"),
        ({"cached": "off"}, 404, "not_found"),
        ({"fallback": {"deadline": "soon"}}, 422, "declaration"),
        ({"fallback": {"deadline": "1s", "to": "constant"}}, 422, "declaration"),
    ],
)
def test_routes_that_cannot_work_are_refused(
    caller: Caller, body: dict[str, object], status: int, kind: str
) -> None:
    path = "/v1/deployments/split/routes"

    assert error_of(caller.http.post(path, json=body)) == (status, kind)
    assert caller.http.get(path).json()["revision"] == 0


def test_routes_are_an_admin_s_to_change(caller: Caller) -> None:
    path = "/v1/deployments/split/routes"
    writer = caller.as_role("writer")

    assert error_of(caller.http.post(path, json={"shares": {"@2": 0.1}}, headers=writer))[0] == 403
    assert error_of(caller.http.delete(path, headers=writer))[0] == 403


def test_a_rollback_that_names_its_version_may_be_asked_twice(caller: Caller) -> None:
    for version in (1, 2):
        deploy(caller.services, "btc", version=version)
    path = "/v1/deployments/btc/rollback"

    first = caller.http.post(path, json={"to": 1}).json()
    again = caller.http.post(path, json={"to": 1, "expected": 2}).json()

    assert (first["version"], first["changed"]) == (1, True)
    assert (again["version"], again["changed"]) == (1, False)
    assert error_of(caller.http.post(path, json={"to": 2, "expected": 2})) == (409, "conflict")


def test_the_challenger_is_named_and_taken_away(caller: Caller) -> None:
    path = "/v1/models/direction/aliases/challenger"
    writer = caller.as_role("writer")

    refused = [caller.http.post(path, json={"version": 1}, headers=writer).status_code]
    refused += [caller.http.delete(path, headers=writer).status_code]
    refused += [caller.http.post(path, json={"version": 9}).status_code]
    refused += [caller.http.post(path, json={}).status_code]
    named = caller.http.post(path, json={"version": 1, "reason": "try"})
    gone = caller.http.delete(path)

    assert refused == [403, 403, 404, 422]
    assert (named.status_code, named.json()["challenger"]) == (200, 1)
    assert (gone.status_code, gone.json()["challenger"]) == (200, 0)
