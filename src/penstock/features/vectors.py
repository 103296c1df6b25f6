"""Feature vectors that are kept ready: all features of an entity, finished, in one value.

A space of vectors belongs to a partition of some feature views of one entity: the views' partition
2 of 4 has the vectors' partition 2 of 4, since an entity is in the same one of each. Views that lie
in unlike numbers of partitions, which they do while that number changes, have none.

Beside the vectors a space has the marks: the last raw batch that they contain of each view in that
partition. A reader asks in one look for a vector, the marks and the progress of the partitions.
Where the marks are the progress, every vector contains what its views contain: of what came since,
there is nothing. A vector says itself for which times it holds (``algebra.span_of``), and none is
kept of an entity that may leave its views. In any other case the views are read as they always are,
so nothing depends on vectors being there, whole or new.

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
    may_have_left,
    newest_of,
    newest_one,
    past_from,
    span_of,
)
from penstock.errors import StateError

from .partitions import partition_spaces
from .spaces import space_of
from .sweeping import SWEPT, Swept

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from penstock.algebra import FloatArray, IntArray
    from penstock.ports import Found
    from penstock.spec import FeatureView

__all__ = [
    "HEAD",
    "MARKS",
    "NO_VECTOR",
    "PREFIX",
    "VectorGroup",
    "VectorPart",
    "groups_of",
    "head_of",
    "vector_key",
]

HEAD = struct.Struct("<4sHHqqq")
MAGIC, FORMAT = b"PNSV", 2
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
        space: What the spaces of the vectors are named after: another where any view means another,
            or a vector does.
        width: Number of features.
        names: Their full names.
        view_names: Names of the views.
        marks: How the marks are packed: the batch of each view, and the first moment at which a
            vector no longer holds.
    """

    def __init__(self, views: Iterable[FeatureView]) -> None:
        by_space = {space_of(view): view for view in views}
        self.spaces = tuple(sorted(by_space))
        self.views = tuple(by_space[space] for space in self.spaces)
        digest = sha256("\n".join([str(FORMAT), *self.spaces]).encode()).hexdigest()[:16]
        self.space = f"{SPACE}@{digest}"
        self._programs = [compile_view(view) for view in self.views]
        self._readers = [ValueReader(program) for program in self._programs]
        self._leaving = [*map(may_have_left, self._programs)]
        self._parts: dict[int, list[VectorPart]] = {}
        self.width = sum(program.width for program in self._programs)
        self.view_names = tuple(view.name for view in self.views)
        self.names = tuple(name for view in self.views for name in view.names)
        self.marks = struct.Struct(f"<{len(self.views) + 1}q")
        self.entity = self.views[0].source.entity

    def parts(self, count: int) -> list[VectorPart]:
        """The vectors' partitions where each view has so many."""
        if count not in self._parts:
            own = partition_spaces(self.space, count)
            views = zip(*(partition_spaces(space, count) for space in self.spaces), strict=True)
            self._parts[count] = [VectorPart(*one) for one in zip(own, views, strict=True)]
        return self._parts[count]

    def vectors(self, found: Sequence[Found], at_us: int) -> list[bytes]:
        """The vectors of entities.

        Args:
            found: What the online store has of what ``VectorPart.asks`` says.
            at_us: The time that they have to hold for, where nothing newer is known of an entity.

        Returns:
            The vectors; ``NO_VECTOR`` of an entity that is not known, or may not be any longer.

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
        known = np.max(
            [self._known_until(place, values) for place, values in enumerate(stored)], axis=0
        )
        now_us = max(at_us, *(mark.horizon_us for mark in swept))
        return [
            self._packed(values, at, row, Span(from_us, until_us))
            if until_us > now_us
            else NO_VECTOR
            for values, at, row, from_us, until_us in zip(
                zip(*stored, strict=True), times.tolist(), rows, since, known.tolist(), strict=True
            )
        ]

    def _known_until(self, place: int, values: Sequence[bytes | None]) -> IntArray:
        """The first horizon at which a view may have nothing of each entity any more."""
        program, is_there = self._programs[place], np.array([value is not None for value in values])
        if not self._leaving[place]:
            return np.where(is_there, ALWAYS.until_us, ALWAYS.from_us)
        newest = newest_of([value for value in values if value is not None])
        found = np.full(len(values), ALWAYS.from_us, dtype=np.int64)
        found[is_there] = past_from(program, newest)
        return found

    def _packed(
        self, values: Sequence[bytes | None], as_of_us: int, row: FloatArray, span: Span
    ) -> bytes:
        for program, value in zip(self._programs, values, strict=True):
            span = span.within(span_of(program, value, as_of_us))
        newest_us = max(newest_one(value) for value in values if value is not None)
        return HEAD.pack(MAGIC, FORMAT, 0, newest_us, *span) + row.tobytes()


class VectorPart(NamedTuple):
    """A partition of vectors.

    Attributes:
        space: Its space.
        spaces: The space of the same partition of each view.
    """

    space: str
    spaces: tuple[str, ...]

    def asks(self, keys: Sequence[bytes]) -> list[tuple[str, Sequence[bytes]]]:
        """What to look for in the online store, for the vectors of entities."""
        return [(space, [*keys, SWEPT]) for space in self.spaces]


def groups_of(views: Iterable[FeatureView]) -> list[VectorGroup]:
    """The groups of some feature views: one for each entity."""
    found: dict[str, list[FeatureView]] = {}
    for view in views:
        found.setdefault(view.source.entity.name, []).append(view)
    return [VectorGroup(own) for own in found.values()]


def head_of(vector: bytes, size: int) -> tuple[int, int, int]:
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
