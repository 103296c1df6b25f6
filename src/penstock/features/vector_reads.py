"""Reading vectors that are kept ready, where they hold."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from .partitions import partition_of, partitions_of
from .vectors import HEAD, MARKS, groups_of, head_of, vector_key

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import TypeAlias

    from penstock.algebra import FloatArray
    from penstock.ports import Found, OnlineStore
    from penstock.spec import FeatureView

    from .partitioned_reads import PartitionedReads
    from .vectors import VectorGroup

    Ask: TypeAlias = tuple[str, Sequence[bytes]]

__all__ = ["Ready", "VectorReads"]


class Ready(NamedTuple):
    """What was ready of some rows.

    Attributes:
        rows: Places of the rows for which all vectors hold, in order.
        as_of_us: The time each of them is exact at.
        values: Their features, float64 of shape (rows, features), in the order of the views.
        seen: Number of the last raw batch that each of them contains, by view name.
    """

    rows: list[int]
    as_of_us: list[int]
    values: FloatArray
    seen: Sequence[Mapping[str, int]]


class VectorReads:
    """Reads vectors; safe across threads.

    It looks for them where the views are read: both go by what was last seen of how many partitions
    there are, so that no row goes back to what a partition held that is read no more.

    Args:
        online: The online store.
        views: The feature views whose features are wanted, in the order of the values.
        entities: Names of the entities, in the order in which keys come.
        partitioned: Reads the views, in their order.
    """

    def __init__(
        self,
        online: OnlineStore,
        views: Sequence[FeatureView],
        entities: Sequence[str],
        partitioned: PartitionedReads,
    ) -> None:
        self._online = online
        self._partitioned = partitioned
        self._groups = groups_of(views)
        self._entity_of = [entities.index(group.entity.name) for group in self._groups]
        self._views_of = [[views.index(view) for view in group.views] for group in self._groups]
        place = {name: at for at, name in enumerate(name for view in views for name in view.names)}
        self._columns = [[place[name] for name in group.names] for group in self._groups]
        self._width = len(place)
        self._lie: tuple[Sequence[int], list[int]] = (), []

    def read(self, keys: Sequence[Sequence[bytes]], at_us: Sequence[int]) -> Ready:
        """What is ready, all as of one moment.

        Args:
            keys: The encoded keys of each entity, one per row.
            at_us: The time asked for, by row.

        Raises:
            StateError: A vector is damaged.
        """
        plans = [
            _Plan(group, count, keys[entity])
            for group, count, entity in zip(
                self._groups, self._counts(), self._entity_of, strict=True
            )
        ]
        found = iter(self._online.look([ask for plan in plans for ask in plan.asks]))
        stored = [plan.gather([next(found) for _ in plan.asks]) for plan in plans]
        rows: list[int] = []
        times: list[int] = []
        bodies: list[list[bytes]] = [[] for _ in self._groups]
        sizes = [HEAD.size + 8 * group.width for group in self._groups]
        for row, vectors in enumerate(zip(*stored, strict=True)):
            if not all(vectors):
                continue
            heads = [head_of(vector, size) for vector, size in zip(vectors, sizes, strict=True)]
            as_of_us = max(at_us[row], *(head[0] for head in heads))
            if all(from_us <= as_of_us < until_us for _, from_us, until_us in heads):
                rows.append(row)
                times.append(as_of_us)
                for body, vector in zip(bodies, vectors, strict=True):
                    body.append(vector[HEAD.size :])
        values = np.empty((len(rows), self._width))
        for group, columns, body in zip(self._groups, self._columns, bodies, strict=True):
            own = np.frombuffer(b"".join(body), "<f8").reshape(len(rows), group.width)
            values[:, columns] = own
        return Ready(rows, times, values, _seen(plans, rows))

    def _counts(self) -> list[int]:
        """How many partitions all views of each group have; 0 where they have unlike numbers."""
        counts = self._partitioned.counts()
        seen, found = self._lie
        if seen is not counts:
            alike = [{counts[view] for view in own} for own in self._views_of]
            found = [own.pop() if len(own) == 1 else 0 for own in alike]
            self._lie = counts, found
        return found


class _Plan:
    """What to ask the store for the vectors of one entity's views, and what to make of it.

    Attributes:
        asks: What to look for.
        slots: The partition of each row; none where all are in one.
        progress: Number of the last raw batch of each view, by partition, where vectors have it.
    """

    __slots__ = ("_group", "_places", "_rows", "asks", "progress", "slots")

    def __init__(self, group: VectorGroup, count: int, keys: Sequence[bytes]) -> None:
        self._group = group
        self._rows = len(keys)
        self.asks: list[Ask] = []
        self.slots: list[int] = []
        self.progress: dict[int, dict[str, int]] = {}
        self._places: dict[int, Sequence[int]] = {}
        if count == 1 or (count and len(keys) == 1):
            self._places = {partition_of(keys[0], count) if count > 1 else 0: range(len(keys))}
        elif count:
            self.slots = partitions_of(keys, count).tolist()
            places: dict[int, list[int]] = {}
            for row, slot in enumerate(self.slots):
                places.setdefault(slot, []).append(row)
            self._places = {**places}
        parts = group.parts(count) if count else ()
        for slot, own in self._places.items():
            space, spaces = parts[slot]
            self.asks.append((space, [MARKS, *[vector_key(keys[row]) for row in own]]))
            self.asks += [(one, ()) for one in spaces]

    def gather(self, found: Sequence[Found]) -> Sequence[bytes | None]:
        """The vector of each row, where it contains what its views contain."""
        vectors: list[bytes | None] = [None] * self._rows
        size = 1 + len(self._group.views)
        for turn, (slot, places) in enumerate(self._places.items()):
            own, *views = found[turn * size : (turn + 1) * size]
            marks, *values = own.values
            reached = [one.progress for one in views]
            if marks is None or list(self._group.marks.unpack(marks)[:-1]) != reached:
                continue
            names = self._group.view_names
            self.progress[slot] = dict(zip(names, reached, strict=True))  # type: ignore[arg-type]  # they are the marks
            if len(values) == self._rows:
                return values
            for place, value in zip(places, values, strict=True):
                vectors[place] = value
        return vectors

    def progress_of(self, row: int) -> Mapping[str, int]:
        """Number of the last raw batch of each view that a row's vector contains."""
        if self.slots:
            return self.progress[self.slots[row]]
        (only,) = self.progress.values()
        return only


def _seen(plans: Sequence[_Plan], rows: Sequence[int]) -> Sequence[Mapping[str, int]]:
    """Number of the last raw batch that each row contains, by view name."""
    if not rows or not any(plan.slots for plan in plans):
        own = [plan.progress_of(row) for plan in plans for row in rows[:1]]
        whole = own[0] if len(own) == 1 else {name: one[name] for one in own for name in one}
        return [whole] * len(rows)
    found: dict[tuple[int, ...], Mapping[str, int]] = {}
    seen: list[Mapping[str, int]] = []
    for row in rows:
        slots = tuple([plan.slots[row] if plan.slots else 0 for plan in plans])
        if slots not in found:
            own = [plan.progress_of(row) for plan in plans]
            found[slots] = {name: one[name] for one in own for name in one}
        seen.append(found[slots])
    return seen
