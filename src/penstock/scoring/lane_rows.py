"""The features of a batch of rows, and what a version predicts from them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from penstock.errors import OverloadedError, UnavailableError, UnknownEntityError
from penstock.features import past_error

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from penstock.algebra import GraphRun
    from penstock.errors import InputError
    from penstock.ports import Clock
    from penstock.records import Given

    from .ask import Ask
    from .served import ServedVersion

    Floats = NDArray[np.float64]

__all__ = ["Rows", "StoreAway", "unknown_error"]

FROM_TABLES = "a job does that, 'POST /v1/deployments/{name}/jobs' of 'penstock api'"


class StoreAway(Exception):  # noqa: N818 - no error of the version's: who asks waits for it
    """The features of a batch cannot be read now.

    Args:
        error: What the store said.

    Attributes:
        error: See above.
    """

    def __init__(self, error: UnavailableError) -> None:
        super().__init__(str(error))
        self.error = error


class Rows:
    """The features of a batch, and what was predicted from them.

    Args:
        asks: The rows, at least one.
        version: What predicts.
        now_us: The time, in microseconds since 1970 UTC.
        clock: Tells the time where somebody wants to know when features had been looked up.
        refuses_unknown: Whether to refuse rows of whose entities nothing is online.

    Attributes:
        at_us: The time that each row's features are of.
        engine: What predicted, by its name.
        features: Each row's features as they are logged: null for NaN.
        looked_us: When those that were to be looked up had been; 0 where nobody wants to know.
        parts: What the steps of a graph gave for each row; only where there is a ``run``.
        predictions: A number for each row.
        refused: Why rows have no prediction, by their place: they ask for a time before what is
            known of their entity, or nothing is known of it and such are refused.
        run: What a graph did; none for what is no graph.
        seen: For each row, the last raw batch that its features contain, by view.
        start_us: See ``now_us``.
        took_us: How long all of it took; whoever measures it says so.
        x: The features as the version took them.

    Raises:
        StoreAway: The features cannot be read now.
        Exception: Whatever the version or its reader raises.
    """

    __slots__ = (
        "at_us", "engine", "features", "looked_us", "parts", "predictions", "refused",
        "run", "seen", "start_us", "took_us", "x",
    )  # fmt: skip

    def __init__(
        self,
        asks: Sequence[Ask],
        version: ServedVersion,
        now_us: int,
        clock: Clock | None,
        *,
        refuses_unknown: bool = False,
    ) -> None:
        self.seen: list[Mapping[str, int]] = [{}] * len(asks)
        self.start_us = now_us
        self.took_us = self.looked_us = 0
        self.at_us: list[int] = [ask.at_us or now_us for ask in asks]
        self.features = [ask.values for ask in asks]
        self.refused: dict[int, InputError] = {}
        strangers = False
        if None in self.features:
            unknown = self._look_up(asks, version)
            for place in unknown:
                asks[place].unknown = True
                if refuses_unknown and place not in self.refused:
                    ask = asks[place]
                    self.refused[place] = unknown_error(version, ask.key, ask.given)
            strangers = refuses_unknown and len(unknown) == len(asks)
            if clock is not None:
                self.looked_us = clock.now_us()
        else:
            self.x = np.array(self.features, dtype=np.float64)
        self.engine = version.engine.name_of(len(asks))
        self.run: GraphRun | None = None
        if strangers:
            # The version is not asked: to fail at what is refused would be held against it.
            self.predictions = np.full(len(asks), np.nan)
        elif version.graph is None:
            self.predictions = version.predict(self.x)
        else:
            self.run = version.graph.run(self.x)
            self.predictions = self.run.predictions
            self.parts = self.run.parts(version.graph.output)
        if len(self.predictions) != len(asks):
            raise ValueError(f"{len(self.predictions)} predictions for {len(asks)} rows")

    def _look_up(self, asks: Sequence[Ask], version: ServedVersion) -> list[int]:
        """Read the features of those that name an entity.

        Returns:
            The places of the rows of whose entities nothing is online.
        """
        self.x = np.empty((len(asks), len(version.features)))
        keys: list[str | int] = []
        places: list[int] = []
        for place, ask in enumerate(asks):
            if ask.values is not None:
                self.x[place] = ask.values
            elif ask.key is not None:
                keys.append(ask.key)
                places.append(place)
        times = np.array([self.at_us[place] for place in places], dtype=np.int64)
        given = [asks[place].given for place in places]
        try:
            values, as_of_us, seen, unknown = version.read(keys, times, given)
        except OverloadedError:
            raise
        except UnavailableError as error:
            raise StoreAway(error) from error
        self.x[places] = values
        told = zip(places, _with_nulls(values), as_of_us.tolist(), seen, strict=True)
        for place, features, as_of, progress in told:
            self.features[place] = features
            self.at_us[place] = as_of
            if 0 != asks[place].at_us < as_of:
                self.refused[place] = past_error(asks[place].at_us, as_of, FROM_TABLES)
            self.seen[place] = progress
        return [places[number] for number in unknown]


def _with_nulls(x: Floats) -> list[tuple[float | None, ...]]:
    """Rows as they are logged: null for NaN."""
    null = np.isnan(x)
    if not null.any():
        return [tuple(row) for row in x.tolist()]
    rows = x.astype(object)
    rows[null] = None
    return [tuple(row) for row in rows.tolist()]


def unknown_error(
    version: ServedVersion, key: str | int | None, given: Mapping[str, Given]
) -> UnknownEntityError:
    """The error of a row of whose entities nothing is online, where such are refused.

    Args:
        version: What reads.
        key: The key of the row.
        given: What else it says: keys of further entities and request fields.
    """
    keys = {name: given.get(name, key) for name in version.manifest.keys}
    named = " and ".join(f"{name} {value!r}" for name, value in keys.items())
    return UnknownEntityError(
        f"The online store has nothing of {named} in any view that {version.label} reads, and the "
        "deployment refuses such rows. Name an entity that stored records tell of, ingest the "
        "records of this one, or send its features.",
        entity=keys,
        version=version.label,
    )
