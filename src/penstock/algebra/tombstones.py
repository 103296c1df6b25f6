"""Which records a deletion takes away: one law for every reader of raw records.

A deletion is a batch of its own. Its tombstones name an entity, or an entity and the time of an
event. Each takes away the records it names of the batches with smaller numbers, so a record that is
sent again later counts.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

if TYPE_CHECKING:
    from typing import Literal

    from .arrays import IntArray

__all__ = ["FOR_EVER", "Tombstones"]

FOR_EVER = int(np.iinfo(np.int64).max)
"""The end of a record that no deletion names."""

BATCH, ARRIVED = "_batch", "_arrived_at"
ENDS, PLACE, NAMED_AT = "_ends", "_place", "_named_at"


@dataclass(frozen=True)
class Tombstones:
    """The deletions of one source up to some batch.

    Attributes:
        frame: A row each: the key, the timestamp (null for all records of the entity), ``_batch``
            and ``_arrived_at``.
        key: Column of the entity's key.
        timestamp: Column of the event's own time.
    """

    frame: pl.DataFrame
    key: str
    timestamp: str

    def between(self, after: int, last: int) -> Tombstones:
        """Those of the batches after one, up to another."""
        own = (pl.col(BATCH) > after) & (pl.col(BATCH) <= last)
        return Tombstones(self.frame.filter(own), self.key, self.timestamp)

    @property
    def keys(self) -> pl.Series:
        """The entities they name, each once, sorted."""
        return self.frame[self.key].unique().sort()

    def kept(self, records: pl.LazyFrame) -> pl.LazyFrame:
        """The records that none of them takes away.

        Args:
            records: Records with key, timestamp and ``_batch``, and other columns.
        """
        columns = records.collect_schema().names()
        whole, single = self._parted()
        last = pl.col(BATCH).max()
        found = records.join(
            whole.group_by(self.key).agg(last.alias(ENDS)).lazy(), on=self.key, how="left"
        ).join(
            single.group_by(self.key, self.timestamp).agg(last.alias(NAMED_AT)).lazy(),
            on=[self.key, self.timestamp],
            how="left",
        )
        newest = pl.max_horizontal(ENDS, NAMED_AT)
        return found.filter(newest.is_null() | (newest < pl.col(BATCH))).select(columns)

    def hits(self, records: pl.LazyFrame) -> pl.LazyFrame:
        """The records that one of them takes away, each with ``_ends``: the batch that does first.

        Args:
            records: Records with key, timestamp and ``_batch``, and other columns.
        """
        columns = records.collect_schema().names()
        # Before rows are numbered, so that the files need not be read as a whole.
        placed = records.filter(pl.col(self.key).is_in(self.keys.implode())).with_row_index(PLACE)
        return (
            self._pairs(placed)
            .group_by(PLACE)
            .agg(pl.col(columns).first(), pl.col(ENDS).min())
            .drop(PLACE)
        )

    def ends(self, records: pl.DataFrame, by: Literal["batch", "arrival"]) -> IntArray:
        """Until when each record counts.

        Args:
            records: Records with key, timestamp and ``_batch``.
            by: The batch of the first deletion that takes it away, or the time at which the first
                of those arrived.

        Returns:
            int64 of the records' length: numbers of batches, or microseconds since 1970 UTC;
            ``FOR_EVER`` for those that none takes away.
        """
        result = np.full(records.height, FOR_EVER, dtype=np.int64)
        placed = records.lazy().select(self.key, self.timestamp, BATCH).with_row_index(PLACE)
        when = pl.col(ENDS) if by == "batch" else pl.col(NAMED_AT).dt.epoch("us")
        found = self._pairs(placed).group_by(PLACE).agg(when.min()).collect()
        result[found[PLACE].to_numpy()] = found.to_series(1).to_numpy()
        return result

    def _pairs(self, placed: pl.LazyFrame) -> pl.LazyFrame:
        """Each record beside each tombstone that takes it away: ``_ends``, and its arrival."""
        whole, single = self._parted()
        numbered = (pl.col(BATCH).alias(ENDS), pl.col(ARRIVED).alias(NAMED_AT))
        both = [
            placed.join(tombs.lazy(), on=on, how="inner")
            for tombs, on in (
                (whole.select(self.key, *numbered), [self.key]),
                (single.select(self.key, self.timestamp, *numbered), [self.key, self.timestamp]),
            )
        ]
        columns = [*placed.collect_schema().names(), ENDS, NAMED_AT]
        pairs = pl.concat([each.select(columns) for each in both])
        return pairs.filter(pl.col(ENDS) > pl.col(BATCH))

    def _parted(self) -> tuple[pl.DataFrame, pl.DataFrame]:
        """Those of whole entities, and those of single times."""
        is_whole = pl.col(self.timestamp).is_null()
        return self.frame.filter(is_whole), self.frame.filter(~is_whole)
