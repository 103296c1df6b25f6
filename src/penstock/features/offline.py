"""Features as of a time, from the raw tables."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import polars as pl

from penstock.algebra import (
    IntArray,
    compile_view,
    compute_points,
    compute_points_as_known,
    extract,
)
from penstock.errors import InputError, NotReadyError, nearest
from penstock.spec import DType

from .composition import REQUEST_DTYPES, Composition
from .entities import codes_of, key_dtype
from .threads import side_by_side
from .unknown import UnknownEntities, unknown_in

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from penstock.algebra import BoolArray, FloatArray, Program
    from penstock.ports import Tables
    from penstock.spec import FeatureView, View

__all__ = [
    "ARRIVAL",
    "MEMORY_BYTES",
    "check_spine",
    "newest_version",
    "point_in_time",
    "raw_table",
    "read_records",
    "spine_times",
]

AT = "at"
ARRIVAL = ("_batch", "_row")
ARRIVED = "_arrived_at"

MEMORY_BYTES = 1 << 30
COLUMN_BYTES = 32
"""What a record of a column takes at the peak of computing."""


def point_in_time(  # noqa: PLR0913 - what a computation depends on
    tables: Tables,
    views: Sequence[View],
    spine: pl.DataFrame,
    *,
    versions: Mapping[str, int] | None = None,
    batches: Mapping[str, int | IntArray] | None = None,
    as_known: bool = False,
    memory_bytes: int = MEMORY_BYTES,
    notice: Callable[[UnknownEntities], None] | None = None,
) -> pl.DataFrame:
    """Compute features at the rows of a spine, from records known until then.

    Args:
        tables: Where the raw tables are.
        views: The views whose features are wanted.
        spine: A row per value wanted, with a column for the key of each view's entity, ``at``
            (``Datetime("us", "UTC")``), and one for each request field of on-demand views; other
            columns are kept.
        versions: Version to read, by table name (``raw/<source>``); the newest where none is named.
        batches: Last raw batch to use, by name of the feature view, as ``OnlineReader.progress``
            gives it; one for all rows or, as int64, one for each; all where none is named. With
            it, the values are those the online store gave then.
        as_known: Only from records that had arrived by then, and not only were known: what a
            prediction at that time could have seen. Files count as arrived when they were ingested.
        memory_bytes: About what computing may take beside spine and result; where the records are
            too many for that, the entities are computed one part after the other.
        notice: Told of each view whose source has no records of entities that the spine names.

    Returns:
        The spine's rows, all of them in their order, and a column ``view.feature`` for each
        feature: Int64 for counts, else Float64 with null for none. An unknown entity has counts
        and sums of 0 and nulls.

    Raises:
        InputError: The spine lacks a column, has one of another type or a null in ``at``, or has a
            feature's column already; or ``as_known`` beside a last batch of each row.
        NotReadyError: A source has no records yet.
        NotFoundError: There is no such table version.
        UserCodeError: A function of the user failed.
    """
    composition = Composition(views)
    at_us = spine_times(spine)
    _check_free(spine, composition.names)
    for view in composition.base:
        _check_key(spine, view)
    for name, wanted in composition.request.items():
        _check_column(spine, name, REQUEST_DTYPES[wanted], f"the request field {name!r}")
    columns: list[pl.Series] = []
    for view in composition.base:
        pinned = (versions or {}).get(raw_table(view))
        version = newest_version(tables, view) if pinned is None else pinned
        last_batch = (batches or {}).get(view.name)
        if as_known and isinstance(last_batch, np.ndarray):
            raise InputError("Ask for as_known=True or for a last batch of each row, not for both.")
        asked = _Asked(
            version=version, last_batch=last_batch, as_known=as_known, memory_bytes=memory_bytes
        )
        values, unknown = _compute(tables, view, spine, at_us, asked)
        if unknown is not None and notice is not None:
            notice(unknown)
        columns += _columns(view, values)
    if composition.is_plain:
        return spine.with_columns(columns)
    stored = pl.DataFrame([*columns, *(spine[name] for name in composition.request)])
    return spine.hstack(composition.frame(stored))


def raw_table(view: FeatureView) -> str:
    """Name of the table with the records of the view's source."""
    return f"raw/{view.source.name}"


