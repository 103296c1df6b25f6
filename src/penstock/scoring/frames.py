"""Scores as rows of a table, and back."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import msgspec
import polars as pl

from penstock.records import Score

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from penstock.records import Given, Manifest

__all__ = ["SCORE_SCHEMA", "given_column", "score_frame", "score_spine", "scores_in", "table_of"]

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
    "given": pl.String(),  # a JSON object: its keys are entities and request fields
    "withheld": pl.String(),
    "parts": pl.String(),  # a JSON object: its keys are the steps of a graph
    "trace_id": pl.String(),
}

OBJECTS = ("progress", "given", "parts")
ADDED = ("withheld", "trace_id")
"""Columns that older rows have not."""


def table_of(deployment: str) -> str:
    """Name of the table that keeps a deployment's scores."""
    return f"scores/{deployment}"


def score_frame(scores: Sequence[Score]) -> pl.DataFrame:
    """The scores as a frame of ``SCORE_SCHEMA``, in their order."""
    columns: dict[str, list[object]] = {
        name: [getattr(score, name) for score in scores] for name in SCORE_SCHEMA
    }
    for name in OBJECTS:
        columns[name] = [msgspec.json.encode(getattr(score, name)).decode() for score in scores]
    return pl.DataFrame(columns, schema=SCORE_SCHEMA)


def scores_in(frame: pl.DataFrame) -> list[Score]:
    """The scores of a frame that ``score_frame`` made, in its order."""
    found: list[Score] = []
    for row in frame.iter_rows(named=True):
        fields = cast("dict[str, object]", row)
        for name in OBJECTS:
            fields[name] = msgspec.json.decode(cast("str", fields.get(name) or "{}"))
        for name in ADDED:
            fields[name] = fields.get(name) or ""
        found.append(msgspec.convert(fields, Score))
    return found


def given_column(rows: pl.DataFrame, columns: Sequence[str]) -> pl.Series:
    """What each row's request would give beside the key, as the column ``given``."""
    if not columns:
        return pl.repeat("{}", rows.height, dtype=pl.String, eager=True)
    return rows.select(pl.struct(columns).struct.json_encode()).to_series()


def score_spine(
    manifest: Manifest,
    entities: Sequence[str],
    at_us: Sequence[int],
    given: Sequence[Mapping[str, Given]],
) -> pl.DataFrame:
    """The rows at which the features of scores were looked up.

    Args:
        manifest: Of the version that answered them all.
        entities: The entity of each score, as text.
        at_us: The time each score's features are of, in microseconds since 1970 UTC.
        given: What each score's request said beside the key.

    Returns:
        The key of each entity, ``at``, and the request fields: what ``point_in_time`` takes.
    """
    dtypes = {**manifest.keys, **manifest.request}
    columns = [
        pl.Series(
            name,
            entities if name == manifest.entity else [row.get(name) for row in given],
            dtype=pl.String if name == manifest.entity else _DTYPES[dtype],
            strict=False,
        ).cast(_DTYPES[dtype])
        for name, dtype in dtypes.items()
    ]
    at = pl.Series("at", at_us, dtype=pl.Int64)
    return pl.DataFrame([*columns, at.cast(pl.Datetime("us", "UTC"))])


_DTYPES: Mapping[str, pl.DataType] = {
    "string": pl.String(),
    "int64": pl.Int64(),
    "float64": pl.Float64(),
    "boolean": pl.Boolean(),
}
