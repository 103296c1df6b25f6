"""Labels: what came true, joined from the records that were to come.

``lead(column, by)`` is the column's value in the same entity's record stamped exactly ``by`` later.
Of several records with that stamp it is the last to arrive, as for ``last``. Without such a record
the lead is null, and with it, as a rule, the label.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import polars as pl

from penstock.algebra import tidy, to_polars
from penstock.spec import columns_of, duration_us, is_truth, leads_of

from .spine import ORDER

if TYPE_CHECKING:
    from penstock.spec import Label, Lead, Source

__all__ = ["label_columns", "label_values"]


def label_columns(label: Label) -> tuple[str, ...]:
    """The columns of the source that the label is made from."""
    ahead = {node.column for node in leads_of(label.expression)}
    return tuple(sorted(columns_of(label.expression) | ahead))


def label_values(records: pl.DataFrame, source: Source, label: Label) -> pl.Series:
    """Compute the label of every record.

    Args:
        records: Records of the source, with ``label_columns`` among their columns.
        source: The source.
        label: The label.

    Returns:
        Boolean for a condition or a column of booleans, else Float64, in the order of the records;
        null for none.

    Raises:
        UserCodeError: A function of the user failed.
    """
    frame = tidy(records)
    arrived = frame.sort(*ORDER)
    for node in dict.fromkeys(leads_of(label.expression)):
        frame = _join_lead(frame, arrived, source, node)
    dtype = pl.Boolean if is_truth(label.expression, source.columns) else pl.Float64
    value = to_polars(label.expression, lead_column=_name_of).cast(dtype)
    return tidy(frame.select(value.alias(label.name)))[label.name]


def _join_lead(
    frame: pl.DataFrame, arrived: pl.DataFrame, source: Source, node: Lead
) -> pl.DataFrame:
    key, stamp = source.entity.name, source.timestamp
    earlier = pl.col(stamp) - pl.duration(microseconds=duration_us(node.by))
    later = arrived.select(key, earlier.alias(stamp), pl.col(node.column).alias(_name_of(node)))
    newest = later.unique([key, stamp], keep="last", maintain_order=True)
    return frame.join(newest, on=[key, stamp], how="left", validate="m:1", maintain_order="left")


def _name_of(node: Lead) -> str:
    return f"_lead_{node.by}_{node.column}"
