from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
import polars as pl
import pytest

from penstock.control import Lineage, Link, lineage
from penstock.errors import NotFoundError
from penstock.records import Batch, ModelVersion

if TYPE_CHECKING:
    from penstock.ports import Services
    from penstock.runtime import LocalServices


def newest_score(services: Services, symbol: str) -> str:
    scores = services.tables.scan("scores/btc").filter(pl.col("entity") == symbol).collect()
    return str(scores.sort("at_us")["prediction_id"][-1])


def batches(services: Services) -> list[str]:
    return [batch.batch_id for batch in services.metadata.find(Batch)]


def ids(links: list[Link]) -> list[str]:
    return [link.id for link in links]


def test_from_a_score_to_the_batches_that_hold_its_records(scored: LocalServices) -> None:
    found = lineage(scored, newest_score(scored, "BTC"))
    first, second, _ = batches(scored)
    features, version = found.comes_from
    assert (found.kind, features.kind, version.kind) == ("score", "features", "version")
    assert ids(list(features.links)) == [first, second]
    other, _ = lineage(scored, newest_score(scored, "ETH")).comes_from
    assert ids(list(other.links)) == [first]
    assert version.id == "direction@1"
    assert ids(found.find("run")) == ["run-LogisticRegression"]
    assert ids(found.find("messages")) == ["candles:1-1"]
    (file,) = found.find("file")
    assert file.id.endswith("candles.parquet")
    (code,) = found.find("code")
    definitions = code.detail["definitions"]
    assert isinstance(definitions, list)
    assert "feature_view/momentum" in definitions
    (table,) = found.find("table")
    assert ids(list(table.links)) == [first]


def test_from_a_batch_to_everything_derived_from_it(scored: LocalServices) -> None:
    first, second, third = batches(scored)
    everything = lineage(scored, first)
    assert ids(everything.find("version")) == ["direction@1", "direction@2"]
    assert ids(everything.find("role")) == ["champion", "candidate"]
    assert len(everything.find("dataset")) == 1
    features = everything.leads_to[0]
    assert features.detail["entities"] == ["ADA", "BTC", "ETH"]
    assert [link.detail["count"] for link in features.links] == [721]
    only_online = lineage(scored, second)
    (online,) = only_online.leads_to
    assert online.detail["entities"] == ["BTC"]
    # Scores of one run are of one state: those of BTC, which has 241 records by then.
    assert [link.detail["count"] for link in online.links] == [241]
    (unused,) = lineage(scored, third).leads_to
    assert unused.links == ()


def test_every_other_id_has_a_lineage(scored: LocalServices) -> None:
    version = scored.metadata.find(ModelVersion)[0]
    of_version = lineage(scored, version.label)
    assert {link.kind for link in of_version.comes_from} == {"dataset", "run", "code"}
    assert {link.kind for link in of_version.leads_to} == {"role", "scores"}
    assert of_version.comes_from[0].detail["service"] == "scoring"
    of_dataset = lineage(scored, version.dataset_id)
    assert ids(of_dataset.find("batch")) == batches(scored)[:1]
    of_run = lineage(scored, version.run_id)
    assert ids(list(of_run.leads_to)) == [version.label]
    (file,) = of_version.find("file")
    of_file = lineage(scored, file.id)
    assert ids(list(of_file.leads_to)) == batches(scored)[:1]
    assert msgspec.json.decode(msgspec.json.encode(of_file), type=Lineage) == of_file


def test_an_unknown_id_says_what_is_known(scored: LocalServices) -> None:
    with pytest.raises(NotFoundError, match="a prediction id, MODEL@VERSION"):
        lineage(scored, "nothing")
    with pytest.raises(NotFoundError, match="direction@9"):
        lineage(scored, "direction@9")


def test_a_package_that_is_damaged_does_not_hide_the_rest(scored: LocalServices) -> None:
    version = scored.metadata.find(ModelVersion)[0]
    manifest = scored.artifacts.path(version.package) / "manifest.json"
    manifest.chmod(0o644)
    manifest.write_text("{}")
    found = lineage(scored, newest_score(scored, "BTC"))
    assert ids(found.find("dataset")) == [version.dataset_id]
    assert found.find("code") == []
