"""Records completed with columns of other sources, when they are taken in.

What a record finds is stored with it and never looked up again: training, the stream and a replay
read the one value that was known when it arrived. So the result has to be the same when a killed
ingestion is finished: the batch's record says up to which batch each of the other sources was read,
and whoever finishes it reads up to there, whatever has arrived or was deleted since.

The first time, only the records of the batch's keys are read. From the second on all are kept, in
order, and later batches only add theirs to them; where that would be too many, each time anew.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from penstock.algebra import find_newest
from penstock.records import LookedUp

from .kept import KeptRecords, keyed_records
from .tombstones import raw_name

if TYPE_CHECKING:
    from collections.abc import Mapping

    import polars as pl

    from penstock.algebra import Keyed
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
        reached = dict(upto)
        told: list[LookedUp] = []
        for lookup in source.lookups:
            other = lookup.source.name
            if other not in reached:
                name = raw_name(lookup.source)
                reached[other] = self._tables.applied(name, name)
            keys = records[lookup.on]
            parts = self._parts(lookup, _wanted_of(source, other), keys, reached[other])
            found = find_newest(parts, keys, at_us, lookup.within_us)
            records = records.with_columns(
                found.column(column).alias(name) for name, column in lookup.columns.items()
            )
            missing = int(np.count_nonzero(found.places < 0))
            told.append(
                LookedUp(source=other, on=lookup.on, last_batch=reached[other], missing=missing)
            )
        self._seen |= {(other, *_wanted_of(source, other)) for other in reached}
        return Completed(records, tuple(told))

    def _parts(
        self, lookup: Lookup, columns: tuple[str, ...], keys: pl.Series, last: int
    ) -> tuple[Keyed, ...]:
        """The records that count up to a batch, of those keys at least."""
        other = lookup.source
        place = (other.name, *columns)
        if place in self._seen:
            if place not in self._kept:
                self._kept[place] = KeptRecords(self._tables, other, columns)
            parts = self._kept[place].parts(last)
            if parts is not None:
                return parts
        return (keyed_records(self._tables, other, columns, last=last, keys=keys),)


def _wanted_of(source: Source, other: str) -> tuple[str, ...]:
    """The columns that a source's records are completed with from another."""
    own = (lookup for lookup in source.lookups if lookup.source.name == other)
    return tuple(sorted({column for lookup in own for column in lookup.columns.values()}))
