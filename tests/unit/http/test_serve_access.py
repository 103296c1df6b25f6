"""Protected features over HTTP: refused by name, never echoed, and granted or revoked at once."""

from __future__ import annotations

import asyncio
import io
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import msgspec
import polars as pl
import pytest

import penstock as ps
from penstock.access import Permissions, grant, remove_user, revoke, tell_denial, users
from penstock.deployment import deploy
from penstock.errors import AccessError
from penstock.http.serve_guard import Guard
from penstock.plan import Catalogue, apply
from penstock.runtime import open_services
from penstock.testing.protecting import protect
from penstock.testing.serving import serving

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from penstock.records import AuditEntry
    from penstock.runtime import LocalServices
    from penstock.testing.served_project import ServedProject

    from .conftest import Client, Reply

    Talk = Callable[..., None]

PATH = "/v1/features/scoring"
PREDICT = "/v1/deployments/btc/predict"
ENTITY = b'{"entity":{"symbol":"BTC"}}'
ARROW = b"application/vnd.apache.arrow.stream"
SOON_S = 1.5


def denials(services: LocalServices) -> list[AuditEntry]:
    return [entry for entry in services.metadata.audit() if entry.action == "deny"]


async def until(ask: Callable[[], Any], status: int) -> Reply:
    """Ask until it is answered like that; fails after about the time a change may take."""
    end_s = time.monotonic() + SOON_S
    while True:
        reply: Reply = await ask()
        if reply.status == status:
            return reply
        assert time.monotonic() < end_s, (reply.status, reply.body)
        await asyncio.sleep(0.02)


def test_features_are_refused_by_json_and_by_arrow(talk: Talk, services: LocalServices) -> None:
    token = protect(services, "momentum")

    async def conversation(client: Client) -> None:
        target = io.BytesIO()
        pl.DataFrame({"symbol": ["BTC"]}).write_ipc_stream(target)
        asks: list[tuple[bytes, list[tuple[bytes, bytes]]]] = [
            (ENTITY, []),
            (b'{"rows":[{"entity":{"symbol":"BTC"}}]}', []),
            (b'{"entities":{"symbol":["BTC"]}}', []),
            (ENTITY, [(b"accept", ARROW)]),
            (target.getvalue(), [(b"content-type", ARROW)]),
            (b"no json", []),  # nobody learns what a body has to be who may not read the answer
        ]
        for body, headers in asks:
            refused = await client.post(PATH, body, token=token, headers=headers)
            assert refused.status == 403
            assert refused.json["error"]["kind"] == "access"
            assert refused.message == (
                "'ana' may not read 'momentum.last_close', 'momentum.mean_ret_6h', "
                "'momentum.std_ret_1d' and 2 more, protected by the view 'momentum'. An admin "
                "grants it with 'penstock access grant ana --view momentum'."
            )
        assert (await client.post(PATH, ENTITY)).status == 200
        # What there is to know of a service holds no value.
        assert (await client.get(PATH, token=token)).json["name"] == "scoring"
        assert (await client.get("/v1/features", token=token)).status == 200

    talk(conversation)
    (entry,) = denials(services)
    assert (entry.actor, entry.subject) == ("ana", "feature_service/scoring")


def test_a_grant_takes_effect_at_once_and_so_does_its_end(
    talk: Talk, services: LocalServices
) -> None:
    token = protect(services, "momentum")

    async def conversation(client: Client) -> None:
        def ask() -> Any:  # noqa: ANN401 - a coroutine
            return client.post(PATH, ENTITY, token=token)

        assert (await ask()).status == 403
        grant(services, "ana", views=["momentum"])
        assert "momentum.last_close" in (await until(ask, 200)).json["features"]
        revoke(services, "ana", views=["momentum"])
        await until(ask, 403)
        grant(services, "ana", views=["momentum"])
        await until(ask, 200)
        remove_user(services, "ana")
        await until(ask, 401)

    talk(conversation)


def test_protection_that_is_applied_while_it_serves(talk: Talk, services: LocalServices) -> None:
    async def conversation(client: Client) -> None:
        assert (await client.post(PATH, ENTITY)).status == 200
        token = await asyncio.to_thread(protect, services, "momentum")
        await until(lambda: client.post(PATH, ENTITY, token=token), 403)
        catalogue = Catalogue.load(services.metadata)
        rest = [
            one for one in catalogue.declarations.values() if not isinstance(one, ps.Protection)
        ]
        project = ps.Project("protected", declarations=rest)
        apply(services.metadata, project, actor="t", now=services.clock.now())
        await until(lambda: client.post(PATH, ENTITY, token=token), 200)

    talk(conversation)


