"""Features that tell something are kept, copies, noise and constants not; datasets use the id."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
import polars as pl
import pytest
from scipy.stats import chi2_contingency
from sklearn.linear_model import LogisticRegression

import penstock as ps
from penstock.datasets import build, load
from penstock.errors import DeclarationError, InputError, NotFoundError
from penstock.evaluation import evaluate, register_candidates, select_features
from penstock.evaluation.choosing import choose, group, mean_ranks
from penstock.evaluation.ranking import correlations, is_constant, relevance
from penstock.ports import Delete
from penstock.records import FeatureRank
from penstock.registry import promote, read_manifest
from penstock.runtime import Settings, open_services
from penstock.training import train_candidates

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from penstock.evaluation import Evaluation
    from penstock.records import Manifest
    from penstock.runtime import LocalServices
    from penstock.spec import Dataset, Expression

ROWS = 900
COLUMNS = ("strong", "copy", "weak", "noise", "gaps", "flat", "empty", "late")


@pytest.fixture(scope="module")
def services(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalServices]:
    home: Path = tmp_path_factory.mktemp("selection") / "home"
    (home / ".penstock").mkdir(parents=True)
    with open_services(home, actor="tester", settings=Settings(workers=1)) as opened:
        random = np.random.default_rng(5)
        strong, weak = random.normal(size=(2, ROWS))
        signal = 2 * strong + 0.8 * weak + 0.5 * random.normal(size=ROWS)
        # Whether a value is there says something of the label; the values themselves say nothing.
        gaps = np.where(signal > 1.5, None, random.normal(size=ROWS).round(2))  # type: ignore[call-overload]  # None among floats
        # Of the test part it is the very label; of the others it is noise.
        late = np.where(np.arange(ROWS) < 0.86 * ROWS, random.normal(size=ROWS), 1e3 * signal)
        start = datetime(2026, 1, 1, tzinfo=UTC)
        frame = pl.DataFrame(
            {
                "symbol": "a",
                "ts": [start + timedelta(hours=hour) for hour in range(ROWS)],
                "strong": strong,
                "copy": -3 * strong + 1e-3 * random.normal(size=ROWS),
                "weak": weak,
                "noise": random.normal(size=ROWS),
                "gaps": pl.Series(gaps.tolist(), dtype=pl.Float64),
                "flat": 7.0,
                "empty": pl.Series([None] * ROWS, dtype=pl.Float64),
                "late": late,
                "signal": signal,
                "_batch": pl.Series([1] * ROWS, dtype=pl.Int64),
                "_row": pl.Series(range(ROWS), dtype=pl.Int64),
            }
        ).with_columns(pl.col("ts").cast(pl.Datetime("us", "UTC")))
        opened.tables.append("raw/readings", frame, app="raw/readings", number=1)
        yield opened


def dataset_of(label: Expression, **more: Any) -> Dataset:  # noqa: ANN401 - fields of a dataset
    readings = ps.Source(
        "readings",
        entity=ps.Entity("symbol"),
        timestamp="ts",
        schema={
            "symbol": ps.String,
            "ts": ps.Timestamp,
            **dict.fromkeys((*COLUMNS, "signal"), ps.Float64),
        },
        nullable=[*COLUMNS],
    )
    views = [
        ps.FeatureView(
            "v",
            source=readings,
            features=[
                ps.mean(name, over="1h", name=f"last_{name}") if name == "gaps" else ps.last(name)
                for name in COLUMNS[:-1]
            ],
        ),
        ps.FeatureView("w", source=readings, features=[ps.last("late"), ps.count(over="1h")]),
    ]
    return ps.Dataset(
        "readings", spine=readings, features=views, label=ps.Label("y", label), **more
    )


CLASSES = ps.col("signal") > 0
AMOUNT = ps.col("signal") * 1


@pytest.mark.parametrize("label", [CLASSES, AMOUNT], ids=["classification", "regression"])
def test_what_tells_something_is_kept_and_nothing_else(
    services: LocalServices, label: Expression
) -> None:
    found = select_features(services, dataset_of(label))
    by_name = {one.name.split("last_")[-1]: one for one in found.ranks}
    verdicts = {name: one.verdict for name, one in by_name.items()}
    best, other = sorted(("strong", "copy"), key=lambda name: by_name[name].rank)
    assert verdicts[best] == "kept"
    assert (verdicts[other], by_name[other].redundant_with) == ("redundant", f"v.last_{best}")
    assert by_name[other].correlation == pytest.approx(-1, abs=0.01)
    assert by_name[other].importance is None
    assert {verdicts["weak"], verdicts["gaps"]} == {"kept"}
    assert {verdicts["noise"], verdicts["late"]} == {"noise"}, "the test part is not looked at"
    assert {verdicts[name] for name in ("flat", "empty", "w.count_1h")} == {"constant"}
    assert set(found.kept) == {f"v.last_{best}", "v.last_weak", "v.last_gaps"}
    assert [one.rank for one in found.ranks] == list(range(1, 10))
    assert (found.ranks[0].name, found.ranks[3].name) == (f"v.last_{best}", f"v.last_{other}")
    assert {one.verdict for one in found.ranks[-3:]} == {"constant"}
    assert found.score > 0.8
    assert found.rows == {"train": 630, "validation": 135}


def test_the_same_rows_and_seed_give_the_same_selection_once(services: LocalServices) -> None:
    first = select_features(services, dataset_of(CLASSES), seed=3)
    entries = len(services.metadata.audit())
    assert select_features(services, dataset_of(CLASSES), seed=3) == first
    assert len(services.metadata.audit()) == entries
    services.metadata.write(Delete(first))
    again = select_features(services, dataset_of(CLASSES), seed=3)
    assert msgspec.structs.replace(again, created_at=first.created_at) == first
    other = select_features(services, dataset_of(CLASSES), seed=4)
    assert other.selection_id != first.selection_id


def test_top_keeps_the_first_of_those_with_evidence(services: LocalServices) -> None:
    found = select_features(services, dataset_of(CLASSES), top=1)
    assert len(found.kept) == 1
    assert found.kept[0] in {"v.last_strong", "v.last_copy"}
    assert sorted(one.verdict for one in found.ranks).count("beyond top") == 2
    assert len(select_features(services, dataset_of(CLASSES), top=50).kept) == 3


def test_the_report_is_kept_with_its_pictures(services: LocalServices) -> None:
    found = select_features(services, dataset_of(CLASSES))
    folder = services.artifacts.path(found.artifact)
    page = (folder / "report.html").read_text(encoding="utf-8")
    assert f"select=&quot;{found.selection_id}" in page or f'select="{found.selection_id}"' in page
    assert all(one.name in page for one in found.ranks)
    for name in ("ranking.png", "correlation.png"):
        assert f'src="{name}"' in page
        assert (folder / name).read_bytes().startswith(b"\x89PNG")


def test_a_dataset_with_the_id_has_the_kept_columns_and_trains(services: LocalServices) -> None:
    found = select_features(services, dataset_of(CLASSES))
    chosen = dataset_of(CLASSES, select=found.selection_id)
    snapshot = build(services, chosen)
    assert snapshot.feature_names == found.kept
    rows = load(services, snapshot)
    assert rows.columns == ["symbol", "at", *found.kept, "y", "part"]
    whole = build(services, dataset_of(CLASSES))
    assert whole.dataset_id != snapshot.dataset_id
    assert load(services, whole).select(rows.columns).equals(rows)
    model = ps.Model("m", dataset=chosen, candidates=[ps.sklearn(LogisticRegression)])
    (trained,) = train_candidates(services, model, snapshot, "run-1")
    assert trained.error == ""
    assert trained.value is not None
    assert trained.value > 0.8
    # Selecting again from a dataset that selects ranks all of its features, so the id stays.
    assert select_features(services, chosen).selection_id == found.selection_id


def test_a_version_says_what_was_selected_and_meets_a_rival_that_saw_more(
    services: LocalServices,
) -> None:
    def versioned(dataset: Dataset, run_id: str) -> tuple[Manifest, Evaluation]:
        model = ps.Model(
            "rivals",
            dataset=dataset,
            candidates=[ps.sklearn(LogisticRegression)],
            gates=[ps.beats("champion", "roc_auc", by=-1)],
        )
        snapshot = build(services, dataset)
        trained = train_candidates(services, model, snapshot, run_id)
        found = evaluate(services, model, snapshot, trained, run_id)
        (version,) = register_candidates(services, model, snapshot, trained, found, run_id)
        if version.version == 1:
            promote(services, "rivals", 1)
        return read_manifest(services.artifacts.path(version.package)), found

    whole, _ = versioned(dataset_of(CLASSES), "run-whole")
    chosen = select_features(services, dataset_of(CLASSES))
    manifest, found = versioned(dataset_of(CLASSES, select=chosen.selection_id), "run-chosen")
    assert (whole.selection_id, manifest.selection_id) == ("", chosen.selection_id)
    assert len(whole.features) == 9
    assert manifest.features == chosen.kept
    assert set(manifest.dtypes) == set(manifest.bins) == set(chosen.kept)
    assert (set(whole.views), set(manifest.views)) == ({"v", "w"}, {"v"})
    (rival,) = found.rivals
    assert rival.version == 1
    assert rival.metrics["roc_auc"] == pytest.approx(whole.metrics["test.roc_auc"], abs=1e-9), (
        "the champion is asked for all of its features"
    )


def test_an_unknown_or_unfit_selection_is_refused(services: LocalServices) -> None:
    found = select_features(services, dataset_of(CLASSES))
    near = found.selection_id[:-1] + ("0" if found.selection_id[-1] != "0" else "1")
    with pytest.raises(NotFoundError, match=f"Did you mean '{found.selection_id}'"):
        build(services, dataset_of(CLASSES, select=near))
    with pytest.raises(DeclarationError, match="penstock features select readings"):
        dataset_of(CLASSES, select="the-best")
    chosen = dataset_of(CLASSES, select=found.selection_id)
    with pytest.raises(InputError, match="which dataset 'readings' does not have"):
        build(services, msgspec.structs.replace(chosen, features=chosen.views[1:]))


def test_a_dataset_that_cannot_be_ranked_says_why(services: LocalServices) -> None:
    dataset = dataset_of(CLASSES)
    with pytest.raises(InputError, match="has no label"):
        select_features(services, msgspec.structs.replace(dataset, label=None))
    flat = ps.FeatureView("v", source=dataset.spine, features=[ps.last("flat"), ps.last("empty")])
    with pytest.raises(InputError, match="each is constant or empty"):
        select_features(services, msgspec.structs.replace(dataset, features=[flat]))
    with pytest.raises(InputError, match="top=-1"):
        select_features(services, dataset, top=-1)


def test_ranks_share_ties_and_leave_out_what_was_not_measured() -> None:
    found = mean_ranks([[3.0, 1.0, 3.0, 2.0], [float("nan"), 5.0, 7.0, float("nan")]])
    assert found.tolist() == [0.5 / 3, 1.0, 0.25 / 3, 2 / 3]


def test_equal_features_are_ranked_in_the_order_of_the_dataset() -> None:
    ranks = [
        FeatureRank(name=name, rank=0, verdict="kept", chi2=9.0, chi2_p=1e-9, mutual_information=1)
        for name in ("b", "a", "c")
    ]
    kept, ordered = choose(ranks, ("b", "a", "c"), 2)
    assert kept == ("b", "a")
    assert [(one.name, one.verdict) for one in ordered] == [
        ("b", "kept"),
        ("a", "kept"),
        ("c", "beyond top"),
    ]


def test_the_best_of_nothing_is_kept() -> None:
    ranks = [
        FeatureRank(name=name, rank=0, verdict="kept", chi2=x, chi2_p=0.5, mutual_information=x)
        for name, x in (("a", 1.0), ("b", 2.0))
    ]
    assert choose(ranks, ("a", "b"), 0)[0] == ("b",)


def test_groups_do_not_chain() -> None:
    # a ~ b and b ~ c, but not a ~ c: c does not hide behind a.
    rho = np.array([[1, 0.95, 0.85], [0.95, 1, 0.95], [0.85, 0.95, 1]])
    assert group([0, 1, 2], rho).tolist() == [0, 0, 2]
    assert group([1, 0, 2], rho).tolist() == [1, 1, 1]


def test_chi_square_is_that_of_the_contingency_table() -> None:
    random = np.random.default_rng(1)
    x = random.integers(0, 4, 500).astype(float)
    y = (random.random(500) < 0.2 + 0.15 * x).astype(float)
    table = np.array([[((x == a) & (y == b)).sum() for b in (0, 1)] for a in range(4)])
    statistic, p, *_ = chi2_contingency(table)
    (found,) = relevance(x[:, None], y, "classification", 0)
    assert found.chi2 == pytest.approx(statistic)
    assert found.p == pytest.approx(p)


def test_extreme_values_are_measured_like_others() -> None:
    random = np.random.default_rng(1)
    y = (random.random(400) < 0.5).astype(float)
    endless = np.where(y > 0, np.inf, random.normal(size=400))
    x = np.column_stack([endless, random.normal(size=400) * 1e15])
    told, not_told = relevance(x, y, "classification", 0)
    assert told.mutual_information > 0.5
    assert not_told.mutual_information < 0.05
    assert np.isfinite(correlations(x)).all()
    assert is_constant(np.full(3, np.inf))
    assert not is_constant(np.array([1.0, np.nan])), "a null is a value of its own"
