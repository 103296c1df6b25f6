"""A training run with real worker processes: trained, judged, tracked, registered, compared."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import msgspec
import numpy as np
import polars as pl
import pytest
from sklearn.linear_model import LogisticRegression
from sqlalchemy import create_engine, text

import penstock as ps
from penstock.datasets import build
from penstock.errors import DeclarationError, UserCodeError
from penstock.evaluation import (
    CandidateResult,
    Evaluation,
    evaluate,
    mirror,
    preparing_tracking,
    register_candidates,
)
from penstock.registry import load_native, point, promote, read_manifest, read_sample
from penstock.runtime import Settings, open_services
from penstock.training import TrainedCandidate, check_candidates, train_candidates

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from penstock.records import DatasetSnapshot, ModelVersion
    from penstock.runtime import LocalServices
    from penstock.spec import Model, Trainer

HOURS = 400
FINE = ps.sklearn(LogisticRegression, C=ps.loguniform(0.01, 10))
BAD = ps.sklearn(LogisticRegression, name="bad", solver="liblinear", l1_ratio=2.0)


@pytest.fixture(scope="module")
def services(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalServices]:
    """One project, and one pool of worker processes, for all tests of this module."""
    home: Path = tmp_path_factory.mktemp("training") / "home"
    (home / ".penstock").mkdir(parents=True)
    with open_services(home, actor="tester", settings=Settings(workers=1)) as opened:
        random = np.random.default_rng(2)
        close = 100 + np.cumsum(random.normal(size=HOURS))
        start = datetime(2026, 1, 1, tzinfo=UTC)
        frame = pl.DataFrame(
            {
                "symbol": "a",
                "ts": [start + timedelta(hours=hour) for hour in range(HOURS)],
                "close": close,
                "signal": np.append(np.diff(close), 0.0) + random.normal(size=HOURS),
                "_batch": pl.Series([1] * HOURS, dtype=pl.Int64),
                "_row": pl.Series(range(HOURS), dtype=pl.Int64),
            }
        ).with_columns(pl.col("ts").cast(pl.Datetime("us", "UTC")))
        opened.tables.append("raw/prices", frame, app="raw/prices", number=1)
        yield opened


def model_of(name: str, candidates: Sequence[Trainer], *, over: str = "3h") -> Model:
    prices = ps.Source(
        "prices",
        entity=ps.Entity("symbol"),
        timestamp="ts",
        schema={
            "symbol": ps.String,
            "ts": ps.Timestamp,
            "close": ps.Float64,
            "signal": ps.Float64,
        },
    )
    view = ps.FeatureView(
        "recent", source=prices, features=[ps.last("signal"), ps.mean("signal", over=over)]
    )
    dataset = ps.Dataset(
        "direction",
        spine=prices,
        features=[view],
        label=ps.Label("up", ps.lead("close", "1h") > ps.col("close")),
        split=ps.TimeSplit(embargo="1h"),
    )
    return ps.Model(
        name,
        dataset=dataset,
        candidates=candidates,
        search=ps.Search(trials=3, seed=1),
        gates=[ps.at_least("roc_auc", 0.5), ps.beats("champion", "roc_auc", by=-1)],
    )


def run(
    services: LocalServices, model: Model, run_id: str
) -> tuple[DatasetSnapshot, Evaluation, ModelVersion]:
    """Train, evaluate and register, with every value taken through JSON as between steps."""
    snapshot = build(services, model.dataset)
    with preparing_tracking(services):
        made = train_candidates(services, model, snapshot, run_id)
    assert _experiments(services), "MLflow's database is there before anything is tracked"
    trained = msgspec.json.decode(msgspec.json.encode(made), type=list[TrainedCandidate])
    found = evaluate(services, model, snapshot, trained, run_id)
    decoded = msgspec.json.decode(msgspec.json.encode(found), type=Evaluation)
    assert decoded == evaluate(services, model, snapshot, trained, run_id), "tracked once"
    (version,) = register_candidates(services, model, snapshot, trained, decoded, run_id)
    return snapshot, found, version


def tracked(services: LocalServices, query: str) -> list[tuple[object, ...]]:
    """Look into MLflow's database, without loading MLflow."""
    engine = create_engine(services.tracking_uri)
    try:
        with engine.connect() as connection:
            return [tuple(row) for row in connection.execute(text(query))]
    finally:
        engine.dispose()


def check_package(
    services: LocalServices, snapshot: DatasetSnapshot, version: ModelVersion
) -> None:
    folder = services.artifacts.path(version.package)
    manifest = read_manifest(folder)
    sample = read_sample(folder, manifest)
    assert sample.columns == [*snapshot.feature_names, "up", "prediction"]
    assert len(sample) == snapshot.parts["test"]
    predicted = load_native(folder, manifest).predict(sample.select(manifest.features).to_numpy())
    assert predicted == pytest.approx(sample["prediction"].to_numpy())
    assert sum(manifest.bins["recent.last_signal"].counts) == snapshot.parts["train"]


