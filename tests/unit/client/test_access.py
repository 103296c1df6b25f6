"""A client of a folder keeps to what its caller was granted."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

import polars as pl
import pytest

import penstock as ps
from penstock.access import grant, revoke
from penstock.errors import AccessError
from penstock.runtime import open_services
from penstock.testing.protecting import protect

if TYPE_CHECKING:
    from collections.abc import Callable

    from penstock.client import Client
    from penstock.testing.served_project import ServedProject

AT = datetime(2026, 1, 5, tzinfo=UTC)
SPINE = pl.DataFrame({"symbol": ["BTC"]})

READS: list[Callable[[Client], object]] = [
    lambda client: client.features("scoring", SPINE, at=AT),
    lambda client: client.online("scoring", {"symbol": "BTC"}),
    lambda client: client.online("scoring", [{"symbol": "BTC"}]),
    lambda client: client.online("scoring", SPINE),
]


@pytest.fixture
def token(served: ServedProject) -> str:
    with open_services(served.home, actor="tester") as services:
        return protect(services, "momentum")


@pytest.mark.parametrize("read", READS)
def test_a_caller_without_a_grant_reads_nothing(
    served: ServedProject, token: str, read: Callable[[Client], object]
) -> None:
    with ps.connect(served.home, token=token) as client:
        assert client.services() == ["scoring"]
        for _ in range(2):
            with pytest.raises(AccessError, match="penstock access grant ana --view momentum"):
                read(client)
    with ps.connect(served.home) as client:
        assert read(client) is not None


def test_the_environment_says_who_calls(
    served: ServedProject, token: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PENSTOCK_TOKEN", token)
    with ps.connect(served.home) as client, pytest.raises(AccessError, match="'ana' may not"):
        client.online("scoring", {"symbol": "BTC"})
    with ps.connect(served.home, token=served.token) as client:
        assert client.online("scoring", {"symbol": "BTC"})
    monkeypatch.setenv("PENSTOCK_TOKEN", "nobody's")
    with pytest.raises(AccessError, match="or is in PENSTOCK_TOKEN, is nobody's"):
        ps.connect(served.home)


def test_grants_are_seen_by_a_client_that_is_open(served: ServedProject, token: str) -> None:
    with ps.connect(served.home, token=token) as client:
        ports = client._ports  # type: ignore[attr-defined]  # noqa: SLF001 - one process, one store
        with open_services(served.home, actor="tester", token="") as services:
            admin = ports.acting(services.caller)
        with pytest.raises(AccessError):
            client.online("scoring", {"symbol": "BTC"})
        grant(admin, "ana", views=["momentum"])
        assert client.online("scoring", {"symbol": "BTC"})
        revoke(admin, "ana", views=["momentum"])
        with pytest.raises(AccessError):
            client.online("scoring", {"symbol": "BTC"})
        (entry,) = [one for one in ports.metadata.audit() if one.action == "deny"]
        assert (entry.actor, entry.subject) == ("ana", "feature_service/scoring")


def test_a_user_of_the_machine_without_the_token_file_is_who_they_are(
    served: ServedProject, token: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    del token
    (served.home / ".penstock" / "token").unlink()
    for name in ("stranger", "admin"):  # a user of the machine who is called like the administrator
        monkeypatch.setattr("penstock.runtime.callers.local_user", lambda name=name: name)
        with (
            ps.connect(served.home) as client,
            pytest.raises(AccessError, match=f"'{name}' may not read"),
        ):
            client.online("scoring", {"symbol": "BTC"})
    monkeypatch.setattr("penstock.runtime.callers.local_user", lambda: "ana")
    with ps.connect(served.home) as client:
        ports = client._ports  # type: ignore[attr-defined]  # noqa: SLF001 - as above
        with pytest.raises(AccessError, match="access grant ana"):
            client.online("scoring", {"symbol": "BTC"})
        assert ports.caller.role == "reader"
