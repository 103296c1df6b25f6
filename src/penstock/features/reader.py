"""Features by key, from the online store."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from penstock.algebra import ValueReader, as_of, compile_view, may_have_left, newest_one
from penstock.errors import InputError, NotReadyError, nearest
from penstock.spec import DType

from .composition import Composition
from .entities import encode_keys
from .partitioned_reads import PartitionedReads
from .partitions import part_of
from .spaces import built_to, space_of
from .vector_reads import VectorReads

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import TypeAlias

    from penstock.algebra import FloatArray, IntArray
    from penstock.ports import OnlineStore
    from penstock.spec import FeatureView, View

    from .partitioned_reads import Mark, Stored

    Keys: TypeAlias = Sequence[str | int] | Mapping[str, Sequence[str | int]]
    Request: TypeAlias = Mapping[str, Sequence[object]]

__all__ = ["OnlineReader", "Reading", "row_count"]


class Reading(NamedTuple):
    """What was read of some entities.

    Attributes:
        values: float64 of shape (keys, features), NaN for null.
        as_of_us: int64 of shape (keys,): the time each is exact at, in microseconds since 1970 UTC.
        unknown: Places of the keys of which no view knows anything, in order.
        progress: Number of the last raw batch that the values of all keys contain, by view name.
        by_row: The same for each key, where keys are of partitions that contain different batches;
            empty where ``progress`` holds for all.
    """

    values: FloatArray
    as_of_us: IntArray
    unknown: list[int]
    progress: Mapping[str, int]
    by_row: Sequence[Mapping[str, int]] = ()

    @property
    def seen(self) -> Sequence[Mapping[str, int]]:
        """Number of the last raw batch that each key's values contain, by view name."""
        return self.by_row or [self.progress] * len(self.as_of_us)


