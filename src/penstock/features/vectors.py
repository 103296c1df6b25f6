"""Feature vectors that are kept ready: all features of an entity, finished, in one value.

A space of vectors belongs to some feature views of one entity. Beside the vectors it has the marks:
the last raw batch of each view that they contain, written with them in one transaction. A reader
asks in one look for a vector, the marks and the progress of the views. Where the marks are the
progress, every vector contains what its views contain: of what came since, there is nothing. A
vector says itself for which times it holds (``algebra.span_of``). In any other case the views are
read as they always are, so nothing depends on vectors being there, whole or new.

    8 bytes   b"PNSV", format as two bytes, two zero bytes
    3 words   time of the newest event; first moment it holds for, first moment it does not
    floats    the features of the views, view by view, NaN for null

All are 8 bytes wide, little-endian. A vector of no bytes stands for none.
"""

from __future__ import annotations

import struct
from hashlib import sha256
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from penstock.algebra import (
    ALWAYS,
    Span,
    ValueReader,
    as_of,
    compile_view,
    may_leave,
    newest_one,
    span_of,
)
from penstock.errors import StateError

from .spaces import space_of
from .sweeping import SWEPT, Swept

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from penstock.algebra import FloatArray
    from penstock.ports import Found, OnlineStore
    from penstock.spec import FeatureView

__all__ = ["HEAD", "MARKS", "NO_VECTOR", "VectorGroup", "VectorReads", "groups_of", "vector_key"]

HEAD = struct.Struct("<4sHHqqq")
MAGIC, FORMAT = b"PNSV", 1
MARKS = b"m"
"""The key of the marks; those of vectors begin with ``PREFIX``."""

PREFIX = b"e"
NO_VECTOR = b""
SPACE = "vectors"


def vector_key(key: bytes) -> bytes:
    """The key of an entity's vector."""
    return PREFIX + key


class VectorGroup:
    """The vectors of some feature views about one entity.

    Args:
        views: The views, in any order.

    Attributes:
        views: The views, in the order of the vectors.
        spaces: The space of each view.
        space: The space of the vectors: another where any view means another.
        may_leave: Whether all that the views have of an entity may leave the store.
        width: Number of features.
        names: Their full names.
        marks: How the marks are packed: the batch of each view, and the first moment at which a
            vector no longer holds.
    """

    def __init__(self, views: Iterable[FeatureView]) -> None:
        by_space = {space_of(view): view for view in views}
        self.spaces = tuple(sorted(by_space))
        self.views = tuple(by_space[space] for space in self.spaces)
        digest = sha256("\n".join(self.spaces).encode()).hexdigest()[:16]
        self.space = f"{SPACE}@{digest}"
        self._programs = [compile_view(view) for view in self.views]
        self._readers = [ValueReader(program) for program in self._programs]
        self.may_leave = all(map(may_leave, self._programs))
        self.width = sum(program.width for program in self._programs)
        self.names = tuple(name for view in self.views for name in view.names)
        self.marks = struct.Struct(f"<{len(self.views) + 1}q")
        self.entity = self.views[0].source.entity

    def asks(self, keys: Sequence[bytes]) -> list[tuple[str, Sequence[bytes]]]:
        """What to look for in the online store, for the vectors of entities."""
        return [(space, [*keys, SWEPT]) for space in self.spaces]

    def vectors(self, found: Sequence[Found], at_us: int) -> list[bytes]:
        """The vectors of entities.

        Args:
            found: What the online store has of what ``asks`` says.
            at_us: The time that they have to hold for, where nothing newer is known of an entity.

        Raises:
            StateError: A value is not one of its view's.
        """
        swept = [Swept.read(one.values[-1]) for one in found]
        stored = [one.values[:-1] for one in found]
        since = [
            max(mark.since_us(value) for mark, value in zip(swept, values, strict=True))
            for values in zip(*stored, strict=True)
        ]
        times = np.maximum(np.array(since, dtype=np.int64), at_us)
        for values in stored:
            times = as_of(values, times)
        parts = [
            reader.read(values, times) for reader, values in zip(self._readers, stored, strict=True)
        ]
        rows = np.concatenate(parts, axis=1).astype("<f8", copy=False)
        entities = zip(*stored, strict=True)
        return [
            self._packed(values, at, row, Span(from_us, ALWAYS.until_us))
            for values, at, row, from_us in zip(entities, times.tolist(), rows, since, strict=True)
        ]

    def _packed(
        self, values: Sequence[bytes | None], as_of_us: int, row: FloatArray, span: Span
    ) -> bytes:
        newest = [newest_one(value) for value in values if value is not None]
        if not newest:
            return NO_VECTOR
        for program, value in zip(self._programs, values, strict=True):
            span = span.within(span_of(program, value, as_of_us))
        return HEAD.pack(MAGIC, FORMAT, 0, max(newest), *span) + row.tobytes()


