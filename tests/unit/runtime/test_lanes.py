from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

import msgspec
import pytest

import penstock as ps
from penstock.errors import NotReadyError, StateError, UnavailableError
from penstock.features import OnlineReader
from penstock.ingest import accept_events
from penstock.plan import apply
from penstock.ports import EVENTS_TOPIC
from penstock.records import Batch, Lease
from penstock.runtime import lanes, open_services, preceding
from penstock.runtime.lanes import DrainLane, Lane, SourceLane
from penstock.runtime.sharing import Share
from penstock.runtime.stream import watch

if TYPE_CHECKING:
    from collections.abc import Callable, Generator
    from pathlib import Path

    from penstock.runtime import LocalServices

HOUR_US = 3_600_000_000
PATIENCE_S = 20.0

symbol = ps.Entity("symbol")
candles = ps.Source(
    "candles",
    entity=symbol,
    timestamp="ts",
    schema={"symbol": ps.String, "ts": ps.Timestamp, "close": ps.Float64},
    expect=(ps.positive("close"),),
)
view = ps.FeatureView("closes", source=candles, features=(ps.last("close"), ps.count()))


@pytest.fixture
def services(home: Path) -> Generator[LocalServices]:
    (home / "penstock.toml").write_text("stream_batch_rows = 3\nstream_wait_ms = 60000\n")
    with open_services(home, kind="stream") as opened:
        project = ps.Project("shop", declarations=(view,))
        apply(opened.metadata, project, actor="test", now=opened.clock.now())
        yield opened


def send(services: LocalServices, *closes: float) -> None:
    before = services.log.end(candles.topic)
    records = [
        {"symbol": "BTC", "ts": f"2026-01-01T{before + n:02}:00:00Z", "close": close}
        for n, close in enumerate(closes)
    ]
    accept_events(services, candles, msgspec.json.encode(records), "application/json")


def batches(services: LocalServices) -> list[tuple[int, int, int]]:
    return [(b.read, b.stored, b.quarantined) for b in services.metadata.find(Batch)]


def closes(services: LocalServices) -> dict[str, float | int | None]:
    return OnlineReader(services.online, (view,)).read_one("BTC", 2**60)


def kinds(services: LocalServices) -> list[str]:
    entries = services.log.read(EVENTS_TOPIC, after=0, limit=100)
    return [str(msgspec.json.decode(entry.payload)["kind"]) for entry in entries]


def until(holds: Callable[[], bool]) -> None:
    end_s = time.monotonic() + PATIENCE_S
    while not holds():
        assert time.monotonic() < end_s
        time.sleep(0.01)


def test_messages_go_to_tables_and_features(services: LocalServices) -> None:
    send(services, 1.0, -1.0, 2.0)
    SourceLane(services, candles).turn()

    assert batches(services) == [(3, 2, 1)]
    assert closes(services) == {"closes.last_close": 2.0, "closes.count": 2}
    assert kinds(services) == ["raw.ingested", "features.generated"]


def test_what_a_dead_process_left_is_taken_at_once(services: LocalServices) -> None:
    send(services, 1.0)
    SourceLane(services, candles).turn()

    assert batches(services) == [(1, 1, 0)]


def test_damaged_scores_do_not_hold_up_outcomes(services: LocalServices) -> None:
    folder = services.score_log / "shop"
    folder.mkdir(parents=True)
    (folder / "damaged.jsonl").write_text("no score\n")
    services.log.publish("observations", [b"no observation"])

    with pytest.raises(StateError, match="is damaged"):
        DrainLane(services).turn()

    assert services.log.end("observations.rejected") == 1


def test_messages_are_gathered(services: LocalServices) -> None:
    lane = SourceLane(services, candles)
    lane.turn()
    send(services, 1.0, 2.0)
    lane.turn()
    waiting = batches(services)
    send(services, 3.0)
    lane.turn()

    assert waiting == []
    assert batches(services) == [(3, 3, 0)]


def test_the_first_message_does_not_wait_for_ever(home: Path, services: LocalServices) -> None:
    (home / "penstock.toml").write_text("stream_wait_ms = 50\n")
    with open_services(home, kind="stream") as impatient:
        lane = SourceLane(impatient, candles)
        lane.turn()
        send(services, 1.0)
        lane.turn()
        waiting = batches(services)
        time.sleep(0.06)
        lane.turn()

    assert waiting == []
    assert batches(services) == [(1, 1, 0)]


def test_a_backlog_is_taken_in_batches(services: LocalServices) -> None:
    lane = SourceLane(services, candles)
    send(services, *[1.0] * 8)
    for _ in range(4):
        lane.turn()

    assert batches(services) == [(3, 3, 0), (3, 3, 0), (2, 2, 0)]
    assert closes(services)["closes.count"] == 8


def test_one_that_fails_is_tried_again_and_stops_no_other(
    services: LocalServices, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lanes, "FIRST_BACKOFF_S", 0.01)
    turns: list[str] = []

    class Failing(Lane):
        def turn(self) -> None:
            turns.append("failing")
            if turns.count("failing") < 4:
                error = UnavailableError("busy") if turns.count("failing") % 2 else KeyError("bug")
                raise error

    class Steady(Lane):
        def turn(self) -> None:
            turns.append("steady")

    both = [Failing(services, "failing", 0.01), Steady(services, "steady", 0.01)]
    for lane in both:
        lane.start()
    until(lambda: turns.count("failing") >= 6 and turns.count("steady") >= 6)
    for lane in both:
        lane.stop()
        lane.join(PATIENCE_S)
    ended = len(turns)
    time.sleep(0.05)

    assert len(turns) == ended


