"""A version as it is served: its engine, and the reader of its features."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import msgspec
import numpy as np

from penstock.deployment import ENGINE_FILES, GraphEngine, check_engine, load_engine
from penstock.errors import NotReadyError
from penstock.features import OnlineReader, view_ages
from penstock.registry import NATIVE_FILES, get_version, read_manifest, views_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from penstock.deployment import Engine
    from penstock.features import ViewAge
    from penstock.ports import Clock, OnlineStore, Services
    from penstock.records import Given, Manifest
    from penstock.spec import FeatureView

    from .explain_steps import StepExplainer

    Floats = NDArray[np.float64]
    Keys = Sequence[str | int] | Mapping[str, Sequence[str | int]]
    Features = tuple[Floats, NDArray[np.int64], Sequence[Mapping[str, int]], list[int]]
    Ages = dict[tuple[str, str], tuple[ViewAge, ...]]

__all__ = ["ServedVersion", "load_served"]

WARM_ROWS = 64
WARM_ROUNDS = 5
SLOW_US = 1_000
NEVER_STALE_US = 1 << 62
OVERHEAD_BYTES = 400 << 10
"""What a version takes however small it is: its session, its reader, its schema, its counters."""
FACTOR = 5
"""Memory for each byte of a model's files: nodes and weights are unpacked, and indexed."""
APART_BYTES = 96 << 20
"""What a process of its own takes, with numpy and little else."""


class ServedVersion:
    """A loaded version. Reading and predicting are safe across threads.

    Args:
        manifest: What it is.
        engine: What predicts.
        reader: Where its features come from; none for a version that is only handed features.
        slow: Whether a batch takes so long that it must not hold up the event loop.
        row_us: What a batch of one row takes, in microseconds; 0 where that is not known.

    Attributes:
        manifest: What it is.
        label: ``model@version``.
        engine: What predicts.
        graph: The same, where it is a graph.
        slow: See above.
        row_us: See above.
        apart: Whether a process of its own predicts, which may hang at any time.
        classifies: Whether a prediction is the probability of true.
        ages: How old the views it reads are, as ``look_at_ages`` saw it last.
        size_bytes: About how much memory it takes.
        load_us: How long it took to load, check and warm it, in microseconds.
        fresh_until_us: Until when none of them is older than allowed.
        features: Full names of its features, in order.
        explainers: What explains steps of a graph exactly, by name, as far as anybody asked; none
            for a step of which there is no such form.
        takes: What a request says: entities and request fields, to their types.
    """

    def __init__(
        self,
        manifest: Manifest,
        engine: Engine,
        reader: OnlineReader | None,
        *,
        slow: bool,
        row_us: int = 0,
    ) -> None:
        self.manifest = manifest
        self.label = f"{manifest.model}@{manifest.version}"
        self.engine = engine
        self.slow = slow
        self.row_us = row_us
        self.graph = engine if isinstance(engine, GraphEngine) else None
        self.apart = _is_apart(manifest, engine)
        self.explainers: dict[str, StepExplainer | None] = {}
        self.load_us = 0
        self.size_bytes = 0
        self.classifies = manifest.task == "classification"
        self.features = manifest.features
        self.ages: tuple[ViewAge, ...] = ()
        self.fresh_until_us = NEVER_STALE_US
        self.takes = {**manifest.keys, **manifest.request}
        self._reader = reader
        self._order: list[int] | None = None
        if reader is not None and tuple(reader.names) != manifest.features:
            place = {name: index for index, name in enumerate(reader.names)}
            self._order = [place[name] for name in manifest.features]

    def read(
        self,
        keys: Sequence[str | int],
        at_us: NDArray[np.int64],
        given: Sequence[Mapping[str, Given]] = (),
    ) -> Features:
        """Read the features of entities.

        Args:
            keys: Their keys.
            at_us: The time each one's features are wanted at, in microseconds since 1970 UTC.
            given: For each, what its request says beside the key; left out where the version takes
                nothing else.

        Returns:
            ``float64[n, features]`` with NaN for null, the time each row is of, for each row the
            number of the last raw batch that its values contain, by view, and the places of those
            whose entities no view knows anything of.

        Raises:
            NotReadyError: The features have not been built.
        """
        if self._reader is None:
            raise NotReadyError(f"{self.label} was loaded without its features.")
        asked, request = self._asked(keys, given)
        found = self._reader.read_settled(asked, at_us, request)
        values = found.values if self._order is None else found.values[:, self._order]
        return values, found.as_of_us, found.seen, found.unknown

    def look_at_ages(
        self, services: Services, declared: Mapping[str, FeatureView], seen: Ages
    ) -> None:
        """See how old what it reads is, so that no request has to.

        Args:
            services: The ports; uses metadata and the online store.
            declared: The views that are applied now, by name: their freshness counts.
            seen: What was found of views just now, by name and meaning; added to.
        """
        if self._reader is None:
            return
        ages: list[ViewAge] = []
        for view in self._reader.views:
            key = view.name, self.manifest.views.get(view.name, self.label)
            if key not in seen:
                seen[key] = view_ages(services.metadata, services.online, [view])
            ages += seen[key]
        now = [declared.get(view.name, view).freshness_us for view in self._reader.views]
        allowed = dict(zip([view.name for view in self._reader.views], now, strict=True))
        self.ages = tuple(
            msgspec.structs.replace(age, allowed_us=allowed[age.view]) for age in ages
        )
        ends = [age.fresh_until_us for age in self.ages if age.fresh_until_us is not None]
        self.fresh_until_us = min(ends, default=NEVER_STALE_US)

    def take_vectors(self, online: OnlineStore, *, wanted: bool) -> None:
        """Read precomputed vectors from now on where there are any, or no longer.

        Args:
            online: The online store.
            wanted: Whether a deployment asks for them.
        """
        if self._reader is not None and self._reader.takes_vectors != wanted:
            self._reader = OnlineReader(online, views_of(self.manifest), vectors=wanted)

    def _asked(
        self, keys: Sequence[str | int], given: Sequence[Mapping[str, Given]]
    ) -> tuple[Keys, Mapping[str, Sequence[Given]]]:
        """The keys and the request fields as the reader takes them, column by column."""
        manifest = self.manifest
        if not manifest.given and not any(given):
            return keys, {}
        rows = [{manifest.entity: key, **row} for key, row in zip(keys, given, strict=True)]
        columns = {name: [row.get(name) for row in rows] for name in self.takes}
        request = {name: columns.pop(name) for name in manifest.request}
        return cast("Keys", columns), request

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
    clock = services.clock
    began_us = clock.now_us()
    record = get_version(services.metadata, model, number)
    if not record.package:
        raise NotReadyError(f"{record.label} has no package. Run 'penstock train {model}'.")
    folder = services.artifacts.path(record.package)
    manifest = read_manifest(folder)
    engine = load_engine(folder, manifest)
    check_engine(engine, folder, manifest)
    reader = OnlineReader(services.online, views_of(manifest))
    width = len(manifest.features)
    slow = _is_apart(manifest, engine) or _time_us(engine, WARM_ROWS, width, clock) > SLOW_US
    row_us = _time_us(engine, 1, width, clock)
    served = ServedVersion(manifest, engine, reader, slow=slow, row_us=row_us)
    served.size_bytes = _size_bytes(folder, manifest)
    served.load_us = clock.now_us() - began_us
    return served