def newest_version(tables: Tables, view: FeatureView) -> int:
    """The newest version of a view's raw table.

    Args:
        tables: Where the raw table is.
        view: The view.

    Raises:
        NotReadyError: The source has no records yet.
    """
    version = tables.version(raw_table(view))
    if version is None:
        source = view.source.name
        raise NotReadyError(
            f"The source {source!r} has no records yet. Run 'penstock ingest {source}'.",
            source=source,
        )
    return version


def read_records(
    tables: Tables, program: Program, version: int, wanted: pl.Expr, *, also: Sequence[str] = ()
) -> pl.DataFrame:
    """Read what a program needs of its raw table, in the order of arrival.

    Args:
        tables: Where the raw table is.
        program: The compiled view.
        version: Version to read.
        wanted: Which records.
        also: More columns to read.

    Raises:
        NotFoundError: There is no such version.
    """
    source = program.view.source
    columns = [source.entity.name, source.timestamp, *program.columns, *ARRIVAL, *also]
    records = tables.scan(raw_table(program.view), version=version, columns=columns)
    return _by_arrival(records.filter(wanted).collect())


def _by_arrival(records: pl.DataFrame) -> pl.DataFrame:
    """Sort records by arrival, unless they are: files are mostly read in that order."""
    batch, row = (records[name].to_numpy() for name in ARRIVAL)
    same = batch[1:] == batch[:-1]
    if ((batch[1:] > batch[:-1]) | (same & (row[1:] > row[:-1]))).all():
        return records
    return records.sort(*ARRIVAL)


@dataclass(frozen=True, kw_only=True)
class _Asked:
    """What is asked of a view.

    Attributes:
        version: Version of the raw table.
        last_batch: Last raw batch to use, for all points or for each; all when None.
        as_known: Only what had arrived.
        memory_bytes: What computing may take.
    """

    version: int
    last_batch: int | IntArray | None
    as_known: bool
    memory_bytes: int


