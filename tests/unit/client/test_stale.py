"""A client tells of stale features, or refuses them, from a folder as from a server."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import msgspec
import polars as pl
import pytest

import penstock as ps
from penstock.errors import (
    InputError,
    PenstockWarning,
    StaleError,
    StaleWarning,
    UnknownEntitiesWarning,
)
from penstock.plan import Catalogue, apply
from penstock.ports import Put
from penstock.records import Batch
from penstock.runtime import open_services

if TYPE_CHECKING:
    from penstock.client import Client
    from penstock.testing.served_project import ServedProject

AT = datetime(2026, 1, 15, tzinfo=UTC)
ARRIVED = datetime(2026, 3, 1, 12, tzinfo=UTC)
UNTIL = ARRIVED + timedelta(hours=2)
KNOWN = {"symbol": "BTC"}
STALE_ASKS: list[Any] = [KNOWN, [KNOWN, KNOWN], pl.DataFrame({"symbol": ["BTC"] * 1_500})]


@pytest.fixture(scope="module")
def project(project: ServedProject) -> ServedProject:
    """A project whose only batch arrived at noon and is fresh for two hours."""
    with open_services(project.home) as services:
        (batch,) = services.metadata.find(Batch)
        services.metadata.write(Put(msgspec.structs.replace(batch, arrived_at=ARRIVED)))
        view = Catalogue.load(services.metadata).view("momentum")
        limited = msgspec.structs.replace(view, freshness="2h")
        service = ps.FeatureService("limited", features=[limited])
        declared = ps.Project("served", declarations=[service])
        apply(services.metadata, declared, actor="t", now=services.clock.now())
    return project


@pytest.mark.parametrize("entities", STALE_ASKS)
def test_stale_features_are_served_with_a_warning_or_refused(
    client: Client,
    entities: Any,  # noqa: ANN401 - of each kind
) -> None:
    with pytest.warns(StaleWarning) as caught:
        assert len(client.online("limited", entities))
    (one,) = caught.list
    note = one.message
    assert isinstance(note, StaleWarning)
    assert one.filename == __file__
    assert note.facts == {"view": "momentum", "fresh_until": UNTIL}
    assert "view 'momentum' are stale: its freshness allowed them until 2026-03-01T14:00" in str(
        note
    )
    with pytest.raises(StaleError, match="penstock features build momentum") as raised:
        client.online("limited", entities, stale="refuse")
    assert raised.value.facts == note.facts
    assert client.online("limited", entities, at=UNTIL, stale="refuse") is not None
    with pytest.raises(StaleError):
        client.online("limited", entities, at=UNTIL + timedelta(microseconds=1), stale="refuse")


def test_of_many_times_the_last_decides(client: Client) -> None:
    times = [AT, UNTIL, UNTIL + timedelta(hours=1)]
    frame = pl.DataFrame({"symbol": ["BTC"] * 3, "at": times})
    assert len(client.online("limited", frame[:2], stale="refuse")) == 2
    assert client.online("limited", frame[:0], stale="refuse").is_empty()
    with pytest.raises(StaleError):
        client.online("limited", frame, stale="refuse")


def test_stale_and_unknown_are_both_told(client: Client) -> None:
    with pytest.warns(PenstockWarning) as caught:
        client.online("limited", {"symbol": "nobody"})
    assert [type(one.message) for one in caught] == [StaleWarning, UnknownEntitiesWarning]


def test_another_word_for_stale_is_refused(client: Client) -> None:
    with pytest.raises(InputError, match="Give 'serve' or 'refuse'"):
        client.online("limited", KNOWN, stale="refused")  # type: ignore[call-overload]