class OnlineReader:
    """Reads the features of views by entity key; compiled once, safe across threads.

    Args:
        online: The online store.
        views: The views, at least one.
        vectors: Whether to take precomputed vectors where there are any that hold; the values are
            the same.

    Attributes:
        names: Full names of the features, in the order of the values.
        dtypes: Type of each feature by its full name.
        entities: What the features are about, each once; most often one.
        request: The request fields that on-demand views take, and their types.
        takes_vectors: Whether it takes precomputed vectors.

    Raises:
        InputError: No view is given, or they cannot be read together.
        DeclarationError: A view cannot be compiled.
    """

    def __init__(
        self, online: OnlineStore, views: Sequence[View], *, vectors: bool = False
    ) -> None:
        self._online = online
        self._composition = Composition(views)
        self._views = self._composition.base
        self._spaces = [space_of(view) for view in self._views]
        programs = [compile_view(view) for view in self._views]
        self._readers = [ValueReader(program) for program in programs]
        self.names = self._composition.names
        self.dtypes = self._composition.dtypes
        self.entities = self._composition.entities
        self.request = self._composition.request
        leaving = [may_have_left(program) for program in programs]
        self._partitioned = PartitionedReads(online, self._spaces, leaving)
        names = [entity.name for entity in self.entities]
        self._entity_of = [names.index(view.source.entity.name) for view in self._views]
        self.takes_vectors = vectors
        self._vectors = (
            VectorReads(online, self._views, names, self._partitioned)
            if vectors and self._views
            else None
        )

    def progress(self) -> dict[str, int]:
        """Number of the last raw batch in the online store, by view name.

        Raises:
            NotReadyError: The features of a view have not been built as it is declared now.
        """
        found: dict[str, int] = {}
        for view, space in zip(self._views, self._spaces, strict=True):
            number = built_to(self._online, space)
            if number is None:
                raise self._not_built(view)
            found[view.name] = number
        return found

    def read(
        self, keys: Keys, at_us: int | IntArray, request: Request | None = None
    ) -> tuple[FloatArray, IntArray]:
        """Read the features of entities.

        Args:
            keys: The entities' keys; where the features are about several entities, the keys of
                each by its name, one per row. An unknown one has counts and sums of 0 and nulls.
            at_us: The time asked for, int64 microseconds since 1970 UTC; one for all or one each.
            request: The values of each request field, one per row; None for null.

        Returns:
            The values, float64 of shape (keys, features) with NaN for null; and for each key the
            time they are exact at: the one asked for, or that of the entity's newest event where
            that is later, or the horizon of a view that has nothing of it, or had nothing of some
            entity when a record came for it that was older than the horizon. ``point_in_time`` at
            that time gives the same values.

        Raises:
            NotReadyError: The features of a view have not been built as it is declared now.
            InputError: A key or a request field is missing, or of another type than declared.
            StateError: The online store is damaged.
            UserCodeError: A function of the user failed.
        """
        found = self.read_settled(keys, at_us, request)
        return found.values, found.as_of_us

    def read_settled(
        self, keys: Keys, at_us: int | IntArray, request: Request | None = None
    ) -> Reading:
        """Read the features of entities, all from one state of the store, and say which.

        The values of all views, and how far each has come, are as of one moment.

        Args:
            keys: The entities' keys, as in ``read``.
            at_us: The time asked for, as in ``read``.
            request: The request fields, as in ``read``.

        Raises:
            NotReadyError: The features of a view have not been built as it is declared now.
            InputError: A key or a request field is missing, or of another type than declared.
            StateError: The online store is damaged.
            UserCodeError: A function of the user failed.
        """
        encoded = self._encoded(keys)
        rows = len(encoded[0]) if encoded else row_count(keys, request or {})
        if self._vectors is None:
            found = self._by_views(encoded, rows, at_us)
        else:
            found = self._by_vectors(self._vectors, encoded, np.full(rows, at_us, dtype=np.int64))
        if self._composition.is_plain:
            return found
        return found._replace(values=self._composition.values(found.values, request or {}))

    def _by_vectors(
        self, vectors: VectorReads, encoded: Sequence[Sequence[bytes]], at_us: IntArray
    ) -> Reading:
        """What is stored at the rows' times, from vectors where they hold, else from the views."""
        ready = vectors.read(encoded, at_us.tolist())
        if not ready.rows:
            return self._by_views(encoded, len(at_us), at_us)
        if len(ready.rows) == len(at_us):
            return Reading(ready.values, np.array(ready.as_of_us), [], *_settled(ready.seen))
        rest = sorted(set(range(len(at_us))) - set(ready.rows))
        read = self._by_views([[own[n] for n in rest] for own in encoded], len(rest), at_us[rest])
        values, times = np.empty((len(at_us), ready.values.shape[1])), at_us.copy()
        values[ready.rows], values[rest] = ready.values, read.values
        times[ready.rows], times[rest] = ready.as_of_us, read.as_of_us
        unknown = [rest[place] for place in read.unknown]
        # A batch may have been folded in between the two looks.
        seen = dict(zip(ready.rows, ready.seen, strict=True))
        seen |= zip(rest, read.seen, strict=True)
        return Reading(values, times, unknown, *_settled([seen[n] for n in range(len(seen))]))

    def _by_views(
        self, encoded: Sequence[Sequence[bytes]], rows: int, at_us: int | IntArray
    ) -> Reading:
        """What is stored at the rows' times."""
        found = self._stored(encoded)
        marks = {view.name: one.mark for view, one in zip(self._views, found, strict=True)}
        stored = [one.values for one in found]
        if rows == 1:
            at = at_us.item() if isinstance(at_us, np.ndarray) else at_us
            since_us = [int(one.since_us) for one in found]
            return self._one_row(stored, max([int(at), *since_us]), marks)
        times = np.full(rows, at_us, dtype=np.int64)
        for one in found:
            times = as_of(one.values, np.maximum(times, one.since_us))
        parts = [
            reader.read(values, times) for reader, values in zip(self._readers, stored, strict=True)
        ]
        if len(parts) != 1:
            parts = [np.concatenate([np.empty((rows, 0)), *parts], axis=1)]
        return Reading(parts[0], times, _unknown(stored), *_progress(marks))

    def _one_row(
        self, found: Sequence[Sequence[bytes | None]], at_us: int, marks: Mapping[str, Mark]
    ) -> Reading:
        """The same for one row, where arrays cost more than they save."""
        stored = [value for (value,) in found]
        known = [value for value in stored if value is not None]
        at_us = max([at_us, *map(newest_one, known)])
        row: list[float] = []
        for reader, value in zip(self._readers, stored, strict=True):
            row += reader.read_one(value, at_us)
        unknown = [] if known or not stored else [0]
        return Reading(np.array([row]), np.array([at_us]), unknown, _progress(marks)[0])

    def _stored(self, encoded: Sequence[Sequence[bytes]]) -> list[Stored]:
        """What the store has of each view.

        Raises:
            NotReadyError: The features of a view have not been built as it is declared now.
        """
        found = self._partitioned.read([encoded[own] for own in self._entity_of])
        for view, one in zip(self._views, found, strict=True):
            if one.mark is None:
                raise self._not_built(view)
        return found

    def knows(self, keys: Keys) -> list[bool]:
        """Whether a view has anything of each row's entities; what has left it is not known.

        Args:
            keys: The entities' keys, as in ``read``.

        Raises:
            InputError: A key is missing, or of another type than the entity's.
            StateError: The online store is damaged.
        """
        encoded = self._encoded(keys)
        found = self._partitioned.read([encoded[own] for own in self._entity_of])
        if not found:
            return [False] * row_count(keys)
        stored = zip(*(one.values for one in found), strict=True)
        return [any(value is not None for value in values) for values in stored]

    def read_one(
        self,
        key: str | int | Mapping[str, str | int],
        at_us: int,
        request: Mapping[str, object] | None = None,
    ) -> dict[str, float | int | None]:
        """Read the features of one row, by name; counts as int, None for null.

        Args:
            key: The entity's key; of several entities, the key of each by its name.
            at_us: The time asked for, as in ``read``.
            request: The value of each request field.

        Raises:
            NotReadyError: The features of a view have not been built as it is declared now.
            InputError: A key or a request field is missing, or of another type than declared.
            StateError: The online store is damaged.
            UserCodeError: A function of the user failed.
        """
        keys: Keys = (
            {name: [one] for name, one in key.items()} if isinstance(key, Mapping) else [key]
        )
        given = {name: [value] for name, value in (request or {}).items()}
        values, _ = self.read(keys, at_us, given)
        return {
            name: _plain(value, is_whole=self.dtypes[name] is DType.INT64)
            for name, value in zip(self.names, values[0].tolist(), strict=True)
        }

    @property
    def views(self) -> tuple[FeatureView, ...]:
        """What it reads."""
        return self._views

    def _encoded(self, keys: Keys) -> list[list[bytes]]:
        """The keys of each entity as the online store knows them, as many of each.

        Raises:
            InputError: See ``read``.
        """
        entities = self.entities
        if len(entities) == 1 and not isinstance(keys, Mapping):
            return [encode_keys(entities[0], keys)]
        names = [entity.name for entity in entities]
        if not entities:
            return []
        if not isinstance(keys, Mapping):
            raise InputError(
                f"The features are about {' and '.join(names)}. Give the keys of each by its name.",
                entities=names,
            )
        missing = [name for name in names if name not in keys]
        if missing:
            raise InputError(
                f"The key of {missing[0]!r} is missing. {nearest(missing[0], keys)} "
                f"Give the keys of {' and '.join(names)}.",
                entities=names,
            )
        encoded = [encode_keys(entity, keys[entity.name]) for entity in entities]
        if len({len(one) for one in encoded}) > 1:
            raise InputError(
                f"There are unlike numbers of keys of {' and '.join(names)}. "
                "Give one of each for every row.",
                entities=names,
            )
        return encoded

    def _not_built(self, view: FeatureView) -> NotReadyError:
        found = {part_of(name).space for name in self._online.spaces()} - {space_of(view)}
        others = [space for space in found if space.startswith(f"{view.name}@")]
        why = "were built for another version of its declaration" if others else "are not built yet"
        return NotReadyError(
            f"The online features of view {view.name!r} {why}. "
            f"Run 'penstock features build {view.name}'.",
            view=view.name,
            space=space_of(view),
        )


