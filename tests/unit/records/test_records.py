from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import msgspec
import pytest

from penstock.records import (
    Aliases,
    AppliedDeclaration,
    AppliedProject,
    Batch,
    CapturedFeature,
    Check,
    DatasetSnapshot,
    DeclarationVersion,
    Denial,
    FeatureCheck,
    FeatureRank,
    FeatureReport,
    FeatureSelection,
    Grant,
    Identity,
    Incident,
    ModelVersion,
    MonitorReport,
    Process,
    Record,
    RunProgress,
    ServingStatus,
    to_plain,
)

NOW = datetime(2026, 1, 2, 3, 4, 5, 6, tzinfo=UTC)
BREACH = Check(
    name="drift", subject="v.f", value=0.4, bound=0.2, rows=500, breached=True, reason="0.4 > 0.2"
)
CALM = msgspec.structs.replace(BREACH, breached=False, value=None)
WRONG = FeatureCheck(feature="v.f", compared=4, mismatches=1, worst=None, key="a")
RECORDS: dict[str, Record] = {
    "0001-online-v": FeatureReport(
        report_id="0001-online-v",
        origin="online",
        subject="v",
        from_us=1,
        to_us=1,
        checks=(WRONG, FeatureCheck(feature="v.g", compared=0, mismatches=0, worst=0.0)),
        created_at=NOW,
    ),
    "source/candles": AppliedDeclaration(
        declared_kind="source",
        name="candles",
        document={"name": "candles"},
        fingerprint="f" * 64,
        version=2,
        position=1,
        applied_at=NOW,
        applied_by="ana",
    ),
    "source/candles/000000002": DeclarationVersion(
        declaration="source/candles",
        version=2,
        document={"name": "candles"},
        fingerprint="f" * 64,
        applied_at=NOW,
        applied_by="ana",
        commit="abc",
    ),
    "project": AppliedProject(name="p", revision=1, applied_at=NOW, applied_by="ana"),
    "candles/000000012": Batch(
        source="candles",
        number=12,
        batch_id="candles-12-0123abcd",
        origin="file:x.csv",
        sha256="0",
        state="stored",
        arrived_at=NOW,
        reasons={"positive(close)": 3},
    ),
    "s1": FeatureSelection(
        selection_id="s1",
        dataset="direction",
        dataset_id="d1",
        task="regression",
        seed=0,
        top=2,
        kept=("v.f",),
        ranks=(
            FeatureRank(name="v.f", rank=1, verdict="kept", chi2=9.0, chi2_p=0.01, importance=0.1),
            FeatureRank(name="v.g", rank=2, verdict="redundant", group=1, redundant_with="v.f"),
        ),
        rows={"train": 7, "validation": 2},
        metric="r2",
        score=-0.5,
        artifact="a",
        created_at=NOW,
    ),
    "payments/usual": CapturedFeature(
        source="payments", column="usual", meaning="0123", words="mean of takings by merchant"
    ),
    "d1": DatasetSnapshot(
        dataset_id="d1",
        dataset="direction",
        fingerprint="f",
        tables={"raw/candles": 3},
        batches={"candles": 2},
        rows=10,
        unlabelled=1,
        parts={"train": 7},
        label_balance={"train": 0.5},
        feature_names=("v.f",),
        task="classification",
        artifact="a",
        created_at=NOW,
    ),
    "m/000003": ModelVersion(
        model="m",
        version=3,
        candidate="c",
        run_id="r",
        dataset_id="d1",
        params={"C": 1.0},
        metrics={"test.roc_auc": 0.6},
        created_at=NOW,
        fingerprint="f",
    ),
    "m": Aliases(model="m", changed_at=NOW, champion=3, previous=2, revision=4),
    "42": ServingStatus(
        process_id=42,
        address="http://127.0.0.1:8001",
        versions={"btc/champion": "m@3"},
        revision={"m": 4},
        at=NOW,
    ),
    "r1": MonitorReport(
        report_id="r1",
        monitor="btc",
        deployment="btc",
        version="m@3",
        from_us=1,
        to_us=2,
        checks=(BREACH, CALM),
        created_at=NOW,
    ),
    "i1": Incident(
        incident_id="i1",
        monitor="btc",
        deployment="btc",
        version="m@3",
        report_id="r1",
        breaches=("drift",),
        state="open",
        opened_at=NOW,
    ),
    "ana": Identity(name="ana", role="admin", token_sha256="0", created_at=NOW),  # noqa: S106 - a hash
    "train-1": RunProgress(run_id="train-1", step="snapshot", what="part 1 of 4", share=0.25),
    "ana/tag/pii": Grant(user="ana", what="tag", name="pii", granted_by="bob", granted_at=NOW),
    "ana/feature_service/scoring": Denial(
        user="ana", subject="feature_service/scoring", told_at=NOW
    ),
    "7": Process(process_id=7, kind="worker", started_at=NOW, seen_at=NOW),
}


@pytest.mark.parametrize("key", RECORDS)
def test_a_record_knows_its_key_and_survives_storage(key: str) -> None:
    record = RECORDS[key]

    assert record.key == key
    assert msgspec.json.decode(msgspec.json.encode(record), type=type(record)) == record


def test_kinds_are_told_apart() -> None:
    kinds = [type(record).KIND for record in RECORDS.values()]

    assert len(kinds) == len(set(kinds))


def test_indexed_fields_are_texts_or_whole_numbers() -> None:
    for record in RECORDS.values():
        for name in type(record).INDEXED:
            assert isinstance(getattr(record, name), (str, int))


def test_what_a_record_adds_with_a_default_may_be_missing_in_storage() -> None:
    stored = b'{"model":"m","changed_at":"2026-01-02T03:04:05Z"}'

    assert msgspec.json.decode(stored, type=Aliases).champion == 0


def test_a_record_without_a_key_of_its_own_is_none() -> None:
    class Nothing(Record, frozen=True):
        KIND = "nothing"

    with pytest.raises(NotImplementedError):
        _ = Nothing().key


def test_versions_and_reports_read_as_people_write_them() -> None:
    version, report = RECORDS["m/000003"], RECORDS["r1"]

    assert isinstance(version, ModelVersion)
    assert isinstance(report, MonitorReport)
    assert version.label == "m@3"
    assert report.breaches == (BREACH,)


def test_readers_get_every_field_and_json_values_only() -> None:
    told = to_plain({"batch": RECORDS["candles/000000012"], "far": (float("inf"), float("nan"), 1)})

    assert isinstance(told, dict)
    assert told["far"] == [None, None, 1]
    assert set(told["batch"]) == set(Batch.__struct_fields__)
    assert told["batch"]["duplicates"] == 0
    assert told["batch"]["arrived_at"] == "2026-01-02T03:04:05.000006Z"
    assert to_plain(Path("a/b")) == "a/b"


def test_a_report_of_features_says_which_are_above_a_rate() -> None:
    report = RECORDS["0001-online-v"]

    assert isinstance(report, FeatureReport)
    assert [check.rate for check in report.checks] == [0.25, 0.0]
    assert report.above(0.0) == (WRONG,)
    assert report.above(0.25) == ()
