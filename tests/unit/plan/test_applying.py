from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, TypeAlias

import msgspec
import pytest

import penstock as ps
from penstock.errors import ConflictError, DeclarationError
from penstock.plan import Catalogue, apply, preview
from penstock.ports import Put
from penstock.records import (
    Aliases,
    AppliedDeclaration,
    AppliedProject,
    Batch,
    DatasetSnapshot,
    ModelVersion,
)
from penstock.spec import Dataset, FeatureView

if TYPE_CHECKING:
    from collections.abc import Callable

    from penstock.plan import Plan
    from penstock.ports import Metadata
    from penstock.spec import Project

    ProjectOf: TypeAlias = Callable[..., Project]

NOW = datetime(2026, 1, 1, tzinfo=UTC)
LATER = NOW + timedelta(hours=1)


def test_applying_remembers_everything_and_who_did_it(
    metadata: Metadata, project_of: ProjectOf
) -> None:
    project = project_of()
    plan = apply(metadata, project, actor="ann", now=NOW, commit="abc", dirty=True)
    assert len(plan.steps) == 6
    assert tuple(Catalogue.load(metadata).declarations.values()) == project.everything
    remembered = metadata.read(AppliedProject, "project")
    assert remembered == AppliedProject(
        name="trading", revision=1, applied_at=NOW, applied_by="ann", commit="abc", dirty=True
    )
    (entry,) = metadata.audit()
    assert (entry.actor, entry.action, entry.subject) == ("ann", "apply", "trading")
    assert entry.difference == plan.as_document()


def test_applying_twice_changes_nothing(metadata: Metadata, project_of: ProjectOf) -> None:
    apply(metadata, project_of(), actor="ann", now=NOW)
    before = (metadata.revision(), len(metadata.audit()))
    plan = apply(metadata, project_of(), actor="bob", now=LATER, commit="new")
    assert plan.is_empty
    assert (metadata.revision(), len(metadata.audit())) == before


def test_versions_count_the_changes_of_each_document(
    metadata: Metadata, project_of: ProjectOf
) -> None:
    apply(metadata, project_of(), actor="ann", now=NOW)
    before = Catalogue.load(metadata).fingerprints
    assert preview(metadata, project_of(over="12h"), now=LATER) == apply(
        metadata, project_of(over="12h"), actor="bob", now=LATER
    )
    records = {record.key: record for record in metadata.find(AppliedDeclaration)}
    versions = {key: record.version for key, record in records.items()}
    assert versions["feature_view/momentum"] == 2
    assert sum(versions.values()) == len(versions) + 1
    assert records["model/model"].applied_by == "ann"
    assert records["model/model"].fingerprint != before["model/model"]
    assert records["source/candles"].fingerprint == before["source/candles"]


def test_what_is_declared_no_more_is_removed(metadata: Metadata, project_of: ProjectOf) -> None:
    apply(metadata, project_of(), actor="ann", now=NOW)
    apply(metadata, project_of(without_deployment=True), actor="ann", now=LATER)
    assert "deployment/btc" not in Catalogue.load(metadata).declarations


def test_a_racing_application_is_refused(metadata: Metadata, project_of: ProjectOf) -> None:
    apply(metadata, project_of(), actor="ann", now=NOW)
    read = metadata.read

    def overtaken(cls: type[AppliedProject], key: str) -> AppliedProject | None:
        found = read(cls, key)
        if cls is AppliedProject and found is not None and found.revision == 1:
            metadata.write(Put(msgspec.structs.replace(found, revision=2)))
        return found

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(metadata, "read", overtaken)
        with pytest.raises(ConflictError):
            apply(metadata, project_of(over="12h"), actor="bob", now=LATER)
    assert preview(metadata, project_of(), now=LATER).is_empty


def test_what_holds_data_or_is_live_is_protected(metadata: Metadata, project_of: ProjectOf) -> None:
    apply(metadata, project_of(), actor="ann", now=NOW)
    batch = Batch(
        source="candles", number=1, batch_id="b", origin="file:a", sha256="0",
        state="stored", arrived_at=NOW,
    )  # fmt: skip
    version = ModelVersion(
        model="model", version=3, candidate="c", run_id="r", dataset_id="d", params={},
        metrics={}, created_at=NOW, fingerprint="f",
    )  # fmt: skip
    snapshot = DatasetSnapshot(
        dataset_id="d", dataset="direction", fingerprint="f", tables={}, batches={}, rows=1,
        unlabelled=0, parts={}, label_balance={}, feature_names=("momentum.m",),
        task="classification", artifact="a", created_at=NOW,
    )  # fmt: skip
    aliases = Aliases(model="model", changed_at=NOW, champion=3)
    metadata.write(*(Put(record) for record in (batch, version, snapshot, aliases)))
    changed = project_of(view_name="other", close=ps.Int64)
    with pytest.raises(DeclarationError) as caught:
        apply(metadata, changed, actor="bob", now=LATER)
    assert len(caught.value.faults) == 2
    assert "model@3 reads it and is live" in caught.value.message


def test_the_service_of_a_live_version_is_protected(
    metadata: Metadata, project_of: ProjectOf
) -> None:
    plain = project_of()
    (view,) = (value for value in plain.everything if isinstance(value, FeatureView))
    service = ps.FeatureService("scoring", features=[view["l"]])
    spare = ps.FeatureService("spare", features=[view["m"]])
    both = ps.Project("trading", declarations=[*plain.declarations, service, spare])
    plan = apply(metadata, both, actor="ann", now=NOW)
    assert "feature_service/scoring" in [step.key for step in plan.steps]
    version = ModelVersion(
        model="model", version=3, candidate="c", run_id="r", dataset_id="d", params={},
        metrics={}, created_at=NOW, fingerprint="f",
    )  # fmt: skip
    snapshot = DatasetSnapshot(
        dataset_id="d", dataset="direction", fingerprint="f", tables={}, batches={}, rows=1,
        unlabelled=0, parts={}, label_balance={}, feature_names=("momentum.l",),
        task="classification", artifact="a", created_at=NOW, service="scoring", service_id="0",
    )  # fmt: skip
    aliases = Aliases(model="model", changed_at=NOW, champion=3)
    metadata.write(*(Put(record) for record in (version, snapshot, aliases)))
    with pytest.raises(DeclarationError) as caught:
        preview(metadata, plain, now=LATER)
    (fault,) = caught.value.faults
    assert fault.startswith("feature_service/scoring is declared no more, but model@3 reads it")
    without_spare = ps.Project("trading", declarations=[*plain.declarations, service])
    assert [step.key for step in preview(metadata, without_spare, now=LATER).steps] == [
        "feature_service/spare"
    ]
    assert Catalogue.load(metadata).feature_service("scoring") == service


def test_a_service_that_means_another_makes_its_dataset_stale(
    metadata: Metadata, project_of: ProjectOf
) -> None:
    (dataset,) = (v for v in project_of().everything if isinstance(v, Dataset))
    (view,) = dataset.base_views

    def plan_of(*chosen: str) -> Plan:
        service = ps.FeatureService("scoring", features=[view[chosen]])
        with_service = msgspec.structs.replace(dataset, features=service)
        project = ps.Project("trading", declarations=[with_service])
        return apply(metadata, project, actor="ann", now=NOW)

    plan_of("l")
    rows = {(row["step"], row["kind"]): row["detail"] for row in plan_of("l", "m").as_rows()}
    assert rows["change", "feature_service"] == "features.feature_view/momentum.chosen: l -> l, m"
    assert "feature_service/scoring changed" in rows["stale", "dataset"]
