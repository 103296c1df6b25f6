"""kill -9 of a process whose records look into another source, again and again.

Each record is in once, with what its batch's record says that it could find.
"""

from __future__ import annotations

import contextlib
import json
import random
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec
import polars as pl
import pytest
from tests.chaos.lookup_zygote import MERCHANTS, PAYMENTS

import penstock as ps
from penstock.ingest import GROUP, accept_events
from penstock.plan import apply
from penstock.records import Batch, CapturedFeature
from penstock.runtime import open_services
from penstock.testing.oracle import naive_lookup
from penstock.testing.zygotes import kill_until_through

ZYGOTE = Path(__file__).with_name("lookup_zygote.py")
RECORDS = 150
PAIRS, PAUSE_S, LIFE_S, PATIENCE_S = 350, 0.02, 2.5, 60.0
KILLS = 10
LONGEST_LIFE_S = 0.4
DAY = datetime(2026, 1, 1, tzinfo=UTC)


def lines(source: str, dice: random.Random) -> bytes:
    rows = []
    for number in range(RECORDS):
        at = (DAY + timedelta(hours=dice.randrange(100))).isoformat()
        key = f"m{dice.randrange(8)}"
        if source == "merchants":
            rows.append({"merchant": key, "since": at, "risk": number / 10})
        else:
            rows.append({"user": f"u{number}", "ts": at, "merchant": key})
    return "\n".join(map(json.dumps, rows)).encode()


@pytest.mark.slow
def test_each_record_finds_what_its_batch_says_however_often_it_is_killed(tmp_path: Path) -> None:
    (tmp_path / ".penstock").mkdir()
    dice = random.Random(3)  # noqa: S311 - test data
    with open_services(tmp_path) as services:
        for source in (MERCHANTS, PAYMENTS):
            accept_events(services, source, lines(source.name, dice), "application/x-ndjson")

    killed = kill_until_through([str(ZYGOTE), str(tmp_path)], kills=KILLS, longest_s=LONGEST_LIFE_S)

    with open_services(tmp_path) as services:
        others = services.tables.scan("raw/merchants").sort("_batch", "_row")
        times = pl.col("since").dt.epoch("us")
        known = others.with_columns(times).collect().to_dicts()
        rows = services.tables.scan("raw/payments").sort("_batch", "_row").collect()
        batches = services.metadata.find(Batch, where={"source": "payments"})
        kept = services.metadata.find(CapturedFeature)
    assert sorted(rows["user"]) == sorted(f"u{number}" for number in range(RECORDS))
    reached = {batch.number: batch.lookups[0].last_batch for batch in batches}
    assert len(set(reached.values())) > 1
    for row in rows.with_columns(pl.col("ts").dt.epoch("us")).to_dicts():
        seen = [one for one in known if one["_batch"] <= reached[row["_batch"]]]
        for lookup in PAYMENTS.lookups:
            for name, value in naive_lookup(lookup, seen, row["merchant"], row["ts"]).items():
                assert row[name] == (None if value is None else pytest.approx(value, rel=1e-9))
    found_nothing = {number: own["risk"].null_count() for (number,), own in rows.group_by("_batch")}
    assert found_nothing == {batch.number: batch.lookups[0].missing for batch in batches}
    assert {one.column for one in kept} == {"mean", "ratings"}
    assert killed > 0


def stream(home: Path) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "penstock.cli", "stream", "--home", str(home)]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def end(processes: list[subprocess.Popen[bytes]]) -> None:
    for one in processes:
        one.kill()
        one.wait()


@pytest.mark.slow
def test_what_was_acknowledged_before_is_found_however_often_a_stream_is_killed(
    tmp_path: Path,
) -> None:
    (tmp_path / ".penstock").mkdir()
    with contextlib.ExitStack() as stack:
        services = stack.enter_context(open_services(tmp_path))
        project = ps.Project("shop", declarations=(PAYMENTS,))
        apply(services.metadata, project, actor="test", now=services.clock.now())
        running = [stream(tmp_path), stream(tmp_path)]
        stack.callback(end, running)
        next_kill_s, kills = time.monotonic() + LIFE_S, 0
        for number in range(PAIRS):
            at = (DAY + timedelta(seconds=number)).isoformat()
            rated = {"merchant": f"m{number}", "since": at, "risk": number}
            paid = {"user": f"u{number}", "ts": at, "merchant": f"m{number}"}
            for source, record in ((MERCHANTS, rated), (PAYMENTS, paid)):
                accept_events(services, source, msgspec.json.encode(record), "application/json")
            time.sleep(PAUSE_S)
            if time.monotonic() >= next_kill_s:
                victim = kills % 2
                running[victim].kill()
                running[victim].wait()
                running[victim] = stream(tmp_path)
                next_kill_s, kills = time.monotonic() + LIFE_S, kills + 1
        end_s = time.monotonic() + PATIENCE_S
        while services.log.committed(PAYMENTS.topic, GROUP) < PAIRS:
            assert time.monotonic() < end_s
            time.sleep(0.05)

        rows = services.tables.scan("raw/payments").select("user", "risk", "ratings").collect()
        assert sorted(rows.iter_rows()) == sorted((f"u{n}", float(n), 1) for n in range(PAIRS))
        assert kills > 1
