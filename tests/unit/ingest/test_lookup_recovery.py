"""A killed ingestion finds the same again, whatever the other source has become since."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

import penstock as ps
from penstock.ingest import accept_events, delete_records, ingest_log, raw_records
from penstock.records import Batch, CapturedFeature, Deletion, LookedUp
from penstock.runtime import open_services

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from penstock.ports import Put
    from penstock.runtime import LocalServices
    from penstock.spec import Source

WRITES = ["metadata.write", "tables.widen", "tables.append", "log.publish", "log.commit"]
STEPS = 7  # the last batch's event, started, the table widened, raw, the offset, stored, event
DAY = "2026-01-01T0{}:00:00Z"

MERCHANTS = ps.Source(
    "merchants",
    entity=ps.Entity("merchant"),
    timestamp="since",
    schema={"merchant": ps.String, "since": ps.Timestamp, "risk": ps.Float64},
)
SCHEMA = {"user": ps.String, "ts": ps.Timestamp, "merchant": ps.String}
BARE = ps.Source("payments", entity=ps.Entity("user"), timestamp="ts", schema=SCHEMA)
PAYMENTS = ps.Source(
    "payments",
    entity=ps.Entity("user"),
    timestamp="ts",
    schema=SCHEMA,
    lookups=[ps.Lookup(MERCHANTS, on="merchant", columns={"risk": "risk"})],
)
RATED = ps.FeatureView("rated", source=MERCHANTS, features=[ps.sum("risk", over="1d", name="sum")])
RATED_PAYMENTS = ps.Source(
    "payments",
    entity=ps.Entity("user"),
    timestamp="ts",
    schema=SCHEMA,
    lookups=[ps.Lookup(RATED, on="merchant", columns={"sum": "sum"})],
)


class KilledError(BaseException):
    """Stands for kill -9: nothing of ours catches it."""


def kill(services: LocalServices, at: int, *, after: bool, work: Callable[[], object]) -> None:
    """Do some work and end before or after its n-th write."""
    seen: list[str] = []

    def wrap(name: str, write: Callable[..., object]) -> Callable[..., object]:
        def killing(*args: Put, **options: object) -> object:
            if name == "metadata.write" and not isinstance(args[0].record, Batch):
                return write(*args, **options)  # a sign of life
            seen.append(name)
            if len(seen) == at and not after:
                raise KilledError
            result = write(*args, **options)
            if len(seen) == at:
                raise KilledError
            return result

        return killing

    with pytest.MonkeyPatch.context() as patch:
        for name in WRITES:
            port, _, method = name.partition(".")
            target = getattr(services, port)
            patch.setattr(target, method, wrap(name, getattr(target, method)))
        with pytest.raises(KilledError):
            work()


def send(services: LocalServices, source: Source, **record: object) -> None:
    accept_events(services, source, json.dumps(record).encode(), "application/json")


def ingest(services: LocalServices, source: Source, **record: object) -> None:
    send(services, source, **record)
    ingest_log(services, source)


def test_finishing_a_killed_batch_goes_no_further_than_is_asked(tmp_path: Path) -> None:
    (tmp_path / ".penstock").mkdir()
    with open_services(tmp_path, actor="tester") as services:
        for user in "abc":
            send(services, PAYMENTS, user=user, ts=DAY.format(5), merchant="m")
        kill(services, 1, after=True, work=lambda: ingest_log(services, PAYMENTS, limit=2))
        send(services, PAYMENTS, user="d", ts=DAY.format(5), merchant="m")

        for upto, users in [(2, "ab"), (2, "ab"), (3, "abc"), (9, "abcd")]:
            ingest_log(services, PAYMENTS, upto=upto)

            rows = services.tables.scan("raw/payments").sort("_batch", "_row").collect()
            assert "".join(rows["user"]) == users


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("at", range(1, STEPS + 1))
@pytest.mark.parametrize("deleted", [False, True])
def test_what_was_found_is_found_again(
    tmp_path: Path, at: int, *, after: bool, deleted: bool
) -> None:
    (tmp_path / ".penstock").mkdir()
    with open_services(tmp_path, actor="tester") as services:
        ingest(services, MERCHANTS, merchant="m", since=DAY.format(1), risk=0.1)
        ingest(services, BARE, user="a", ts=DAY.format(5), merchant="m")
        send(services, PAYMENTS, user="b", ts=DAY.format(5), merchant="m")
        kill(services, at, after=after, work=lambda: ingest_log(services, PAYMENTS))

        if deleted:
            delete_records(services, MERCHANTS, Deletion(delete_id="gone", keys=("m",)))
        else:
            ingest(services, MERCHANTS, merchant="m", since=DAY.format(2), risk=0.2)
        ingest(services, PAYMENTS, user="c", ts=DAY.format(5), merchant="m")
        while ingest_log(services, PAYMENTS) is not None:
            pass

        now = None if deleted else 0.2
        begun = (at, after) >= (2, True)
        rows = raw_records(services.tables, PAYMENTS).sort("_batch", "_row").collect()
        assert rows.select("user", "risk").rows() == [
            ("a", None),
            ("b", 0.1 if begun else now),
            ("c", now),
        ]
        told = {
            one.number: one.lookups
            for one in services.metadata.find(Batch, where={"source": "payments"})
        }
        assert told[1] == ()
        first, last = told[2], told[max(told)]
        assert first[0].last_batch == (1 if begun else 2)
        assert last == (
            LookedUp(source="merchants", on="merchant", last_batch=2, missing=1 if deleted else 0)
            if begun
            else LookedUp(
                source="merchants", on="merchant", last_batch=2, missing=2 if deleted else 0
            ),
        )
        assert {one.state for one in services.metadata.find(Batch)} == {"stored"}


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("at", range(1, STEPS + 1))
@pytest.mark.parametrize("deleted", [False, True])
def test_features_are_computed_again_over_what_was_known_then(
    tmp_path: Path, at: int, *, after: bool, deleted: bool
) -> None:
    (tmp_path / ".penstock").mkdir()
    with open_services(tmp_path, actor="tester") as services:
        ingest(services, MERCHANTS, merchant="m", since=DAY.format(1), risk=0.25)
        ingest(services, MERCHANTS, merchant="m", since=DAY.format(2), risk=0.5)
        ingest(services, BARE, user="a", ts=DAY.format(5), merchant="m")
        send(services, RATED_PAYMENTS, user="b", ts=DAY.format(5), merchant="m")
        kill(services, at, after=after, work=lambda: ingest_log(services, RATED_PAYMENTS))
        begun = (at, after) >= (2, True)
        kept = services.metadata.find(CapturedFeature)
        assert [one.column for one in kept] == (["sum"] if begun else [])

        if deleted:
            delete_records(services, MERCHANTS, Deletion(delete_id="gone", keys=("m",)))
        else:
            ingest(services, MERCHANTS, merchant="m", since=DAY.format(3), risk=1.0)
        ingest(services, RATED_PAYMENTS, user="c", ts=DAY.format(5), merchant="m")
        while ingest_log(services, RATED_PAYMENTS) is not None:
            pass

        now = 0.0 if deleted else 1.75
        rows = raw_records(services.tables, RATED_PAYMENTS).sort("_batch", "_row").collect()
        assert rows.select("user", "sum").rows() == [
            ("a", None),
            ("b", 0.75 if begun else now),
            ("c", now),
        ]
        batches = services.metadata.find(Batch, where={"source": "payments"})
        assert batches[1].lookups[0].last_batch == (2 if begun else 3)
        assert {one.state for one in services.metadata.find(Batch)} == {"stored"}