def test_one_lane_at_a_time_has_a_source(services: LocalServices) -> None:
    first = SourceLane(services, candles, Share(services, holder="first"))
    second_share = Share(services, holder="second")
    second = SourceLane(services, candles, second_share)
    first.start()
    until(lambda: holder(services) == "first")
    second.start()
    send(services, 1.0, 2.0, 3.0)
    until(lambda: closes_or_none(services) == 3)
    first.stop()
    first.join(PATIENCE_S)
    Share(services, holder="first").close()
    send(services, 4.0, 5.0, 6.0)
    until(lambda: closes_or_none(services) == 6)
    second.stop()
    second.join(PATIENCE_S)

    assert batches(services) == [(3, 3, 0), (3, 3, 0)]
    assert holder(services) == "second"


def holder(services: LocalServices) -> str:
    """Who takes in the source."""
    lease = services.metadata.read(Lease, "ingest/candles")
    return "" if lease is None else lease.holder


def closes_or_none(services: LocalServices) -> float | int | None:
    try:
        return closes(services)["closes.count"]
    except NotReadyError:
        return None


def test_a_project_that_is_applied_later_is_followed(
    services: LocalServices, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("penstock.runtime.stream.LOOK_S", 0.01)
    stop = threading.Event()
    thread = threading.Thread(target=watch, args=(services, stop))
    thread.start()
    send(services, 1.0, 2.0, 3.0)
    until(lambda: closes_or_none(services) == 3)
    more = ps.FeatureView("more", source=candles, features=(ps.count(),))
    project = ps.Project("shop", declarations=(view, more))
    apply(services.metadata, project, actor="test", now=services.clock.now())
    until(lambda: len(services.online.spaces()) == 2)
    stop.set()
    thread.join(PATIENCE_S)

    assert not thread.is_alive()
    assert holder(services) == ""
    assert OnlineReader(services.online, (more,)).read_one("BTC", 2**60) == {"more.count": 3}


merchants = ps.Source(
    "merchants",
    entity=ps.Entity("merchant"),
    timestamp="since",
    schema={"merchant": ps.String, "since": ps.Timestamp, "risk": ps.Float64},
)
payments = ps.Source(
    "payments",
    entity=ps.Entity("user"),
    timestamp="ts",
    schema={"user": ps.String, "ts": ps.Timestamp, "merchant": ps.String},
    lookups=[ps.Lookup(merchants, on="merchant", columns={"risk": "risk"})],
)


def pay(services: LocalServices, hour: int) -> None:
    record = {"user": "u", "ts": f"2026-01-01T{hour:02}:00:00Z", "merchant": "m"}
    accept_events(services, payments, msgspec.json.encode(record), "application/json")


def rate(services: LocalServices, hour: int, risk: float) -> None:
    record = {"merchant": "m", "since": f"2026-01-01T{hour:02}:00:00Z", "risk": risk}
    accept_events(services, merchants, msgspec.json.encode(record), "application/json")


def risks(services: LocalServices) -> list[float | None]:
    rows = services.tables.scan("raw/payments").sort("_batch", "_row").collect()
    return rows["risk"].to_list()


def test_what_was_acknowledged_before_is_found(services: LocalServices) -> None:
    rate(services, 1, 0.5)
    pay(services, 2)
    mine, other = SourceLane(services, payments), SourceLane(services, merchants)

    mine.turn()
    waiting = services.tables.version("raw/payments")
    pay(services, 3)
    other.turn()
    mine.turn()

    assert waiting is None
    # The one that came later may look into what came later still, and so waits for its own turn.
    assert risks(services) == [0.5]
    rate(services, 3, 0.75)
    SourceLane(services, merchants).turn()
    SourceLane(services, payments).turn()
    assert risks(services) == [0.5, 0.75]


def test_what_others_took_in_meanwhile_is_no_leave_to_go_on(services: LocalServices) -> None:
    rate(services, 1, 0.5)
    pay(services, 2)
    mine = SourceLane(services, payments)
    mine.turn()  # it waits, and then another process has its place for a while
    SourceLane(services, merchants).turn()
    SourceLane(services, payments).turn()

    rate(services, 3, 0.75)
    pay(services, 4)
    mine.turn()
    waited = risks(services)
    SourceLane(services, merchants).turn()
    mine.turn()

    assert waited == [0.5]
    assert risks(services) == [0.5, 0.75]


def test_who_cannot_be_taken_in_does_not_keep_others_for_ever(
    services: LocalServices, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(preceding, "PATIENCE_S", 0.05)
    rate(services, 1, 0.5)
    pay(services, 2)
    mine = SourceLane(services, payments)

    mine.turn()
    waiting = services.tables.version("raw/payments")
    time.sleep(0.06)
    mine.turn()
    assert waiting is None
    assert risks(services) == [None]

    for hour in (3, 4, 5):  # once is enough: nobody waits again before the other has caught up
        pay(services, hour)
    mine.turn()
    assert risks(services) == [None] * 4
    SourceLane(services, merchants).turn()
    for hour in (6, 7, 8):
        pay(services, hour)
    mine.turn()
    assert risks(services) == [*[None] * 4, *[0.5] * 3]
    rate(services, 2, 0.75)  # and then it waits again
    for hour in (9, 10, 11):
        pay(services, hour)
    mine.turn()
    assert len(risks(services)) == 7
