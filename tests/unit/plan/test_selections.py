from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest

import penstock as ps
from penstock.errors import DeclarationError
from penstock.plan import apply, preview
from penstock.ports import Put
from penstock.records import AppliedProject, FeatureSelection
from penstock.spec import Dataset

if TYPE_CHECKING:
    from collections.abc import Callable

    from penstock.ports import Metadata
    from penstock.spec import Project

NOW = datetime(2026, 12, 31, tzinfo=UTC)
ID = "0123456789abcdef"


def selecting(project_of: Callable[..., Project], select: str) -> Project:
    """A project with one more dataset, of the features that a selection kept."""
    first = next(value for value in project_of().everything if isinstance(value, Dataset))
    lean = ps.Dataset("lean", spine=first.spine, features=first.features, select=select)
    return project_of(more=[lean])


def keep(metadata: Metadata, *kept: str) -> None:
    selection = FeatureSelection(
        selection_id=ID, dataset="direction", dataset_id="d", task="classification", seed=0,
        top=1, kept=kept, ranks=(), rows={}, metric="roc_auc", score=0.5, artifact="a",
        created_at=NOW,
    )  # fmt: skip
    metadata.write(Put(selection))


def test_a_selection_that_is_there_is_taken(
    metadata: Metadata, project_of: Callable[..., Project]
) -> None:
    keep(metadata, "momentum.m")
    assert apply(metadata, selecting(project_of, ID), actor="ann", now=NOW).steps


def test_a_selection_that_is_not_there_is_refused(
    metadata: Metadata, project_of: Callable[..., Project]
) -> None:
    project = selecting(project_of, "f" * 16)
    for asked in (preview, lambda *a, **k: apply(*a, actor="ann", **k)):
        with pytest.raises(DeclarationError, match="dataset/lean: there is no feature selection '"):
            asked(metadata, project, now=NOW)
    assert metadata.read(AppliedProject, "project") is None
    keep(metadata, "momentum.m")
    near = selecting(project_of, ID[:-1] + "0")
    with pytest.raises(DeclarationError, match=f"Did you mean '{ID}'") as raised:
        preview(metadata, near, now=NOW)
    assert "penstock features select lean" in str(raised.value)


def test_a_selection_of_features_that_are_gone_is_refused(
    metadata: Metadata, project_of: Callable[..., Project]
) -> None:
    keep(metadata, "momentum.m", "momentum.gone")
    with pytest.raises(DeclarationError, match=f"'{ID}' kept 'momentum.gone', which the dataset"):
        preview(metadata, selecting(project_of, ID), now=NOW)