def groups_of(views: Iterable[FeatureView]) -> list[VectorGroup]:
    """The groups of some feature views: one for each entity."""
    found: dict[str, list[FeatureView]] = {}
    for view in views:
        found.setdefault(view.source.entity.name, []).append(view)
    return [VectorGroup(own) for own in found.values()]


class Ready(NamedTuple):
    """What was ready of some rows.

    Attributes:
        rows: Places of the rows for which all vectors hold, in order.
        as_of_us: The time each of them is exact at.
        values: Their features, float64 of shape (rows, features), in the order of the views.
        progress: Number of the last raw batch they contain, by view name.
    """

    rows: list[int]
    as_of_us: list[int]
    values: FloatArray
    progress: dict[str, int]


class VectorReads:
    """Reads vectors; safe across threads.

    Args:
        online: The online store.
        views: The feature views whose features are wanted, in the order of the values.
        entities: Names of the entities, in the order in which keys come.
    """

    def __init__(
        self, online: OnlineStore, views: Sequence[FeatureView], entities: Sequence[str]
    ) -> None:
        self._online = online
        self._groups = groups_of(views)
        self._entity_of = [entities.index(group.entity.name) for group in self._groups]
        place = {name: at for at, name in enumerate(name for view in views for name in view.names)}
        self._columns = [[place[name] for name in group.names] for group in self._groups]
        self._width = len(place)

    def read(self, keys: Sequence[Sequence[bytes]], at_us: Sequence[int]) -> Ready:
        """What is ready, all as of one moment.

        Args:
            keys: The encoded keys of each entity, one per row.
            at_us: The time asked for, by row.

        Raises:
            StateError: A vector is damaged.
        """
        asks: list[tuple[str, Sequence[bytes]]] = []
        for group, own in zip(self._groups, self._entity_of, strict=True):
            asks.append((group.space, [MARKS, *map(vector_key, keys[own])]))
            asks += [(space, ()) for space in group.spaces]
        found = self._online.look(asks)
        stored: list[Sequence[bytes | None]] = []
        progress: dict[str, int] = {}
        place = 0
        for group in self._groups:
            marks, *values = found[place].values
            views = [one.progress for one in found[place + 1 : place + 1 + len(group.views)]]
            place += 1 + len(group.views)
            if marks is None or list(group.marks.unpack(marks)[:-1]) != views:
                return self._gathered([], [], [], progress)
            progress |= zip([view.name for view in group.views], views, strict=True)  # type: ignore[arg-type]  # they are the marks
            stored.append(values)
        return self._ready(stored, at_us, progress)

    def _ready(
        self,
        stored: Sequence[Sequence[bytes | None]],
        at_us: Sequence[int],
        progress: dict[str, int],
    ) -> Ready:
        rows: list[int] = []
        times: list[int] = []
        bodies: list[list[bytes]] = [[] for _ in self._groups]
        sizes = [HEAD.size + 8 * group.width for group in self._groups]
        for row, vectors in enumerate(zip(*stored, strict=True)):
            if not all(vectors):
                continue
            heads = [_head(vector, size) for vector, size in zip(vectors, sizes, strict=True)]
            as_of_us = max(at_us[row], *(head[0] for head in heads))
            if all(from_us <= as_of_us < until_us for _, from_us, until_us in heads):
                rows.append(row)
                times.append(as_of_us)
                for body, vector in zip(bodies, vectors, strict=True):
                    body.append(vector[HEAD.size :])
        return self._gathered(rows, times, bodies, progress)

    def _gathered(
        self,
        rows: list[int],
        times: list[int],
        bodies: Sequence[Sequence[bytes]],
        progress: dict[str, int],
    ) -> Ready:
        values = np.empty((len(rows), self._width))
        for group, columns, body in zip(self._groups, self._columns, bodies, strict=False):
            own = np.frombuffer(b"".join(body), "<f8").reshape(len(rows), group.width)
            values[:, columns] = own
        return Ready(rows, times, values, progress)


def _head(vector: bytes, size: int) -> tuple[int, int, int]:
    """The newest event of a vector, and from when until when it holds."""
    if len(vector) == size:
        magic, form, _, newest_us, from_us, until_us = HEAD.unpack_from(vector)
        if (magic, form) == (MAGIC, FORMAT):
            return newest_us, from_us, until_us
    raise StateError(
        "A precomputed feature vector is damaged. Run 'penstock features build --again' to have "
        "the vectors written anew.",
        size_bytes=len(vector),
    )
