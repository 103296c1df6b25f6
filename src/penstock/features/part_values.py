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

__all__ = ["ARRIVAL", "ARRIVED", "by_arrival", "compute_part"]

ARRIVAL = ("_batch", "_row")
ARRIVED = "_arrived_at"
PLACE = "_place"

AT_ONCE = 12
"""Columns of values that are read at once."""


def compute_part(  # noqa: PLR0913 - what a computation depends on
    program: Program,
    records: pl.LazyFrame,
    part: Part,
    tombstones: Tombstones | None,
    *,
    as_known: bool,
    each: Each = side_by_side,
) -> PartValues:
    """The values at a part's points, and which of its entities have records.

    Args:
        program: The compiled view.
        records: The records that are wanted, of this part's entities and others, deleted ones too.
        part: The part.
        tombstones: The deletions that count, of other entities too; none where there are none.
        as_known: Whether only what had arrived by a point's time counts.
        each: How chunks of points are computed.

    Raises:
        UserCodeError: A function of the user failed.
    """
    entity = program.view.source.entity.name
    own = records.filter(pl.col(entity).is_in(part.known.implode()))
    by_point = as_known or part.batches is not None
    if not by_point and asks_newest(program):
        return _newest(program, own, part, tombstones, each)
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


def _newest(
    program: Program,
    own: pl.LazyFrame,
    part: Part,
    tombstones: Tombstones | None,
    each: Each,
) -> PartValues:
    """The values where only newest ones are wanted: they are read when it is known which count.

    So what is sorted and searched are entities and times, and of the values a few columns are in
    memory at once.
    """
    keys = _keys(program, own, tombstones)
    codes, met = _met(keys[program.view.source.entity.name], part.known)
    events = Events(codes=codes, times=event_times(program, keys), values=())
    places = keys[PLACE].to_numpy()
    del keys
    newest = NewestValues(program, events, places, part.codes, part.at_us, each)
    values = np.empty((len(part.codes), program.width), order="F")
    for start in range(0, len(newest.columns), AT_ONCE):
        stored = own.select(newest.columns[start : start + AT_ONCE]).collect()
        each(partial(newest.fill, values), stored.get_columns())
    return PartValues(values, met)


def _keys(program: Program, own: pl.LazyFrame, tombstones: Tombstones | None) -> pl.DataFrame:
    """Entity and timestamp of the records that count, by arrival, and their place among all."""
    source = program.view.source
    keys = own.select(source.entity.name, source.timestamp, *ARRIVAL).collect()
    # A filter keeps the order of the files, so this is also where the values will be.
    keys = keys.with_row_index(PLACE)
    if tombstones is not None:
        keys = tombstones.kept(keys.lazy()).collect()
    return by_arrival(keys).drop(ARRIVAL)


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
