"""The values of one part of a computation, from the records of its entities."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Literal

import numpy as np
import polars as pl

from penstock.algebra import (
    Events,
    NewestValues,
    asks_newest,
    compute_points,
    compute_points_as_known,
    event_times,
    extract,
)

from .entities import codes_of
from .parts import PartValues
from .threads import side_by_side

if TYPE_CHECKING:
    from penstock.algebra import BoolArray, Each, FloatArray, IntArray, Program, Tombstones

    from .parts import Part

__all__ = ["ARRIVAL", "ARRIVED", "FEWEST_COLUMNS", "MOST_COLUMNS", "by_arrival", "compute_part"]

ARRIVAL = ("_batch", "_row")
ARRIVED = "_arrived_at"
PLACE = "_place"

FEWEST_COLUMNS, MOST_COLUMNS = 2, 12
"""Columns of newest values that are read at once. Each look costs another one at the entities, and
beyond the last nothing is gained."""


def compute_part(  # noqa: PLR0913 - what a computation depends on
    program: Program,
    records: pl.LazyFrame,
    wanted: pl.Expr,
    part: Part,
    tombstones: Tombstones | None,
    *,
    as_known: bool,
    at_once: int = MOST_COLUMNS,
    each: Each = side_by_side,
) -> PartValues:
    """The values at a part's points, and which of its entities have records.

    Args:
        program: The compiled view.
        records: All records of the table, deleted ones too.
        wanted: Which of them.
        part: The part.
        tombstones: The deletions that count, of other entities too; none where there are none.
        as_known: Whether only what had arrived by a point's time counts.
        at_once: Columns of newest values that are read at once.
        each: How chunks of points are computed.

    Raises:
        UserCodeError: A function of the user failed.
    """
    entity = program.view.source.entity.name
    wanted &= pl.col(entity).is_in(part.known.implode())
    by_point = as_known or part.batches is not None
    if not by_point and asks_newest(program):
        return _newest(program, records, wanted, part, tombstones, at_once, each)
    own = records.filter(wanted)
    if tombstones is not None and not by_point:
        own, tombstones = tombstones.kept(own), None
    read = by_arrival(own.collect())
    codes, met = _met(read[entity], part.known)
    events = extract(program, read, codes)
    if not by_point:
        return PartValues(compute_points(program, events, part.codes, part.at_us, each), met)
    return PartValues(_seen_by_point(program, read, events, part, tombstones, each), met)


def _met(keys: pl.Series, known: pl.Series) -> tuple[IntArray, BoolArray]:
    """The entity of each record, and which of the entities have one."""
    codes = codes_of(keys, known)
    met = np.zeros(len(known), dtype=np.bool_)
    met[codes] = True
    return codes, met


def _newest(  # noqa: PLR0913, PLR0917 - what a computation depends on
    program: Program,
    records: pl.LazyFrame,
    wanted: pl.Expr,
    part: Part,
    tombstones: Tombstones | None,
    at_once: int,
    each: Each,
) -> PartValues:
    """The values where only newest ones are wanted: they are read when it is known which count.

    So what is sorted and searched are entities and times, and of the values a few columns are in
    memory at once.
    """
    whole = _are_most_wanted(records, wanted)
    newest, met = _found(program, records, wanted, part, tombstones, each, whole=whole)
    # To look again which are wanted takes as long as to read them, so most are read as all.
    read = records if whole else records.filter(wanted)
    values = np.empty((len(part.codes), program.width), order="F")
    for start in range(0, len(newest.columns), at_once):
        stored = read.select(newest.columns[start : start + at_once]).collect()
        each(partial(newest.fill, values), stored.get_columns())
    return PartValues(values, met)


def _are_most_wanted(records: pl.LazyFrame, wanted: pl.Expr) -> bool:
    """Whether more than half of the records are wanted."""
    of: int = records.select(pl.len()).collect().item()
    found: int = records.filter(wanted).select(pl.len()).collect().item()
    return 2 * found > of


def _found(  # noqa: PLR0913, PLR0917 - what a computation depends on
    program: Program,
    records: pl.LazyFrame,
    wanted: pl.Expr,
    part: Part,
    tombstones: Tombstones | None,
    each: Each,
    *,
    whole: bool,
) -> tuple[NewestValues, BoolArray]:
    """Where the newest values are, among all records or those wanted; and whose there are."""
    keys = _keys(program, records, wanted, tombstones, whole=whole)
    codes, met = _met(keys[program.view.source.entity.name], part.known)
    events = Events(codes=codes, times=event_times(program, keys), values=())
    places = keys[PLACE].to_numpy()
    del keys
    return NewestValues(program, events, places, part.codes, part.at_us, each), met


def _keys(
    program: Program,
    records: pl.LazyFrame,
    wanted: pl.Expr,
    tombstones: Tombstones | None,
    *,
    whole: bool,
) -> pl.DataFrame:
    """Entity and timestamp of the records that count, by arrival, and their place.

    A filter keeps the order of the files, so this is also where the values will be.
    """
    source = program.view.source
    keys = records.select(source.entity.name, source.timestamp, *ARRIVAL)
    if whole:
        found = keys.with_row_index(PLACE).filter(wanted).collect()
    else:
        found = keys.filter(wanted).collect().with_row_index(PLACE)
    if tombstones is not None:
        found = tombstones.kept(found.lazy()).collect()
    return by_arrival(found).drop(ARRIVAL)


def _seen_by_point(  # noqa: PLR0913, PLR0917 - what a computation depends on
    program: Program,
    records: pl.DataFrame,
    events: Events,
    part: Part,
    tombstones: Tombstones | None,
    each: Each,
) -> FloatArray:
    """The values where each point sees records of its own: up to its batch, or as known."""
    _, codes, at_us, batches = part
    if batches is None:
        begins = records[ARRIVED].dt.epoch("us").to_numpy()
    else:
        begins = records[ARRIVAL[0]].to_numpy()
    by: Literal["arrival", "batch"] = "arrival" if batches is None else "batch"
    ends = None if tombstones is None else tombstones.ends(records, by)
    return compute_points_as_known(
        program, events, begins, codes, at_us, batches, each=each, ends=ends
    )


def by_arrival(records: pl.DataFrame) -> pl.DataFrame:
    """Sort records by arrival, unless they are: files are mostly read in that order."""
    batch, row = (records[name].to_numpy() for name in ARRIVAL)
    same = batch[1:] == batch[:-1]
    if ((batch[1:] > batch[:-1]) | (same & (row[1:] > row[:-1]))).all():
        return records
    return records.sort(*ARRIVAL)
