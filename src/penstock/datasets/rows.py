"""Rows of a dataset before its features: who, when, what came true, and in which part."""

from __future__ import annotations

from typing import TYPE_CHECKING

import polars as pl

from penstock.errors import InputError
from penstock.spec import duration_text

from .labels import label_columns, label_values
from .spine import AT, read_records
from .splits import EMBARGO, PARTS, assign_parts

if TYPE_CHECKING:
    from collections.abc import Mapping

    from penstock.ports import Tables
    from penstock.spec import Dataset, Label

__all__ = ["PART", "count_parts", "labelled_rows"]

PART = "part"


def labelled_rows(
    tables: Tables, dataset: Dataset, versions: Mapping[str, int]
) -> tuple[pl.DataFrame, int]:
    """Find the rows that have a label, and split them.

    Args:
        tables: Where the raw tables are.
        dataset: The declaration.
        versions: Versions to read, by table name.

    Returns:
        Key, ``at``, what else features are joined by, label and ``part`` of each row, ordered by
        time and key; and how many rows were left out for want of a label.

    Raises:
        InputError: Nothing can be learned from the rows; says why.
    """
    label, key = dataset.label, dataset.spine.entity.name
    columns = label_columns(label) if label is not None else ()
    wanted = [*columns, *dataset.joined_by]
    records = read_records(tables, dataset.spine, versions, columns=wanted)
    if records.is_empty():
        raise InputError(
            f"Dataset {dataset.name!r} is empty: the source {dataset.spine.name!r} has no records.",
            dataset=dataset.name,
        )
    rows = records.select(list(dict.fromkeys([key, AT, *dataset.joined_by])))
    if label is not None:
        _refuse_clash(dataset, label)
        values = label_values(records, dataset.spine, label)
        _refuse_useless(dataset, label, values)
        rows = rows.with_columns(values).filter(pl.col(label.name).is_not_null())
    truth = rows[label.name] if label is not None else None
    part = assign_parts(rows[key], rows[AT], truth, dataset.split)
    _refuse_empty_parts(dataset, rows[AT], part)
    return rows.with_columns(part), len(records) - len(rows)


def _refuse_clash(dataset: Dataset, label: Label) -> None:
    taken = {dataset.spine.entity.name, AT, PART, *dataset.joined_by, *dataset.feature_names}
    if label.name in taken:
        raise InputError(
            f"The label of dataset {dataset.name!r} is called {label.name!r}, as another of its "
            "columns is; give the label another name.",
            dataset=dataset.name,
            label=label.name,
        )


def _refuse_useless(dataset: Dataset, label: Label, values: pl.Series) -> None:
    known = values.drop_nulls()
    if known.is_empty():
        ahead = duration_text(dataset.horizon_us)
        hint = (
            f"It looks {ahead} ahead, and no record is stamped exactly {ahead} after another of "
            "its entity; ingest more records, or change lead()."
            if dataset.horizon_us
            else "Its columns are empty in every record."
        )
        raise InputError(
            f"None of the {len(values)} rows of dataset {dataset.name!r} has the label "
            f"{label.name!r}. {hint}",
            dataset=dataset.name,
            label=label.name,
            rows=len(values),
        )
    if known.dtype == pl.Boolean and known.n_unique() == 1:
        raise InputError(
            f"Every label {label.name!r} of dataset {dataset.name!r} is "
            f"{str(known[0]).lower()} ({len(known)} rows); there is nothing to tell apart. "
            "Ingest records of both kinds, or change the label.",
            dataset=dataset.name,
            label=label.name,
            rows=len(known),
        )


def _refuse_empty_parts(dataset: Dataset, at: pl.Series, part: pl.Series) -> None:
    counts = count_parts(part)
    empty = [name for name in PARTS if not counts[name]]
    if empty:
        raise InputError(
            f"The {' and '.join(empty)} part of dataset {dataset.name!r} would be empty: "
            f"{len(part)} labelled rows at {at.n_unique()} different times, {counts['embargo']} of "
            "them in the embargo. Ingest more records, or change the shares or the embargo.",
            dataset=dataset.name,
            parts=counts,
        )


def count_parts(part: pl.Series) -> dict[str, int]:
    """Rows of each part, and of the embargo."""
    return {name: int((part == name).sum()) for name in (*PARTS, EMBARGO)}
