"""A process that was stopped and goes on when another has its place begins nothing twice."""

from __future__ import annotations

import json
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest

from penstock.errors import ConflictError
from penstock.ingest import (
    accept_events,
    delete_records,
    deleting,
    ingest_files,
    ingest_log,
    intake,
    recovery,
)
from penstock.ports import Locks
from penstock.records import Batch, Deletion

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from penstock.runtime import LocalServices
    from penstock.spec import Source

ROW = {"symbol": "BTC", "ts": "2026-01-01T00:00:00Z", "low": 1, "high": 3, "close": 2.0}


class NoFence(Locks):
    """Lets everybody in, as a lease does for whoever was stopped while it ended."""

    @contextmanager
    def hold(self, name: str, *, wait_s: float = 0.0) -> Generator[int]:
        del name, wait_s
        yield 1


@pytest.fixture(autouse=True)
def unfenced(services: LocalServices, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(type(services), "leases", NoFence())


def overtaken(
    monkeypatch: pytest.MonkeyPatch, owner: object, name: str, other: Callable[[], object]
) -> None:
    """Let another process do its work once, right after a call."""
    real = getattr(owner, name)
    done: list[str] = []

    def call(*args: Any, **options: Any) -> Any:  # noqa: ANN401 - as the call has it
        found = real(*args, **options)
        if not done:
            done.append(name)
            other()
        return found

    monkeypatch.setattr(owner, name, call)


def batches(services: LocalServices) -> list[tuple[int, int, int, int]]:
    found = services.metadata.find(Batch)
    return [(one.number, one.read, one.stored, one.duplicates) for one in found]


@pytest.mark.parametrize("point", ["newest_batch", "committed", "read", "sift"])
def test_messages_are_one_batch(
    services: LocalServices, candles: Source, monkeypatch: pytest.MonkeyPatch, point: str
) -> None:
    body = json.dumps([ROW, ROW | {"ts": "2026-01-01T01:00:00Z"}]).encode()
    accept_events(services, candles, body, "application/json")
    owner = {"newest_batch": recovery, "sift": intake}.get(point, type(services.log))
    overtaken(monkeypatch, owner, point, lambda: ingest_log(services, candles))
    if point != "newest_batch":  # there it sees what the other has done, and does nothing
        with pytest.raises(ConflictError):
            ingest_log(services, candles)
    else:
        ingest_log(services, candles)
    assert ingest_log(services, candles) is None
    assert batches(services) == [(1, 2, 2, 0)]


def test_a_file_is_one_batch(
    services: LocalServices, candles: Source, monkeypatch: pytest.MonkeyPatch
) -> None:
    (services.home / "data").mkdir()
    row = "symbol,ts,low,high,close,trades\nBTC,2026-01-01T00:00:00Z,1,3,2,7\n"
    (services.home / "data/a.csv").write_text(row)
    overtaken(monkeypatch, intake, "sift", lambda: ingest_files(services, candles))
    with pytest.raises(ConflictError):
        ingest_files(services, candles)
    ingest_files(services, candles)
    assert batches(services) == [(1, 1, 1, 0)]


def test_a_deletion_is_one_batch(
    services: LocalServices, candles: Source, monkeypatch: pytest.MonkeyPatch
) -> None:
    accept_events(services, candles, json.dumps(ROW).encode(), "application/json")
    ingest_log(services, candles)
    asked = Deletion(delete_id="one", keys=("BTC",))
    overtaken(
        monkeypatch, deleting, "deletion_hits", lambda: delete_records(services, candles, asked)
    )
    with pytest.raises(ConflictError):
        delete_records(services, candles, asked)
    assert delete_records(services, candles, asked).number == 2
    assert [number for number, *_ in batches(services)] == [1, 2]