def test_a_model_may_be_asked_and_does_not_echo(talk: Talk, services: LocalServices) -> None:
    deploy(services, "btc", version=1)
    token = protect(services, "momentum", role="writer")

    async def conversation(client: Client) -> None:
        plain = await client.post(PREDICT, ENTITY, token=token)
        assert plain.status == 200
        assert "features" not in plain.json
        inputs = {
            "inputs": [{"name": "symbol", "shape": [1], "datatype": "BYTES", "data": ["BTC"]}]
        }
        inferred = await client.post(
            "/v2/models/btc/infer", msgspec.json.encode(inputs), token=token
        )
        assert [one["name"] for one in inferred.json["outputs"]] == ["prediction", "prediction_id"]
        echoed = await client.post(f"{PREDICT}?features=true", ENTITY, token=token)
        assert (echoed.status, echoed.json["error"]["kind"]) == (403, "access")
        assert "--view momentum" in echoed.message
        several = b'{"rows":[{"entity":{"symbol":"BTC"}}]}'
        refused = await client.post(f"{PREDICT}?features=true", several, token=token)
        assert refused.status == 403
        assert (await client.post(f"{PREDICT}?features=true", ENTITY)).status == 200

    talk(conversation)
    (entry,) = denials(services)
    assert (entry.actor, entry.subject) == ("ana", "deployment/btc")


def test_features_of_an_older_version_stay_protected(talk: Talk, services: LocalServices) -> None:
    """The view is declared without most of its features now; the model still reads them all."""
    deploy(services, "btc", version=1)
    token = protect(services, "momentum", role="writer")
    catalogue, replace = Catalogue.load(services.metadata), msgspec.structs.replace
    fewer = replace(catalogue.view("momentum"), features=[ps.last("close")])
    deployment = catalogue.deployment("btc")
    dataset = replace(
        deployment.model.dataset, features=ps.FeatureService("scoring", features=[fewer])
    )
    deployment = replace(deployment, model=replace(deployment.model, dataset=dataset))
    protection = ps.Protection("tested", views=[fewer])
    declared = ps.Project("protected", declarations=[deployment, protection])
    apply(services.metadata, declared, actor="t", now=services.clock.now())
    assert "momentum.count_1d" not in Permissions.load(services.metadata).locks

    async def conversation(client: Client) -> None:
        def ask() -> Any:  # noqa: ANN401 - a coroutine
            return client.post(f"{PREDICT}?features=true", ENTITY, token=token)

        assert "and 2 more, protected by the view 'momentum'" in (await ask()).message
        grant(services, "ana", views=["momentum"])
        await until(ask, 200)

    talk(conversation)


def test_a_flood_of_denials_is_one_entry(
    talk: Talk, services: LocalServices, monkeypatch: pytest.MonkeyPatch
) -> None:
    token = protect(services, "momentum")
    written: list[int] = []
    told: list[str] = []

    def tell(*args: Any, user: str, subject: str) -> None:  # noqa: ANN401 - as it has them
        told.append(user)
        tell_denial(*args, user=user, subject=subject)

    monkeypatch.setattr("penstock.http.serve_guard.tell_denial", tell)

    async def conversation(client: Client) -> None:
        assert (await client.post(PATH, ENTITY, token=token)).status == 403
        written.append(services.metadata.revision())
        for _ in range(300):
            assert (await client.post(PATH, ENTITY, token=token)).status == 403
        written.append(services.metadata.revision())

    talk(conversation)
    assert len(denials(services)) == 1
    assert written[0] == written[1]  # nor does it write anything else,
    assert told == ["ana"]  # or look whether to


def test_a_guard_forgets_decisions_when_it_is_refreshed(services: LocalServices) -> None:
    token = protect(services, "momentum")
    guard = Guard(services)
    header = f"Bearer {token}".encode()
    asked: list[str] = []

    def names() -> list[str]:
        asked.append("once")
        return ["momentum.last_close"]

    def refused() -> bool:
        guard.check(header, "reader")
        return guard.refusal(header, "it", names) is not None

    def refresh() -> None:
        guard.refresh(users(services.metadata), Permissions.load(services.metadata))

    refresh()
    assert [refused() for _ in range(3)] == [True] * 3
    assert asked == ["once"]
    grant(services, "ana", views=["momentum"])
    refresh()
    assert not refused()
    assert asked == ["once"] * 2


@contextmanager
def shared(served: ServedProject) -> Generator[LocalServices]:
    with open_services(served.home, actor="tester") as opened:
        yield opened


def test_a_real_process_lets_in_and_out(served: ServedProject) -> None:
    with shared(served) as services:
        token = protect(services, "momentum")
    theirs = {"Authorization": f"Bearer {token}"}

    def status() -> int:
        return http.post(PATH, content=ENTITY, headers=theirs).status_code

    def becomes(wanted: int) -> None:
        end_s = time.monotonic() + SOON_S
        while status() != wanted:
            assert time.monotonic() < end_s
            time.sleep(0.02)

    with serving(served) as http, shared(served) as services:
        assert http.post(PATH, content=ENTITY).status_code == 200
        assert status() == 403
        grant(services, "ana", views=["momentum"])
        becomes(200)
        with ps.connect(str(http.base_url), token=token) as client:
            assert "momentum.last_close" in client.online("scoring", {"symbol": "BTC"})
            revoke(services, "ana", views=["momentum"])
            becomes(403)
            with pytest.raises(AccessError, match="penstock access grant ana --view momentum"):
                client.online("scoring", {"symbol": "BTC"})
            with pytest.raises(AccessError, match="--view momentum"):
                client.online("scoring", pl.DataFrame({"symbol": ["BTC"]}))
        assert [entry.actor for entry in denials(services)] == ["ana"]
