"""Rows to score as an Arrow stream, and scores as another.

Columns go in by the names that the JSON has: the keys of the entities, the request fields and
``at``, or the features by their full names.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import polars as pl

from penstock.errors import InputError, nearest
from penstock.spec import DType

from .arrow_columns import AT, arrow_bytes, feature_values, field_values, key_values, times_us
from .arrow_stream import read_stream
from .serve_schema import BEFORE_EPOCH_US, LIKELY, MOST_ROWS, Row, features_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from penstock.records import Given, Manifest, Score

    from .arrow_stream import Column

__all__ = ["rows_of_arrow", "scores_as_arrow"]


def rows_of_arrow(manifest: Manifest, body: bytes, *, most_rows: int = MOST_ROWS) -> list[Row]:
    """The rows that a stream asks to score.

    Args:
        manifest: Of the version that answers.
        body: The stream.
        most_rows: How many rows to take.

    Raises:
        InputError: It is no stream, has no row or too many, or its columns do not fit the model.
    """
    columns = {column.name: column for column in read_stream(body, most_rows=most_rows)}
    rows = len(next(iter(columns.values())).values) if columns else 0
    if not rows:
        raise InputError("The stream has no row. Send one or more.")
    _check_names(manifest, columns)
    is_given = any(name in columns for name in manifest.features)
    keys, given = _asked(manifest, columns, needed=not is_given)
    moments = [0] * rows
    if AT in columns:
        moments = [at_us or BEFORE_EPOCH_US for at_us in times_us(columns[AT])]
    values = _handed(manifest, columns) if is_given else [None] * rows
    return [
        Row(key, at_us, value, more)
        for key, at_us, value, more in zip(
            keys or [None] * rows, moments, values, given or [{}] * rows, strict=True
        )
    ]


def scores_as_arrow(
    manifest: Manifest, scores: Sequence[Score], *, seen: Mapping[int, Manifest] | None = None
) -> bytes:
    """Scores as a stream: a row each, with the fields of the JSON as columns.

    Args:
        manifest: Of the version that clients have to fit.
        scores: What was computed, in the order of the rows.
        seen: Of the versions, by number, of which the values are told that the model saw, in
            columns ``features.<name>``; left out where none are to be told.
    """
    predicted = [score.prediction for score in scores]
    columns = [pl.Series("prediction_id", [score.prediction_id for score in scores])]
    if manifest.task == "classification":
        true = pl.Series("probability.true", predicted, pl.Float64)
        columns += [
            pl.Series("prediction", [value >= LIKELY for value in predicted]),
            (1.0 - true).alias("probability.false"),
            true,
        ]
    else:
        columns.append(pl.Series("prediction", predicted, pl.Float64))
    columns += [
        pl.Series("model", [score.model for score in scores]),
        pl.Series("version", [score.version for score in scores], pl.Int64),
        pl.Series("route", [score.route for score in scores]),
        pl.Series("as_of", [score.at_us for score in scores]).cast(pl.Datetime("us", "UTC")),
        pl.Series("reason", [score.reason or None for score in scores], pl.String),
    ]
    return arrow_bytes([*columns, *(_saw(manifest, scores, seen) if seen is not None else ())])


def _check_names(manifest: Manifest, columns: Iterable[str]) -> None:
    known = [*manifest.keys, *manifest.request, AT, *manifest.features]
    for name in columns:
        if name not in known:
            raise InputError(f"The stream has the column {name!r}. {nearest(name, known)}")


def _asked(
    manifest: Manifest, columns: Mapping[str, Column], *, needed: bool
) -> tuple[list[Any], list[dict[str, Given]]]:
    """The keys of the entity, and what else comes with a row; empty lists where it is not given."""
    values: dict[str, list[Any]] = {}
    for part, what, read in (
        (manifest.keys, "the keys", key_values),
        (manifest.request, "the request fields", field_values),
    ):
        if not needed and not any(name in columns for name in part):
            continue
        for name, dtype in part.items():
            if name not in columns:
                raise InputError(
                    f"The stream lacks the column {name!r}. Send {what} {', '.join(part)}, or all "
                    "features by their names."
                )
            values[name] = read(columns[name], DType(dtype))
    keys = values.pop(manifest.entity, [])
    rows = zip(*values.values(), strict=True)
    return keys, [dict(zip(values, row, strict=True)) for row in rows]


def _handed(manifest: Manifest, columns: Mapping[str, Column]) -> list[tuple[float | None, ...]]:
    """The features handed in, row by row."""
    missing = [name for name in manifest.features if name not in columns]
    if missing:
        shown = ", ".join(repr(name) for name in missing[:5])
        raise InputError(
            f"The stream lacks the features {shown}. Send all; null where none is known."
        )
    dtypes = manifest.dtypes
    parts = [
        feature_values(columns[name], whole=dtypes.get(name) == "int64")
        for name in manifest.features
    ]
    return list(zip(*parts, strict=True))


def _saw(
    manifest: Manifest, scores: Sequence[Score], seen: Mapping[int, Manifest]
) -> list[pl.Series]:
    """The values the model saw, a column for each feature; null where a score has none."""
    answered = [seen.get(score.version or manifest.version) for score in scores]
    told = [
        features_of(score, saw) if saw else {} for score, saw in zip(scores, answered, strict=True)
    ]
    versions = [manifest, *{one.version: one for one in answered if one}.values()]
    names = dict.fromkeys(name for one in versions for name in one.features)
    return [
        pl.Series(
            f"features.{name}",
            [one.get(name) for one in told],
            pl.Int64 if _is_whole(name, versions) else pl.Float64,
            strict=False,
        )
        for name in names
    ]


def _is_whole(name: str, versions: Iterable[Manifest]) -> bool:
    """Whether all versions that take a feature say that it counts."""
    return all(one.dtypes.get(name) == "int64" for one in versions if name in one.features)
