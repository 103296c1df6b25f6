"""Users, grants and protected values through the control plane."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from penstock.access import identify
from penstock.deployment import deploy
from penstock.runtime import open_services
from penstock.scoring import Ask, Fleet, build_fleet, read_target
from penstock.testing.protecting import protect

from .test_api import error_of, running

if TYPE_CHECKING:
    from collections.abc import Iterator

    from penstock.runtime import LocalServices
    from penstock.testing.served_project import ServedProject


class Two:
    """Two callers of one control plane: an administrator, and ana, a reader without grants."""

    def __init__(self, services: LocalServices, address: str, admin: str, reader: str) -> None:
        self.services = services
        self.token = reader
        self.admin, self.ana = (
            httpx.Client(base_url=address, headers={"Authorization": f"Bearer {token}"}, timeout=60)
            for token in (admin, reader)
        )


@pytest.fixture
def two(served: ServedProject) -> Iterator[Two]:
    with open_services(served.home, kind="api") as services:
        deploy(services, "btc", version=1)
        reader = protect(services, "momentum")
        with running(services) as address:
            made = Two(services, address, served.token, reader)
            yield made
            made.admin.close()
            made.ana.close()


def scored(services: LocalServices) -> str:
    """Id of a score that looked features up."""
    nothing = Fleet()
    fleet = build_fleet(services, nothing, read_target(services.metadata, nothing.target))
    ask = Ask(services.clock.now_us(), key="BTC", at_us=0, values=None, given={})
    score = asyncio.run(fleet.endpoints["btc"].score(ask))
    fleet.close()
    return score.prediction_id


def test_users_come_and_go(two: Two) -> None:
    made = two.admin.post("/v1/users", json={"name": "bob", "role": "writer"})
    assert made.status_code == 201
    token = made.json()["token"]
    assert identify(two.services.metadata, token).role == "writer"
    assert error_of(two.admin.post("/v1/users", json={"name": "bob"})) == (409, "conflict")
    assert error_of(two.admin.post("/v1/users", json={"name": "a/b"})) == (422, "input")
    assert error_of(two.admin.post("/v1/users", json={"name": "c", "role": "r"})) == (422, "input")
    listed = two.ana.get("/v1/users").json()
    assert [(one["name"], one["role"]) for one in listed] == [
        ("admin", "admin"),
        ("ana", "reader"),
        ("bob", "writer"),
    ]
    assert "token" not in str(listed)
    renewed = two.admin.post("/v1/users/bob/token").json()["token"]
    assert identify(two.services.metadata, renewed).name == "bob"
    assert two.admin.delete("/v1/users/bob").json() == {"name": "bob", "grants": []}
    assert error_of(two.admin.delete("/v1/users/bob")) == (404, "not_found")
    actions = [(one.actor, one.action) for one in two.services.metadata.audit()]
    assert actions[-3:] == [("admin", "add"), ("admin", "renew token"), ("admin", "remove")]


def test_grants_are_given_and_seen_by_whom_they_concern(two: Two) -> None:
    given = two.admin.post("/v1/access/ana/grant", json={"views": ["momentum"]})
    assert given.json() == {"user": "ana", "changed": ["view momentum"], "unchanged": []}
    seen = two.ana.get("/v1/access").json()
    assert seen["protected"]["view momentum"][0] == "momentum.last_close"
    (grant,) = seen["grants"]
    assert (grant["name"], grant["granted_by"]) == ("momentum", "admin")
    assert error_of(two.ana.get("/v1/access", params={"user": "admin"})) == (403, "access")
    assert two.admin.get("/v1/access", params={"user": "admin"}).json()["grants"] == []
    back = two.admin.post("/v1/access/ana/revoke", json={"views": ["momentum"], "tags": ["x"]})
    assert back.json()["changed"] == ["view momentum"]
    wrong = two.admin.post("/v1/access/ana/grant", json={"tags": ["pii"]})
    assert error_of(wrong) == (404, "not_found")
    assert error_of(two.admin.post("/v1/access/ana/grant", json={})) == (422, "input")
    assert error_of(two.admin.post("/v1/access/an/grant", json={"tags": ["x"]}))[0] == 404


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/v1/users"),
        ("POST", "/v1/users/ana/token"),
        ("DELETE", "/v1/users/ana"),
        ("POST", "/v1/access/ana/grant"),
        ("POST", "/v1/access/ana/revoke"),
    ],
)
def test_only_an_admin_changes_them(two: Two, method: str, path: str) -> None:
    body = {"name": "eve", "role": "admin"} if path == "/v1/users" else {"views": ["momentum"]}
    assert error_of(two.ana.request(method, path, json=body)) == (403, "access")


def test_a_score_is_explained_without_protected_values(two: Two) -> None:
    found = scored(two.services)

    def told(client: httpx.Client) -> tuple[Any, Any]:
        return client.get(f"/v1/lineage/{found}").json(), client.get(f"/v1/replay/{found}").json()

    lineage, replay = told(two.admin)
    values = [feature["logged"] for feature in replay["features"]]
    assert lineage["detail"]["features"] == values
    assert replay["hidden"] == []
    hidden_lineage, hidden_replay = told(two.ana)
    assert hidden_lineage["detail"]["features"] == ["protected"] * len(values)
    assert hidden_replay["features"] == []
    assert len(hidden_replay["hidden"]) == len(values)
    assert hidden_replay["same"] is replay["same"] is True
    assert hidden_replay["from_raw"] == replay["from_raw"]
    texts = [repr(value) for value in values if isinstance(value, float) and value % 1]
    assert texts
    assert not [text for text in texts if text in f"{hidden_lineage}{hidden_replay}"]
    explanation = f"/v1/explanations/{found}"
    assert error_of(two.ana.get(explanation)) == (403, "access")
    explained = two.admin.get(explanation).json()
    parts = explained["explanation"]["contributions"]
    assert [part["value"] for part in parts] == values
    two.admin.post("/v1/access/ana/grant", json={"views": ["momentum"]})
    assert told(two.ana) == (lineage, replay)