def _size_bytes(folder: Path, manifest: Manifest) -> int:
    """About how much memory a version takes, from the files that were loaded.

    What a library really takes cannot be told apart from what others take in the same process at
    the same time, and small models are below what the system counts in; files can be compared.
    """
    if manifest.native == "custom":
        return APART_BYTES
    engine = manifest.engine
    names = {engine.engine, engine.batch_engine} if engine else {"native"}
    files = [file for name, file in ENGINE_FILES.items() if name in names]
    whole = "native" in names or manifest.native == "graph"  # whose engines are in the same file
    files += [NATIVE_FILES[manifest.native]] if whole else []
    sizes: list[int] = [(folder / file).stat().st_size for file in files]
    return OVERHEAD_BYTES + FACTOR * sum(sizes)


def _is_apart(manifest: Manifest, engine: Engine) -> bool:
    """Whether a process of its own predicts, for the whole or for a step."""
    return manifest.native == "custom" or (isinstance(engine, GraphEngine) and engine.apart)


def _time_us(engine: Engine, rows: int, width: int, clock: Clock) -> int:
    """Shortest time of a batch through an engine, in microseconds; warms it on the way.

    The shortest, since whatever else the machine does only adds to it.
    """
    batch = np.zeros((rows, width))
    times: list[int] = []
    for _ in range(WARM_ROUNDS):
        start_us = clock.now_us()
        engine.predict(batch)
        times.append(clock.now_us() - start_us)
    return min(times)