def check_tracking(services: LocalServices, result: CandidateResult) -> None:
    """Evaluated twice, tracked once: two runs with their metrics, and one that failed."""
    runs = tracked(services, "select name, status from runs order by name")
    assert runs == [("LogisticRegression", "FINISHED"), ("bad", "FAILED"), ("run-1", "FINISHED")]
    trials = "select count(*) from metrics where key = 'trial.roc_auc'"
    assert tracked(services, trials) == [(3,)]
    value = "select value from metrics where key = 'test.roc_auc'"
    assert tracked(services, value) == [(result.test_metrics["roc_auc"],)] * 2
    kept = services.home / ".penstock" / "mlartifacts" / "btc" / result.tracking_run / "artifacts"
    assert {path.name for path in (kept / "pictures").iterdir()} == {
        "roc.png", "precision_recall.png", "calibration.png"
    }  # fmt: skip
    assert len(json.loads((kept / "trials.json").read_text())) == 3
    assert (kept / "model" / "model.skops").is_file()


def check_mirror(services: LocalServices) -> None:
    mirrored = (
        "select a.alias, t.value from registered_model_aliases a join model_version_tags t "
        "on t.name = a.name and t.version = a.version and t.key = 'penstock.version' order by 1"
    )
    now = services.clock.now()
    point(services.metadata, "btc", alias="candidate", version=3, actor="tester", now=now)
    for wanted in (1, 2):
        mirror(services, "btc")
        mirror(services, "btc")
        assert tracked(services, mirrored) == [("candidate", "3"), ("champion", str(wanted))] + [
            ("previous", "1")
        ] * (wanted - 1)
        promote(services, "btc", 2)
    assert tracked(services, "select count(*) from model_versions") == [(3,)]


@pytest.mark.slow
@pytest.mark.timeout(300)  # loads scikit-learn, Optuna, matplotlib and MLflow in a new process
def test_a_run_is_judged_tracked_registered_and_compared(services: LocalServices) -> None:
    snapshot, first, version = run(services, model_of("btc", [BAD, FINE]), "run-1")
    (result,) = first.results
    assert (result.candidate, result.selected, result.ready) == ("LogisticRegression", True, True)
    assert result.test_metrics["roc_auc"] > 0.7
    assert (first.best, first.rivals) == (result, ())
    assert "no champion to beat yet" in result.verdicts[1].reason
    assert (version.label, version.ready, version.metrics) == ("btc@1", True, result.metrics)
    check_package(services, snapshot, version)
    check_tracking(services, result)

    promote(services, "btc", 1)
    _, same, _ = run(services, model_of("btc", [FINE]), "run-2")
    assert [(rival.alias, rival.version) for rival in same.rivals] == [("champion", 1)]
    assert same.rivals[0].metrics == pytest.approx(result.test_metrics)
    # Now with a feature of another length, which the champion never saw.
    _, other, _ = run(services, model_of("btc", [FINE], over="9h"), "run-3")
    assert other.rivals[0].metrics == pytest.approx(result.test_metrics)
    assert other.best.test_metrics != pytest.approx(result.test_metrics)
    assert other.best.verdicts[1].bound == pytest.approx(result.test_metrics["roc_auc"])
    check_mirror(services)


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_what_cannot_be_trained_is_told(services: LocalServices) -> None:
    odd = ps.sklearn(LogisticRegression, name="odd", c=1.0)
    other = ps.sklearn(LogisticRegression, name="other", max_iters=1)
    with pytest.raises(DeclarationError) as told:
        check_candidates(services, model_of("m", [odd, other]))
    assert [fault.split(":")[0] for fault in told.value.faults] == [
        "candidate 'odd'",
        "candidate 'other'",
    ]
    model = model_of("m", [BAD])
    with pytest.raises(UserCodeError, match="Every candidate of model 'm' failed"):
        train_candidates(services, model, build(services, model.dataset), "run-x")
    assert not list(services.scratch.glob("train-*"))


def _experiments(services: LocalServices) -> list[str]:
    engine = create_engine(services.tracking_uri)
    with engine.connect() as database:
        found = database.execute(text("select name from experiments")).scalars().all()
    engine.dispose()
    return list(found)


def test_a_tracking_database_is_not_made_again(tmp_path: Path) -> None:
    (tmp_path / ".penstock").mkdir()
    database = tmp_path / ".penstock" / "mlflow.db"
    database.touch()
    with (
        open_services(tmp_path, settings=Settings(workers=1)) as opened,
        preparing_tracking(opened),
    ):
        pass
    assert not database.stat().st_size
