"""A column that a live version reads goes on being looked up."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import msgspec
import pytest

import penstock as ps
from penstock.errors import DeclarationError
from penstock.plan import apply, preview, readable
from penstock.ports import Put
from penstock.records import Aliases, Batch, DatasetSnapshot, LookedUp, ModelVersion
from penstock.spec import Trainer, to_document

if TYPE_CHECKING:
    from penstock.ports import Metadata
    from penstock.spec import Project

NOW = datetime(2026, 1, 1, tzinfo=UTC)
HOUR = timedelta(hours=1)

SECTORS = ps.Source(
    "sectors",
    entity=ps.Entity("sector"),
    timestamp="since",
    schema={"sector": ps.String, "since": ps.Timestamp, "beta": ps.Float64, "fee": ps.Float64},
)


def project(*columns: str, reads: str = "", within: str = "") -> Project:
    """A project whose records are completed with columns, of which a feature reads one."""
    looked = {name: name for name in columns}
    trades = ps.Source(
        "trades",
        entity=ps.Entity("symbol"),
        timestamp="ts",
        schema={"symbol": ps.String, "ts": ps.Timestamp, "sector": ps.String, "size": ps.Float64},
        lookups=[ps.Lookup(SECTORS, on="sector", columns=looked, within=within)] if looked else [],
    )
    view = ps.FeatureView(
        "risk",
        source=trades,
        derive={"weighed": ps.col("size") * ps.col(reads)} if reads else {},
        features=[
            ps.sum("weighed" if reads else "size", name="exposure"),
            *([ps.last("fee")] if "fee" in columns else []),
        ],
    )
    edge = ps.OnDemandView("edge", views=[view], features={"twice": ps.col("risk.exposure") * 2})
    dataset = ps.Dataset(
        "direction",
        spine=trades,
        features=[edge],
        label=ps.Label("up", ps.lead("size", "1h") > ps.col("size")),
        split=ps.TimeSplit(embargo="1h"),
    )
    trainer = Trainer(kind="sklearn", estimator="sklearn.linear_model:LogisticRegression")
    model = ps.Model("model", dataset=dataset, candidates=[trainer])
    return ps.Project("trading", declarations=[ps.Deployment("btc", model=model)])


def serve(metadata: Metadata, *, at: datetime) -> None:
    """Put a version into service that learned from what is declared at that time."""
    snapshot = DatasetSnapshot(
        dataset_id="d", dataset="direction", fingerprint="f", tables={}, batches={}, rows=1,
        unlabelled=0, parts={}, label_balance={}, feature_names=("edge.twice",),
        task="classification", artifact="a", created_at=at,
    )  # fmt: skip
    version = ModelVersion(
        model="model", version=3, candidate="c", run_id="r", dataset_id="d", params={},
        metrics={}, created_at=at, fingerprint="f",
    )  # fmt: skip
    aliases = Aliases(model="model", changed_at=at, champion=3)
    metadata.write(*(Put(record) for record in (version, snapshot, aliases)))


def test_a_column_that_a_live_version_reads_is_not_given_up(metadata: Metadata) -> None:
    apply(metadata, project("beta", "fee", reads="beta"), actor="ann", now=NOW)
    serve(metadata, at=NOW + HOUR)

    with pytest.raises(DeclarationError) as caught:
        preview(metadata, project("fee"), now=NOW + 2 * HOUR)

    (fault,) = caught.value.faults
    assert fault.startswith("source/trades: lookups.beta is declared no more, but model@3 reads")
    assert "risk.exposure and is live; promote a version without it first" in fault
    # What it does not read may go.
    preview(metadata, project("beta", reads="beta"), now=NOW + 2 * HOUR)


def test_it_counts_what_the_views_were_when_the_version_learned(metadata: Metadata) -> None:
    apply(metadata, project("beta", reads="beta"), actor="ann", now=NOW)
    serve(metadata, at=NOW + HOUR)
    apply(metadata, project("beta"), actor="ann", now=NOW + 2 * HOUR)

    with pytest.raises(DeclarationError, match=r"lookups\.beta is declared no more"):
        preview(metadata, project(), now=NOW + 3 * HOUR)


def test_a_version_that_learned_from_the_new_meaning_keeps_nothing(metadata: Metadata) -> None:
    apply(metadata, project("beta", reads="beta"), actor="ann", now=NOW)
    apply(metadata, project("beta"), actor="ann", now=NOW + HOUR)
    serve(metadata, at=NOW + 2 * HOUR)

    assert preview(metadata, project(), now=NOW + 3 * HOUR).steps


def test_a_column_may_be_called_lookups() -> None:
    view = ps.FeatureView(
        "v",
        source=SECTORS,
        derive={"lookups": ps.col("beta") * 2},
        features=[ps.mean("lookups")],
    )

    assert readable(to_document(view))["derive"] == {"lookups": "beta * 2"}


def test_a_column_with_values_keeps_its_meaning(metadata: Metadata) -> None:
    apply(metadata, project("beta", reads="beta"), actor="ann", now=NOW)
    changed = project("beta", reads="beta", within="7d")
    more = project("beta", "fee", reads="beta")

    assert preview(metadata, changed, now=NOW + HOUR).steps
    bare = Batch(
        source="trades", number=1, batch_id="trades-1-0", origin="file:a", sha256="0",
        state="stored", arrived_at=NOW,
    )  # fmt: skip
    metadata.write(Put(bare))
    assert preview(metadata, changed, now=NOW + HOUR).steps  # of before it was declared
    looked_up = LookedUp(source="sectors", on="sector", last_batch=1)
    batch = msgspec.structs.replace(bare, number=2, lookups=(looked_up,))
    metadata.write(Put(batch))

    with pytest.raises(DeclarationError) as caught:
        preview(metadata, changed, now=NOW + HOUR)
    (fault,) = caught.value.faults
    assert fault == (
        "source/trades: lookups.beta changes from 'beta of sectors by sector' to 'beta of sectors "
        "by sector, within 7d', but its raw data has values of the old meaning, which never "
        "change; give the new column another name"
    )
    steps = preview(metadata, more, now=NOW + HOUR).as_rows()
    assert "lookups.fee: nothing -> fee of sectors by sector" in [one["detail"] for one in steps]

    apply(metadata, project(), actor="ann", now=NOW + HOUR)
    with pytest.raises(DeclarationError, match=r"lookups\.beta changes from"):
        preview(metadata, changed, now=NOW + 2 * HOUR)
    assert preview(metadata, more, now=NOW + 2 * HOUR).steps
