"""The features of a dataset: all of its views', or those that a selection kept."""

from __future__ import annotations

from typing import TYPE_CHECKING

from penstock.errors import InputError, NotFoundError
from penstock.records import FeatureSelection

if TYPE_CHECKING:
    from penstock.ports import Metadata
    from penstock.spec import Dataset

__all__ = ["get_selection", "selected_names"]


def get_selection(metadata: Metadata, selection_id: str) -> FeatureSelection:
    """The feature selection of that id.

    Raises:
        NotFoundError: There is none; names those there are.
    """
    found = metadata.read(FeatureSelection, selection_id)
    if found is None:
        known = {one.selection_id: one for one in metadata.find(FeatureSelection)}
        hint = "" if known else "Make one with 'penstock features select <dataset>'."
        raise NotFoundError.of("feature selection", selection_id, known, hint=hint)
    return found


def selected_names(metadata: Metadata, dataset: Dataset) -> tuple[str, ...]:
    """Full names of the features in the dataset, in the order models see them.

    Args:
        metadata: Where selections are remembered.
        dataset: The dataset.

    Raises:
        NotFoundError: There is no selection of the id it names.
        InputError: The selection kept a feature that is in none of the dataset's views.
    """
    if not dataset.select:
        return dataset.feature_names
    kept = set(get_selection(metadata, dataset.select).kept)
    gone = sorted(kept - set(dataset.feature_names))
    if gone:
        raise InputError(
            f"The feature selection {dataset.select!r} kept {', '.join(map(repr, gone))}, which "
            f"dataset {dataset.name!r} does not have. Select again with 'penstock features select "
            f"{dataset.name}', or put the features back.",
            dataset=dataset.name,
            selection_id=dataset.select,
            missing=gone,
        )
    return tuple(name for name in dataset.feature_names if name in kept)
