"""Labels of datasets, checked against the types of the columns they read."""

from __future__ import annotations

from typing import TYPE_CHECKING

from penstock.errors import DeclarationError

from .operators import dtype_of

if TYPE_CHECKING:
    from penstock.spec import Dataset

__all__ = ["check_label"]


def check_label(dataset: Dataset) -> None:
    """Check that the label of a dataset is given types that it takes, and gives no text or time.

    Raises:
        DeclarationError: It is not, or does not; says what to write instead.
    """
    label = dataset.label
    if label is None:
        return
    try:
        dtype = dtype_of(label.expression, dataset.spine.columns)
    except DeclarationError as error:
        faults = error.within(f"label {label.name!r}")
        raise DeclarationError.of(f"Dataset({dataset.name!r})", faults) from None
    if dtype is not None and not dtype.is_number:
        fault = (
            f"label {label.name!r} gives {dtype.value}; a label is a number, or true or false. "
            "Compare it with something, as in ps.col('kind').eq('fraud')"
        )
        raise DeclarationError.of(f"Dataset({dataset.name!r})", [fault])
