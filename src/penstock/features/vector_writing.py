"""Vectors kept up to date: with what was folded into the views, and with the clock."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import polars as pl

from penstock.algebra import ALWAYS
from penstock.ingest import read_tombstones

from .entities import encode_keys
from .offline import ARRIVAL, newest_version, raw_table
from .spaces import lock_of
from .sweeping import SWEPT
from .vectors import HEAD, MARKS, PREFIX, VectorGroup, groups_of, vector_key

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from penstock.ports import Locks, OnlineStore, Tables
    from penstock.spec import FeatureView

__all__ = ["VectorResult", "drop_vectors", "refresh_vectors"]

AT_ONCE = 5_000
LONGEST_KEY_BYTES = 500
"""A longer key leaves no room for what leads it in a store; its entity has no vector."""


@dataclass(frozen=True, kw_only=True)
class VectorResult:
    """What was done for the vectors of some views.

    Attributes:
        space: The space of the online store that holds them.
        views: Names of the views.
        written: Vectors written, because of new batches or since they no longer held.
        from_zero: Whether all were written, of every entity.
    """

    space: str
    views: tuple[str, ...]
    written: int
    from_zero: bool


def refresh_vectors(
    tables: Tables,
    online: OnlineStore,
    locks: Locks,
    views: Iterable[FeatureView],
    now_us: int,
) -> list[VectorResult]:
    """Write the vectors of entities that batches have touched, and those that no longer hold.

    The marks, which say up to which batches the vectors are whole, are written last: a run that is
    killed leaves vectors that nobody takes, and the next one writes them again. Views that are not
    built, or that lie in partitions, have no vectors.

    Args:
        tables: Where the raw tables are: they tell which entities a batch has touched.
        online: The online store.
        locks: One run at a time holds the lock of the space of the vectors.
        views: The feature views; those of one entity together make its vectors.
        now_us: The time from which the vectors have to hold.

    Returns:
        What was done for each entity; those of which there are no vectors are left out.

    Raises:
        UnavailableError: Another process has been writing them for too long.
        ConflictError: Another process has taken them over.
        StateError: The online store is damaged.
    """
    found: list[VectorResult] = []
    for group in groups_of(views):
        with locks.hold(lock_of(group.space, 0)) as token:
            result = _Work(tables, online, group, token, now_us).run()
        if result is not None:
            found.append(result)
    return found


def drop_vectors(online: OnlineStore, locks: Locks, views: Iterable[FeatureView]) -> None:
    """Remove the vectors of some views, before a view is built from nothing.

    Args:
        online: The online store.
        locks: Holds the lock of the space of the vectors.
        views: The feature views.

    Raises:
        UnavailableError: Another process has been writing them for too long.
    """
    for group in groups_of(views):
        with locks.hold(lock_of(group.space, 0)) as token:
            online.claim(group.space, token)
            online.drop(group.space, token=token)


class _Work:
    """A run over the vectors of one entity."""

    def __init__(
        self, tables: Tables, online: OnlineStore, group: VectorGroup, token: int, now_us: int
    ) -> None:
        self._tables = tables
        self._online = online
        self._group = group
        self._token = token
        self._now_us = now_us
        self._number = 0
        self._ends_us = ALWAYS.until_us  # the first moment at which a vector no longer holds
        self._written = 0

    def run(self) -> VectorResult | None:
        group = self._group
        self._number = self._online.claim(group.space, self._token) or 0
        own, *views = self._online.look(
            [(group.space, [MARKS]), *((space, ()) for space in group.spaces)]
        )
        target = [one.progress for one in views if one.progress is not None and one.progress >= 0]
        if len(target) < len(views):
            return None
        marks = None if own.values[0] is None else group.marks.unpack(own.values[0])
        from_zero = marks is None or any(
            done > reached for done, reached in zip(marks, target, strict=False)
        )
        if marks is None or from_zero:
            self._online.claim(group.space, self._token, anew=True)
            self._number = 0
            self._write(self._everybody())
        else:
            self._ends_us = marks[-1]
            touched = self._touched(marks[:-1], target)
            if self._now_us >= self._ends_us:
                touched |= self._ended()
            self._write(touched)
        packed = group.marks.pack(*target, self._ends_us)
        if own.values[0] != packed:
            self._store({MARKS: packed})
        names = tuple(view.name for view in group.views)
        return VectorResult(
            space=group.space, views=names, written=self._written, from_zero=from_zero
        )

    def _everybody(self) -> set[bytes]:
        spaces = self._group.spaces
        return {key for space in spaces for key, _ in self._online.items(space)} - {SWEPT}

    def _touched(self, done: Sequence[int], target: Sequence[int]) -> set[bytes]:
        """The entities that batches after those done name, in records or in deletions."""
        gaps = {
            (view.source.name, after, last): view
            for view, after, last in zip(self._group.views, done, target, strict=True)
            if after < last
        }
        keys: set[bytes] = set()
        for (_, after, last), view in gaps.items():
            keys.update(encode_keys(self._group.entity, self._named(view, after, last)))
        return keys

    def _named(self, view: FeatureView, after: int, last: int) -> list[str | int]:
        key, version = self._group.entity.name, newest_version(self._tables, view)
        batch = pl.col(ARRIVAL[0])
        records = self._tables.scan(raw_table(view), version=version, columns=[key, ARRIVAL[0]])
        new = records.filter((batch > after) & (batch <= last)).select(pl.col(key).unique())
        named = new.collect()[key].to_list()
        deleted = read_tombstones(self._tables, view.source, version=version)
        return named if deleted is None else named + deleted.between(after, last).keys.to_list()

    def _ended(self) -> set[bytes]:
        """The entities whose vectors no longer hold; sets when the first of the others will.

        Those too that have left the views: what their vectors say holds for ever, and takes room.
        """
        ended: set[bytes] = set()
        at_rest: list[bytes] = []
        self._ends_us = ALWAYS.until_us
        for key, vector in self._online.items(self._group.space):
            if key == MARKS or len(vector) < HEAD.size:
                continue
            until_us: int = HEAD.unpack_from(vector)[-1]
            if until_us <= self._now_us:
                ended.add(key[len(PREFIX) :])
            elif until_us < ALWAYS.until_us:
                self._ends_us = min(self._ends_us, until_us)
            elif self._group.may_leave:
                at_rest.append(key[len(PREFIX) :])
        for start in range(0, len(at_rest), AT_ONCE):
            ended |= self._left(at_rest[start : start + AT_ONCE])
        return ended

    def _left(self, keys: Sequence[bytes]) -> set[bytes]:
        """The entities among some of which no view has anything."""
        found = self._online.look([(space, keys) for space in self._group.spaces])
        entities = zip(keys, *(one.values for one in found), strict=True)
        return {key for key, *values in entities if not any(values)}

    def _write(self, keys: set[bytes]) -> None:
        short = sorted(key for key in keys if len(key) <= LONGEST_KEY_BYTES)
        for start in range(0, len(short), AT_ONCE):
            chunk = short[start : start + AT_ONCE]
            found = self._online.look(self._group.asks(chunk))
            vectors = self._group.vectors(found, self._now_us)
            for vector in vectors:
                if vector:
                    self._ends_us = min(self._ends_us, HEAD.unpack_from(vector)[-1])
            named = zip(map(vector_key, chunk), vectors, strict=True)
            self._store({key: vector or None for key, vector in named})
            self._written += len(chunk)

    def _store(self, values: dict[bytes, bytes | None]) -> None:
        self._number += 1
        self._online.write(self._group.space, values, progress=self._number, token=self._token)
