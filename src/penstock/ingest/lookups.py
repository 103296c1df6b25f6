"""Records completed from other sources, when they are taken in.

What a record finds is stored with it and never looked up again: training, the stream and a replay
read the one value that was known when it arrived. So the result has to be the same when a killed
ingestion is finished: the batch's record says up to which batch each of the other sources was read,
and whoever finishes it reads up to there, whatever has arrived or was deleted since.

The first time, only the records of the batch's keys are read, and for features only those of times
that they can reach. From the second on all are kept, in order, and later batches only add theirs to
them; where that would be too many, each time anew.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import polars as pl

from penstock.algebra import NEVER_US, compile_view, find_features, find_newest
from penstock.records import LookedUp

from .columns import POLARS_TYPES
from .kept import KeptRecords, keyed_records
from .tombstones import raw_name

if TYPE_CHECKING:
    from collections.abc import Mapping

    from penstock.algebra import BoolArray, IntArray, Keyed, Program
    from penstock.ports import Tables
    from penstock.spec import Lookup, Source

__all__ = ["Completed", "Lookups"]


class Completed(NamedTuple):
    """Records with what they found.

    Attributes:
        records: The records with a column for each that was looked up.
        lookups: What is remembered of it.
    """

    records: pl.DataFrame
    lookups: tuple[LookedUp, ...]


class Lookups:
    """Finds what records are completed with. Not safe across threads.

    Args:
        tables: Where the raw tables are.
    """

    def __init__(self, tables: Tables) -> None:
        self._tables = tables
        self._seen: set[tuple[str, ...]] = set()
        self._kept: dict[tuple[str, ...], KeptRecords] = {}

    def complete(
        self, source: Source, records: pl.DataFrame, *, upto: Mapping[str, int]
    ) -> Completed:
        """Find what records are completed with.

        Args:
            source: Their source.
            records: Its columns, and others.
            upto: The last batch to look into, by source; the newest of one that is not named.
        """
        if not source.lookups:
            return Completed(records, ())
        at_us = records[source.timestamp].dt.epoch("us").to_numpy() + source.known_after_us
        programs = {place: _program(lookup) for place, lookup in enumerate(source.lookups)}
        wanted = _wanted(source, programs)
        reached = dict(upto)
        told: list[LookedUp] = []
        for place, lookup in enumerate(source.lookups):
            other = lookup.into.name
            if other not in reached:
                name = raw_name(lookup.into)
                reached[other] = self._tables.applied(name, name)
            keys = records[lookup.on]
            program, columns = programs[place], wanted[other]
            if program is None:
                parts = self._parts(lookup.into, columns, keys, reached[other])
                new, any_found = _newest(lookup, parts, keys, at_us)
            else:
                span_us = _reached(program, at_us)
                parts = self._parts(lookup.into, columns, keys, reached[other], span_us)
                new, any_found = _features(lookup, program, parts, keys, at_us)
            records = records.with_columns(new)
            told.append(
                LookedUp(
                    source=other,
                    on=lookup.on,
                    last_batch=reached[other],
                    missing=int(np.count_nonzero(~any_found)),
                    view=lookup.view.name if lookup.view else "",
                )
            )
        self._seen |= {(other, *columns) for other, columns in wanted.items()}
        return Completed(records, tuple(told))

    def _parts(
        self,
        other: Source,
        columns: tuple[str, ...],
        keys: pl.Series,
        last: int,
        span_us: tuple[int, int] | None = None,
    ) -> tuple[Keyed, ...]:
        """The records that count up to a batch, of those keys and known in that span at least."""
        place = (other.name, *columns)
        if place in self._seen:
            if place not in self._kept:
                self._kept[place] = KeptRecords(self._tables, other, columns)
            parts = self._kept[place].parts(last)
            if parts is not None:
                return parts
        return (keyed_records(self._tables, other, columns, last=last, keys=keys, span_us=span_us),)


def _program(lookup: Lookup) -> Program | None:
    """What computes the features that are looked up; none where columns are."""
    if lookup.view is None:
        return None
    return compile_view(lookup.view.with_only(lookup.columns.values()))


def _wanted(source: Source, programs: Mapping[int, Program | None]) -> dict[str, tuple[str, ...]]:
    """The columns that are read of each source that is looked into."""
    found: dict[str, set[str]] = {}
    for place, lookup in enumerate(source.lookups):
        program = programs[place]
        read = lookup.columns.values() if program is None else program.columns
        found.setdefault(lookup.into.name, set()).update(read)
    return {other: tuple(sorted(columns)) for other, columns in found.items()}


def _reached(program: Program, at_us: IntArray) -> tuple[int, int]:
    """Between what times records count that features look at; after the first, up to the last."""
    if not len(at_us):
        return NEVER_US, NEVER_US
    first_us = int(at_us.min()) - program.reach_us if program.reach_us else NEVER_US
    return first_us, int(at_us.max())


def _newest(
    lookup: Lookup, parts: tuple[Keyed, ...], keys: pl.Series, at_us: IntArray
) -> tuple[list[pl.Series], BoolArray]:
    """The columns of the newest record of each key, and whether there was one."""
    found = find_newest(parts, keys, at_us, lookup.within_us)
    new = [found.column(column).alias(name) for name, column in lookup.columns.items()]
    return new, found.places >= 0


def _features(
    lookup: Lookup, program: Program, parts: tuple[Keyed, ...], keys: pl.Series, at_us: IntArray
) -> tuple[list[pl.Series], BoolArray]:
    """The features of each key, and whether there was a record that they could look at."""
    values, any_found = find_features(program, parts, keys, at_us)
    head = f"{program.view.name}."
    places = {name.removeprefix(head): place for place, name in enumerate(program.view.names)}
    new = [
        pl.Series(name, values[:, places[column]], nan_to_null=True).cast(
            POLARS_TYPES[lookup.offered[column]]
        )
        for name, column in lookup.columns.items()
    ]
    return new, any_found
