"""Scores as rows of a table, and back."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import msgspec
import polars as pl

from penstock.records import Score

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = ["SCORE_SCHEMA", "score_frame", "scores_in", "table_of"]

SCORE_SCHEMA: Mapping[str, pl.DataType] = {
    "prediction_id": pl.String(),
    "deployment": pl.String(),
    "model": pl.String(),
    "version": pl.Int64(),
    "route": pl.String(),
    "engine": pl.String(),
    "entity": pl.String(),
    "at_us": pl.Int64(),
    "features": pl.List(pl.Float64()),
    "prediction": pl.Float64(),
    "scored_at_us": pl.Int64(),
    "duration_us": pl.Int64(),
    "progress": pl.String(),  # a JSON object: its keys are views, which differ between versions
    "origin": pl.String(),
    "reason": pl.String(),
    "request_id": pl.String(),
}


def table_of(deployment: str) -> str:
    """Name of the table that keeps a deployment's scores."""
    return f"scores/{deployment}"


def score_frame(scores: Sequence[Score]) -> pl.DataFrame:
    """The scores as a frame of ``SCORE_SCHEMA``, in their order."""
    columns: dict[str, list[object]] = {
        name: [getattr(score, name) for score in scores] for name in SCORE_SCHEMA
    }
    columns["progress"] = [msgspec.json.encode(score.progress).decode() for score in scores]
    return pl.DataFrame(columns, schema=SCORE_SCHEMA)


def scores_in(frame: pl.DataFrame) -> list[Score]:
    """The scores of a frame that ``score_frame`` made, in its order."""
    found: list[Score] = []
    for row in frame.iter_rows(named=True):
        fields = cast("dict[str, object]", row)
        fields["progress"] = msgspec.json.decode(cast("str", fields["progress"]))
        found.append(msgspec.convert(fields, Score))
    return found
