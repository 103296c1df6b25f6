"""A version as it is served: its engine, and the reader of its features."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from penstock.deployment import check_engine, load_engine, views_of
from penstock.errors import NotReadyError
from penstock.features import OnlineReader
from penstock.registry import get_version, read_manifest

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from penstock.deployment import Engine
    from penstock.ports import Clock, Services
    from penstock.records import Manifest

    Floats = NDArray[np.float64]
    Features = tuple[Floats, NDArray[np.int64], Mapping[str, int]]

__all__ = ["ServedVersion", "load_served"]

WARM_ROWS = 64
WARM_ROUNDS = 5
SLOW_US = 1_000


class ServedVersion:
    """A loaded version. Reading and predicting are safe across threads.

    Args:
        manifest: What it is.
        engine: What predicts.
        reader: Where its features come from; none for a version that is only handed features.
        slow: Whether a batch takes so long that it must not hold up the event loop.

    Attributes:
        manifest: What it is.
        label: ``model@version``.
        engine: What predicts.
        slow: See above.
        classifies: Whether a prediction is the probability of true.
    """

    def __init__(
        self, manifest: Manifest, engine: Engine, reader: OnlineReader | None, *, slow: bool
    ) -> None:
        self.manifest = manifest
        self.label = f"{manifest.model}@{manifest.version}"
        self.engine = engine
        self.slow = slow
        self.classifies = manifest.task == "classification"
        self.features = manifest.features
        self._reader = reader
        self._order: list[int] | None = None
        if reader is not None and tuple(reader.names) != manifest.features:
            place = {name: index for index, name in enumerate(reader.names)}
            self._order = [place[name] for name in manifest.features]

    def read(self, keys: Sequence[str | int], at_us: NDArray[np.int64]) -> Features:
        """Read the features of entities.

        Args:
            keys: Their keys.
            at_us: The time each one's features are wanted at, in microseconds since 1970 UTC.

        Returns:
            ``float64[n, features]`` with NaN for null, the time each row is of, and the number of
            the last raw batch each view contains.

        Raises:
            NotReadyError: The features have not been built.
        """
        if self._reader is None:
            raise NotReadyError(f"{self.label} was loaded without its features.")
        progress = self._reader.progress()
        values, as_of_us = self._reader.read(keys, at_us)
        # When a batch was folded in between, the values may be of either side of it: read again.
        while (after := self._reader.progress()) != progress:
            progress = after
            values, as_of_us = self._reader.read(keys, at_us)
        return (values if self._order is None else values[:, self._order]), as_of_us, progress

    def predict(self, x: Floats) -> Floats:
        """Predict rows; see ``Engine``."""
        return self.engine.predict(x)


def load_served(services: Services, model: str, number: int) -> ServedVersion:
    """Load a version, check that it predicts what it predicted when trained, and warm it.

    Args:
        services: Metadata, artifacts, the online store and the clock.
        model: Name of the model.
        number: The version.

    Raises:
        NotFoundError: There is no such version or package.
        NotReadyError: It has not been packaged.
        StateError: Its files are damaged or predict otherwise.
        NotSupportedError: It needs a library that is not installed.
    """
    record = get_version(services.metadata, model, number)
    if not record.package:
        raise NotReadyError(f"{record.label} has no package. Run 'penstock train {model}'.")
    folder = services.artifacts.path(record.package)
    manifest = read_manifest(folder)
    engine = load_engine(folder, manifest)
    check_engine(engine, folder, manifest)
    reader = OnlineReader(services.online, views_of(manifest))
    slow = batch_time_us(engine, len(manifest.features), services.clock) > SLOW_US
    return ServedVersion(manifest, engine, reader, slow=slow)


def batch_time_us(engine: Engine, width: int, clock: Clock) -> int:
    """Shortest time of a full batch through an engine, in microseconds; warms it on the way.

    The shortest, since whatever else the machine does only adds to it.
    """
    rows = np.zeros((WARM_ROWS, width))
    times: list[int] = []
    for _ in range(WARM_ROUNDS):
        start_us = clock.now_us()
        engine.predict(rows)
        times.append(clock.now_us() - start_us)
    return min(times)