def _compute(
    tables: Tables, view: FeatureView, spine: pl.DataFrame, at_us: IntArray, asked: _Asked
) -> tuple[FloatArray, UnknownEntities | None]:
    """Compute a view at a spine, a part of the entities after the other where all are too many."""
    program = compile_view(view)
    keys = spine[view.source.entity.name]
    known = keys.unique().drop_nulls().sort()
    codes = codes_of(keys, known)
    wanted = pl.lit(value=True)
    if len(at_us):
        wanted &= _in_reach(program, int(at_us.min()), int(at_us.max()))
    if asked.last_batch is not None:
        wanted &= pl.col(ARRIVAL[0]) <= int(np.max(asked.last_batch, initial=0))
    parts = _parts(tables, program, asked)
    result = np.empty((len(at_us), program.width))
    met = np.zeros(len(known), dtype=np.bool_)
    part_of = np.maximum(codes, 0) % parts
    for part in range(parts):
        rows = np.flatnonzero(part_of == part)
        own = known.gather_every(parts, part)
        # The places of a part's entities among its own are their places among all, without gaps.
        places = np.where(codes[rows] < 0, -1, codes[rows] // parts)
        points = _Points(places, at_us[rows], _each(asked.last_batch, rows))
        result[rows], met[part::parts] = _compute_part(tables, program, own, wanted, points, asked)
    return result, unknown_in(view, known, codes, met)


class _Points(NamedTuple):
    """The points of a part.

    Attributes:
        codes: Place of each one's entity among the part's, -1 for none.
        at_us: Their times.
        batches: Last raw batch of each, where they differ.
    """

    codes: IntArray
    at_us: IntArray
    batches: IntArray | None


def _each(last_batch: int | IntArray | None, rows: IntArray) -> IntArray | None:
    return last_batch[rows] if isinstance(last_batch, np.ndarray) else None


def _compute_part(  # noqa: PLR0913, PLR0917 - what a computation depends on
    tables: Tables,
    program: Program,
    known: pl.Series,
    wanted: pl.Expr,
    points: _Points,
    asked: _Asked,
) -> tuple[FloatArray, BoolArray]:
    """The values at a part's points, and which of its entities have records."""
    key = program.view.source.entity.name
    wanted = wanted & pl.col(key).is_in(known.implode())
    also = (ARRIVED,) if asked.as_known else ()
    records = read_records(tables, program, asked.version, wanted, also=also)
    owners = codes_of(records[key], known)
    met = np.zeros(len(known), dtype=np.bool_)
    met[owners] = True
    return _values(program, records, owners, points, asked), met


def _values(
    program: Program, records: pl.DataFrame, owners: IntArray, points: _Points, asked: _Asked
) -> FloatArray:
    events = extract(program, records, owners)
    codes, at_us, batches = points
    if batches is not None:
        number = records[ARRIVAL[0]].to_numpy()
        return compute_points_as_known(
            program, events, number, codes, at_us, batches, each=side_by_side
        )
    if not asked.as_known:
        return compute_points(program, events, codes, at_us, side_by_side)
    arrived_us = records[ARRIVED].dt.epoch("us").to_numpy()
    return compute_points_as_known(program, events, arrived_us, codes, at_us, each=side_by_side)


def _parts(tables: Tables, program: Program, asked: _Asked) -> int:
    """In how many parts the entities are to be computed, by the size of the whole table."""
    records = tables.scan(raw_table(program.view), version=asked.version, columns=[ARRIVAL[0]])
    size: int = records.select(pl.len()).collect().item()
    # Read, as arrays, sorted, and prepared: each column is there about four times at the peak.
    columns = len(program.columns) + len(program.inputs) + len(ARRIVAL) + 2
    return max(1, -(-size * columns * COLUMN_BYTES // asked.memory_bytes))


def _in_reach(program: Program, first_us: int, last_us: int) -> pl.Expr:
    """Whether a record can be in a window asked between two times."""
    source = program.view.source
    stamp = pl.col(source.timestamp)
    wanted = stamp <= _instant(last_us - source.known_after_us)
    if all(group.hop_us for group in program.groups):
        before_us = max(group.reach_us + group.hop_us for group in program.groups)
        before_us = max(before_us, program.view.ttl_us)
        wanted &= stamp > _instant(first_us - before_us - source.known_after_us)
    return wanted


def _instant(time_us: int) -> pl.Expr:
    return pl.lit(time_us).cast(pl.Datetime("us", "UTC"))


def spine_times(spine: pl.DataFrame) -> IntArray:
    """The spine's times in microseconds.

    Raises:
        InputError: It has no column ``at``, one without a time zone, or a null in it.
    """
    if AT not in spine.columns:
        raise InputError(f"The spine has no column 'at'. {nearest(AT, spine.columns)}", column=AT)
    dtype = spine.schema[AT]
    if not isinstance(dtype, pl.Datetime) or dtype.time_zone is None:
        raise InputError(
            f"The spine's column 'at' is {dtype}. Make it Datetime('us', 'UTC').", column=AT
        )
    times = spine[AT].dt.convert_time_zone("UTC").dt.cast_time_unit("us").cast(pl.Int64)
    if times.null_count():
        raise InputError(
            f"The spine's column 'at' is null in {times.null_count()} rows. "
            "Say at what time each row's features are wanted, or leave the rows out.",
            column=AT,
        )
    return times.to_numpy().astype(np.int64, copy=False)


def check_spine(spine: pl.DataFrame, view: FeatureView) -> None:
    """Check that a view's features can be put beside a spine's columns.

    Raises:
        InputError: The key is not there or of another type, or a feature's column is there already.
    """
    _check_key(spine, view)
    _check_free(spine, view.names)


def _check_key(spine: pl.DataFrame, view: FeatureView) -> None:
    entity = view.source.entity
    _check_column(spine, entity.name, key_dtype(entity), f"the key of view {view.name!r}")


def _check_column(spine: pl.DataFrame, name: str, dtype: pl.DataType, what: str) -> None:
    if name not in spine.columns:
        raise InputError(
            f"The spine has no column {name!r}, {what}. {nearest(name, spine.columns)}",
            column=name,
        )
    if spine.schema[name] != dtype:
        raise InputError(
            f"The spine's column {name!r} is {spine.schema[name]}, but {what} is {dtype}. Cast it.",
            column=name,
        )


def _check_free(spine: pl.DataFrame, names: Sequence[str]) -> None:
    taken = sorted(set(names) & set(spine.columns))
    if taken:
        raise InputError(
            f"The spine has the columns {taken} already. Leave them out or rename them.",
            columns=taken,
        )


def _columns(view: FeatureView, values: FloatArray) -> list[pl.Series]:
    columns: list[pl.Series] = []
    for place, (name, dtype) in enumerate(view.dtypes.items()):
        column = pl.Series(name, values[:, place], nan_to_null=True)
        columns.append(column.cast(pl.Int64) if dtype is DType.INT64 else column)
    return columns
