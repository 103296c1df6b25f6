"""A deletion in the life of a project: scores of before can be replayed, those after do without."""

from __future__ import annotations

from typing import TYPE_CHECKING

import polars as pl
import pytest

from penstock.control import lineage, refresh_features, replay
from penstock.datasets import build, load
from penstock.features import OnlineReader, point_in_time
from penstock.ingest import delete_records, remaining_records
from penstock.plan import Catalogue
from penstock.records import Batch, Deletion
from penstock.registry import get_version
from penstock.scoring import score_batch, scores_in
from penstock.spec import Dataset, FeatureView

if TYPE_CHECKING:
    from penstock.records import Score
    from penstock.runtime import LocalServices


def delete(services: LocalServices, key: str, at_us: int | None = None) -> Batch:
    source = Catalogue.load(services.metadata).source("candles")
    deletion = Deletion(delete_id=f"d-{key}-{at_us}", keys=(key,), at_us=at_us, reason="asked to")
    return delete_records(services, source, deletion)


def newest(services: LocalServices, key: str) -> Score:
    scores = scores_in(services.tables.scan("scores/btc").collect())
    return max((one for one in scores if one.entity == key), key=lambda one: one.at_us)


def test_a_score_of_before_is_replayed_from_what_it_saw(scored: LocalServices) -> None:
    before = newest(scored, "BTC")
    delete(scored, "BTC")
    found = replay(scored, before.prediction_id)
    assert found.same
    assert [feature.same for feature in found.features] == [True] * len(found.features)
    (features, _) = lineage(scored, before.prediction_id).comes_from
    assert not [link for link in features.links if link.links[0].kind == "deletion"]


def test_a_score_after_it_does_without_and_names_it(scored: LocalServices) -> None:
    raw = scored.tables.scan("raw/candles").filter(symbol="BTC").collect()
    last_us = int(raw["ts"].dt.epoch("us").sort()[-1])
    batch = delete(scored, "BTC", last_us)
    refresh_features(scored, "candles")
    views = Catalogue.load(scored.metadata).all(FeatureView)
    reader = OnlineReader(scored.online, views)
    values, as_of_us = reader.read(["BTC"], 0)
    spine = pl.DataFrame(
        {"symbol": ["BTC"], "at": pl.Series(as_of_us).cast(pl.Datetime("us", "UTC"))}
    )
    again = point_in_time(scored.tables, views, spine)
    assert as_of_us[0] < last_us + 2 * 3_600_000_000
    assert values[0].tolist() == pytest.approx(list(again.row(0)[2:]), nan_ok=True)
    # Nothing new is there to score: the last row was scored before it was deleted.
    scored_before = newest(scored, "BTC")
    result = score_batch(scored, "btc")
    assert newest(scored, "BTC").at_us == scored_before.at_us
    assert result.rows == 1  # the record that came late, in batch 3
    late = scores_in(scored.tables.scan("scores/btc").collect())
    (one,) = [score for score in late if max(score.progress.values()) == batch.number]
    assert replay(scored, one.prediction_id).same
    (features, _) = lineage(scored, one.prediction_id).comes_from
    (deletion,) = [link for link in features.links if link.links[0].kind == "deletion"]
    assert deletion.id == batch.batch_id
    assert deletion.links[0].detail["reason"] == "asked to"


def test_a_deletion_leads_to_the_scores_since(scored: LocalServices) -> None:
    batch = delete(scored, "ETH")
    score_batch(scored, "btc")
    found = lineage(scored, batch.batch_id)
    assert found.detail["deleted"] == batch.deleted > 0
    (origin,) = found.comes_from
    assert (origin.kind, origin.id) == ("deletion", "d-ETH-None")
    assert origin.detail["keys"] == ["ETH"]
    (online,) = found.leads_to
    assert (online.kind, online.detail["entities"]) == ("online features", ["ETH"])
    assert online.links == ()  # the only row scored since is of BTC


def test_datasets_are_built_anew_without_the_records(scored: LocalServices) -> None:
    version = get_version(scored.metadata, "direction", 1)
    (dataset,) = Catalogue.load(scored.metadata).all(Dataset)
    before = build(scored, dataset)
    batch = delete(scored, "ETH")
    after = build(scored, dataset)
    assert before.dataset_id != after.dataset_id != version.dataset_id
    assert after.batches == {"candles": batch.number}
    rows = load(scored, after)
    assert set(rows["symbol"]) == {"ADA", "BTC"}
    whole = load(scored, before).filter(pl.col("symbol") != "ETH")
    assert rows.drop("part").equals(whole.drop("part"))
    (link,) = [
        link
        for link in lineage(scored, after.dataset_id).find("batch")
        if link.links[0].kind == "deletion"
    ]
    assert link.id == batch.batch_id
    left = remaining_records(scored.tables, dataset.spine, columns=["symbol"]).collect()
    assert set(left["symbol"]) == {"ADA", "BTC"}


def test_deleted_rows_are_not_scored(scored: LocalServices) -> None:
    raw = scored.tables.scan("raw/candles").filter(_batch=3).collect()
    delete(scored, "BTC", int(raw["ts"].dt.epoch("us")[0]))
    assert score_batch(scored, "btc").rows == 0
