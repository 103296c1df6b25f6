"""What came true of scores."""

from __future__ import annotations

from typing import TYPE_CHECKING

import polars as pl

if TYPE_CHECKING:
    from collections.abc import Mapping

    from penstock.ports import Tables

__all__ = ["latest_outcomes", "measured"]

KNOWN = ("prediction_id", "value", "measures")
SCHEMA: Mapping[str, pl.DataType] = {
    "prediction_id": pl.String(),
    "value": pl.Float64(),
    "measures": pl.String(),
}


def latest_outcomes(tables: Tables, deployment: str, scores: pl.LazyFrame) -> pl.LazyFrame:
    """The outcome of each score that has one; of several, the one observed last.

    Args:
        tables: The tables.
        deployment: Name of the deployment.
        scores: With ``prediction_id``.

    Returns:
        ``prediction_id``, ``value`` and ``measures`` (a JSON object, null or empty for none), one
        row for each score with an outcome.
    """
    table = f"observations/{deployment}"
    if tables.version(table) is None:
        return pl.LazyFrame(schema={name: SCHEMA[name] for name in KNOWN})
    tables.widen(table, {"measures": SCHEMA["measures"]})
    outcomes = tables.scan(table, columns=[*KNOWN, "observed_at_us", "_offset"])
    return (
        outcomes.join(scores.select("prediction_id"), on="prediction_id", how="semi")
        .sort("observed_at_us", "_offset")
        .unique("prediction_id", keep="last", maintain_order=True)
        .select(*KNOWN)
    )


def measured(name: str) -> pl.Expr:
    """A measure of the outcomes of ``latest_outcomes``, as float64; null where it was not told."""
    return pl.col("measures").str.json_path_match(f"$.{name}").cast(pl.Float64)
