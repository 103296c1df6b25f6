"""Features as of a time, from the raw tables."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from penstock.algebra import IntArray, asks_newest, compile_view
from penstock.errors import InputError, NotReadyError, nearest
from penstock.ingest import raw_records, read_tombstones
from penstock.spec import DType

from .composition import Composition, request_dtype
from .entities import codes_of, key_dtype
from .part_values import ARRIVAL, ARRIVED, FEWEST_COLUMNS, MOST_COLUMNS, by_arrival, compute_part
from .parts import Part, PartJob, Parts, PartValues
from .unknown import UnknownEntities, unknown_in

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from penstock.algebra import FloatArray, Program, Tombstones
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

MEMORY_BYTES = 1 << 30
COLUMN_BYTES = 32
"""What a record of a column takes at the peak of computing."""
KEYS_BYTES, VALUE_BYTES = 60, 20
"""What a record takes where only newest values are wanted: that it counts, and each of the columns
that are read at once."""


def point_in_time(  # noqa: PLR0913 - what a computation depends on
    tables: Tables,
    views: Sequence[View],
    spine: pl.DataFrame,
    *,
    versions: Mapping[str, int] | None = None,
    batches: Mapping[str, int | IntArray] | None = None,
    as_known: bool = False,
    memory_bytes: int = MEMORY_BYTES,
    parts: Parts | None = None,
    given: Mapping[str, pl.DataFrame] | None = None,
    notice: Callable[[UnknownEntities], None] | None = None,
    progress: Callable[[str, float], None] | None = None,
) -> pl.DataFrame:
    """Compute features at the rows of a spine, from records known until then.

    Records that have been deleted count as if they had never been.

    Args:
        tables: Where the raw tables are.
        views: The views whose features are wanted.
        spine: A row per value wanted, with a column for the key of each view's entity, ``at``
            (``Datetime("us", "UTC")``), and one for each request field of on-demand views; other
            columns are kept.
        versions: Version to read, by table name (``raw/<source>``); the newest where none is named.
        batches: Last raw batch to use, by name of the feature view, as ``OnlineReader.progress``
            gives it; one for all rows or, as int64, one for each; all where none is named. With
            it, the values are those the online store gave then, before later deletions.
        as_known: Only from records that had arrived by then, and not only were known: what a
            prediction at that time could have seen. Files count as arrived when they were ingested.
            A record counts until its deletion arrived.
        memory_bytes: About what computing may take beside spine and result; where the records are
            too many for that, the entities are computed in parts.
        parts: What computes the parts: side by side, each with its share of the memory. This
            process, one after the other, when left out. The same parts give the same bits
            wherever they are computed.
        given: Features of feature views that are at hand, by the view's name: its columns, and a
            row for each of the spine. These views are not computed.
        notice: Told of each view whose source has no records of entities that the spine names.
        progress: Told of each part that is done, where there are several, and the share of all.

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
        UnavailableError: A process that computed a part died; finished parts are kept.
    """
    composition = Composition(views)
    at_us = spine_times(spine)
    _check_free(spine, composition.names)
    for view in composition.base:
        _check_key(spine, view)
    for name, wanted in composition.request.items():
        _check_column(spine, name, request_dtype(wanted), f"the request field {name!r}")
    columns: list[pl.Series] = []
    for place, view in enumerate(composition.base):
        if view.name in (given or {}):
            columns += (given or {})[view.name].select(view.names).get_columns()
            continue
        pinned = (versions or {}).get(raw_table(view))
        version = newest_version(tables, view) if pinned is None else pinned
        last_batch = (batches or {}).get(view.name)
        if as_known and isinstance(last_batch, np.ndarray):
            raise InputError("Ask for as_known=True or for a last batch of each row, not for both.")
        asked = _Asked(
            version=version,
            last_batch=last_batch,
            as_known=as_known,
            memory_bytes=memory_bytes,
            parts=parts,
            tell=_scaled(progress, place, len(composition.base)),
        )
        values, unknown = _compute(tables, view, spine, at_us, asked)
        if unknown is not None and notice is not None:
            notice(unknown)
        columns += _columns(view, values)
    if composition.is_plain:
        return spine.with_columns(columns)
    stored = pl.DataFrame([*columns, *(spine[name] for name in composition.request)])
    return spine.hstack(composition.frame(stored))


def _scaled(
    progress: Callable[[str, float], None] | None, place: int, places: int
) -> Callable[[str, float], None]:
    """Tells the share of one of several views as that of all."""

    def tell(what: str, share: float) -> None:
        if progress is not None:
            progress(what, (place + share) / places)

    return tell


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
    tables: Tables,
    program: Program,
    version: int,
    wanted: pl.Expr,
    tombstones: Tombstones | None = None,
) -> pl.DataFrame:
    """Read what a program needs of its raw table, in the order of arrival.

    Args:
        tables: Where the raw table is.
        program: The compiled view.
        version: Version to read.
        wanted: Which records.
        tombstones: Leave out the records that these take away.

    Raises:
        NotFoundError: There is no such version.
    """
    records = scan_records(tables, program, version).filter(wanted)
    if tombstones is not None:
        records = tombstones.kept(records)
    return by_arrival(records.collect())


def scan_records(
    tables: Tables, program: Program, version: int, *, also: Sequence[str] = ()
) -> pl.LazyFrame:
    """All records, in no particular order and not read yet; ``also`` are more columns."""
    source = program.view.source
    columns = [source.entity.name, source.timestamp, *program.columns, *ARRIVAL, *also]
    return raw_records(tables, source, version=version, columns=columns)


@dataclass(frozen=True, kw_only=True)
class _Asked:
    """What is asked of a view.

    Attributes:
        version: Version of the raw table.
        last_batch: Last raw batch to use, for all points or for each; all when None.
        as_known: Only what had arrived.
        memory_bytes: What computing may take.
        parts: What computes the parts; this process, one after the other, when None.
        tell: Told what is done, and the share of the view that is.
    """

    version: int
    last_batch: int | IntArray | None
    as_known: bool
    memory_bytes: int
    parts: Parts | None
    tell: Callable[[str, float], None]

    @property
    def by_point(self) -> bool:
        """Whether each point sees records of its own."""
        return self.as_known or isinstance(self.last_batch, np.ndarray)


def _compute(
    tables: Tables, view: FeatureView, spine: pl.DataFrame, at_us: IntArray, asked: _Asked
) -> tuple[FloatArray, UnknownEntities | None]:
    """Compute a view at a spine, in parts of the entities where all are too many."""
    program = compile_view(view)
    count, columns_at_once = _split(tables, program, asked)
    keys = spine[view.source.entity.name]
    known = keys.unique().drop_nulls().sort()
    codes = codes_of(keys, known)
    wanted = pl.lit(value=True)
    if len(at_us):
        wanted &= _in_reach(program, int(at_us.min()), int(at_us.max()))
    last = None if asked.last_batch is None else int(np.max(asked.last_batch, initial=0))
    if last is not None:
        wanted &= pl.col(ARRIVAL[0]) <= last
    also = (ARRIVED,) if asked.as_known else ()
    batches = asked.last_batch if isinstance(asked.last_batch, np.ndarray) else None
    job = PartJob(
        view=view,
        table=raw_table(view),
        version=asked.version,
        wanted=wanted,
        records=scan_records(tables, program, asked.version, also=also),
        tombstones=read_tombstones(tables, view.source, version=asked.version, last_batch=last),
        as_known=asked.as_known,
        whole=Part(known, codes, at_us, batches),
        count=count,
        columns_at_once=columns_at_once,
    )
    result = np.empty((len(at_us), program.width))
    met = np.zeros(len(known), dtype=np.bool_)
    apart = asked.parts.run(job) if asked.parts and job.count > 1 else _in_turn(program, job)
    for done, (place, found) in enumerate(apart, 1):
        result[job.rows(place)], met[place :: job.count] = found
        if job.count > 1:
            asked.tell(f"features of {view.name}: part {done} of {job.count}", done / job.count)
    return result, unknown_in(view, known, codes, met)


def _in_turn(program: Program, job: PartJob) -> Iterator[tuple[int, PartValues]]:
    """Compute the parts in this process, one after the other."""
    for place in range(job.count):
        yield (
            place,
            compute_part(
                program,
                job.records,
                job.wanted,
                job.part(place),
                job.tombstones,
                as_known=job.as_known,
                at_once=job.columns_at_once,
            ),
        )


def _split(tables: Tables, program: Program, asked: _Asked) -> tuple[int, int]:
    """In how many parts entities are computed, and how many columns of newest values are at once.

    By the size of the whole table. As many parts are computed side by side as have a share of the
    memory. Each of them reads the keys of all, so few columns at once cost less than another part.
    """
    records = tables.scan(raw_table(program.view), version=asked.version, columns=[ARRIVAL[0]])
    size: int = records.select(pl.len()).collect().item()
    share_bytes = max(asked.memory_bytes // (asked.parts.at_once if asked.parts else 1), 1)
    if asked.by_point or not asks_newest(program):
        # Read, as arrays, sorted, and prepared: each column is there about four times at the peak.
        columns = len(ARRIVAL) + 2 + len(program.columns) + len(program.inputs)
        return max(1, -(-size * columns * COLUMN_BYTES // share_bytes)), MOST_COLUMNS
    count = max(1, -(-size * (KEYS_BYTES + FEWEST_COLUMNS * VALUE_BYTES) // share_bytes))
    columns = (share_bytes * count // max(size, 1) - KEYS_BYTES) // VALUE_BYTES
    return count, max(FEWEST_COLUMNS, min(columns, MOST_COLUMNS))


def _in_reach(program: Program, first_us: int, last_us: int) -> pl.Expr:
    """Whether a record can be in a window asked between two times."""
    source = program.view.source
    stamp = pl.col(source.timestamp)
    wanted = stamp <= _instant(last_us - source.known_after_us)
    if program.reach_us:
        wanted &= stamp > _instant(first_us - program.reach_us - source.known_after_us)
    return wanted


def _instant(time_us: int) -> pl.Expr:
    return pl.lit(time_us).cast(pl.Datetime("us", "UTC"))


def spine_times(spine: pl.DataFrame) -> IntArray:
    """The spine's times in microseconds.

    Raises:
        InputError: It has no column ``at``, one without a time zone, or a null in it.
    """
    if AT not in spine.columns:
        raise InputError(
            "The spine has no column 'at' with the time at which each row's features are wanted. "
            f"{nearest(AT, spine.columns)}",
            column=AT,
        )
    dtype = spine.schema[AT]
    if not isinstance(dtype, pl.Datetime):
        raise InputError(
            f"The spine's column 'at' is {dtype}. Make it Datetime('us', 'UTC').", column=AT
        )
    if dtype.time_zone is None:
        raise InputError(
            "The times in the spine's column 'at' have no zone. Say which it is, with "
            ".dt.replace_time_zone('UTC') in Polars or .dt.tz_localize('UTC') in pandas.",
            column=AT,
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
