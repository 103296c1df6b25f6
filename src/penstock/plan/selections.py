"""What is wrong with the feature selections that datasets name."""

from __future__ import annotations

from typing import TYPE_CHECKING

from penstock.errors import nearest
from penstock.spec import Dataset, key_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from penstock.spec import Declaration

__all__ = ["selection_faults"]


def selection_faults(
    declared: Iterable[Declaration], kept: Mapping[str, Sequence[str]]
) -> Iterator[str]:
    """Yield each dataset whose selection is unknown, or kept features that it does not have.

    Args:
        declared: What is declared.
        kept: The features that each selection kept, by its id.
    """
    for dataset in declared:
        if not isinstance(dataset, Dataset) or not dataset.select:
            continue
        again = f"'penstock features select {dataset.name}'"
        names = kept.get(dataset.select)
        if names is None:
            known = f" {nearest(dataset.select, kept)}" if kept else ""
            yield (
                f"{key_of(dataset)}: there is no feature selection {dataset.select!r}.{known} "
                f"Leave select out, apply, and make one with {again}"
            )
            continue
        gone = sorted(set(names) - set(dataset.feature_names))
        if gone:
            yield (
                f"{key_of(dataset)}: the feature selection {dataset.select!r} kept "
                f"{', '.join(map(repr, gone))}, which the dataset does not have; put the features "
                f"back, or leave select out, apply, and select again with {again}"
            )
