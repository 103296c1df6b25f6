"""Features by key, from the online store."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from penstock.algebra import ValueReader, as_of, compile_view
from penstock.errors import InputError, NotReadyError
from penstock.spec import DType

from .entities import encode_keys
from .refreshing import built_to, space_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from penstock.algebra import FloatArray, IntArray
    from penstock.ports import OnlineStore
    from penstock.spec import Entity, FeatureView

__all__ = ["OnlineReader"]


class OnlineReader:
    """Reads the features of views by entity key; compiled once, safe across threads.

    Args:
        online: The online store.
        views: The views, at least one, all of one entity.

    Raises:
        InputError: No view is given, or they are not all of one entity.
        DeclarationError: A view cannot be compiled.
    """

    def __init__(self, online: OnlineStore, views: Sequence[FeatureView]) -> None:
        self._online = online
        self._views = tuple(views)
        self._entity = _entity_of(views)
        self._spaces = [space_of(view) for view in views]
        self._readers = [ValueReader(compile_view(view)) for view in views]
        self._names = tuple(name for view in views for name in view.names)

    @property
    def names(self) -> tuple[str, ...]:
        """Full names of the features, in the order of the values."""
        return self._names

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

    def read(self, keys: Sequence[str | int], at_us: int | IntArray) -> tuple[FloatArray, IntArray]:
        """Read the features of entities.

        Args:
            keys: The entities' keys; an unknown one has counts and sums of 0 and nulls.
            at_us: The time asked for, int64 microseconds since 1970 UTC; one for all or one each.

        Returns:
            The values, float64 of shape (keys, features) with NaN for null; and for each key the
            time they are exact at: the one asked for, or that of the entity's newest event where
            that is later. ``point_in_time`` at that time gives the same values.

        Raises:
            NotReadyError: The features of a view have not been built as it is declared now.
            InputError: A key is of another type than the entity's.
            StateError: The online store is damaged.
        """
        encoded = encode_keys(self._entity, keys)
        times = np.full(len(keys), at_us, dtype=np.int64)
        stored: list[list[bytes | None]] = []
        for view, space in zip(self._views, self._spaces, strict=True):
            values = self._online.get(space, encoded)
            if None in values:
                # Nobody knows the entity, or the view is only being built: so look again after.
                if built_to(self._online, space) is None:
                    raise self._not_built(view)
                values = self._online.get(space, encoded)
            times = as_of(values, times)
            stored.append(values)
        parts = [
            reader.read(values, times) for reader, values in zip(self._readers, stored, strict=True)
        ]
        return (parts[0] if len(parts) == 1 else np.concatenate(parts, axis=1)), times

    def knows(self, keys: Sequence[str | int]) -> list[bool]:
        """Whether any record of each entity has been folded into a view.

        Args:
            keys: The entities' keys.

        Raises:
            InputError: A key is of another type than the entity's.
            StateError: The online store is damaged.
        """
        encoded = encode_keys(self._entity, keys)
        found = [self._online.get(space, encoded) for space in self._spaces]
        return [any(value is not None for value in values) for values in zip(*found, strict=True)]

    def read_one(self, key: str | int, at_us: int) -> dict[str, float | int | None]:
        """Read the features of one entity, by name; counts as int, None for null.

        Args:
            key: The entity's key.
            at_us: The time asked for, as in ``read``.

        Raises:
            NotReadyError: The features of a view have not been built as it is declared now.
            InputError: The key is of another type than the entity's.
            StateError: The online store is damaged.
        """
        values, _ = self.read([key], at_us)
        dtypes = {name: dtype for view in self._views for name, dtype in view.dtypes.items()}
        return {
            name: _plain(value, is_whole=dtypes[name] is DType.INT64)
            for name, value in zip(self._names, values[0].tolist(), strict=True)
        }

    def _not_built(self, view: FeatureView) -> NotReadyError:
        others = [space for space in self._online.spaces() if space.startswith(f"{view.name}@")]
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


def _entity_of(views: Sequence[FeatureView]) -> Entity:
    entities: Mapping[str, Entity] = {view.source.entity.name: view.source.entity for view in views}
    if len(entities) != 1:
        raise InputError(
            f"The views are about {len(entities)} entities ({', '.join(sorted(entities))}). "
            "Give at least one view, and only views of one entity.",
            entities=sorted(entities),
        )
    return next(iter(entities.values()))