def _plain(value: float, *, is_whole: bool) -> float | int | None:
    if np.isnan(value):
        return None
    return int(value) if is_whole else value


def _progress(
    marks: Mapping[str, Mark],
) -> tuple[dict[str, int], Sequence[Mapping[str, int]]]:
    """The batches that all rows contain, and those of each row where they differ."""
    whole: dict[str, int] = {}
    differing: dict[str, list[int]] = {}
    for name, mark in marks.items():
        if isinstance(mark, np.ndarray):
            whole[name] = int(mark.min())
            if (mark != mark[0]).any():
                differing[name] = mark.tolist()
        else:
            whole[name] = mark or 0
    if not differing:
        return whole, ()
    rows = zip(*differing.values(), strict=True)
    return whole, [whole | dict(zip(differing, row, strict=True)) for row in rows]


def _settled(
    seen: Sequence[Mapping[str, int]],
) -> tuple[Mapping[str, int], Sequence[Mapping[str, int]]]:
    """The batches that all rows contain, and those of each row where they differ."""
    first = seen[0]
    if all(one is first or one == first for one in seen):
        return first, ()
    return {name: min(one[name] for one in seen) for name in first}, seen


def _unknown(stored: Sequence[Sequence[bytes | None]]) -> list[int]:
    """The places at which every view has nothing."""
    if not stored or not all(None in values for values in stored):
        return []
    rows = enumerate(zip(*stored, strict=True))
    return [place for place, values in rows if all(value is None for value in values)]


def row_count(keys: Keys, request: Request = {}) -> int:  # noqa: B006 - never written
    """How many rows are asked: as many as keys, or request fields where nothing has a key."""
    if not isinstance(keys, Mapping):
        return len(keys)
    return len(next(iter((keys or request).values()), ()))
