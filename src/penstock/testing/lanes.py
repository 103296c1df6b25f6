"""Lanes without models: what tests of batching, routing and fallbacks begin with."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, cast

import msgspec
import numpy as np

import penstock as ps
from penstock.adapters.system import SystemClock, UlidIds
from penstock.deployment import Engine
from penstock.features import Reading
from penstock.records import Score
from penstock.scoring import Ask, Counters, Endpoint, Lane, ScoreLog, ServedVersion, Writer
from penstock.spec import Trainer

from .manifests import manifest_of

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from penstock.features import OnlineReader
    from penstock.spec import Deployment, Fallback, Route

    Floats = NDArray[np.float64]


__all__ = [
    "FixedReader",
    "Giving",
    "LaneWorld",
    "Summing",
    "Tenfold",
    "ask_of",
    "declare",
    "endpoint_of",
]

UNLUCKY = 13


class Summing(Engine):
    """Predicts the sum of a row; refuses rows that contain 13, and is held up where asked to be.

    Attributes:
        batches: Sizes of the batches it was asked for.
        threads: The threads it was asked from.
        gate: Cleared, it waits until it is set again.
    """

    name = "native"

    def __init__(self) -> None:
        self.batches: list[int] = []
        self.threads: set[str] = set()
        self.gate = threading.Event()
        self.gate.set()

    def predict(self, x: Floats) -> Floats:
        """The sums; see the class."""
        self.batches.append(len(x))
        self.threads.add(threading.current_thread().name)
        self.gate.wait(5)
        if (x == UNLUCKY).any():
            raise ValueError("13 is not lucky")
        return np.asarray(x.sum(axis=1))


class Giving(Engine):
    """Predicts these, again and again.

    Args:
        predictions: See above.
    """

    name = "native"

    def __init__(self, *predictions: float) -> None:
        self._predictions = np.array(predictions)

    def predict(self, x: Floats) -> Floats:
        """So many of them as there are rows."""
        return np.resize(self._predictions, len(x))


class Tenfold(Summing):
    """Predicts ten times the sum, and takes 13 like any other number."""

    def predict(self, x: Floats) -> Floats:
        """The sums times ten."""
        self.batches.append(len(x))
        return np.asarray(10 * x.sum(axis=1))


class FixedReader:
    """Stands for an online store: the features of a key are its length and 0.5.

    Attributes:
        newest_us: Of the newest record of every key.
        stranger: The key of which it knows nothing: all its features are 0.
    """

    names = ("v.a", "v.b")
    newest_us = 1_001
    stranger = "stranger"

    def read_settled(
        self, keys: Sequence[str | int], at_us: NDArray[np.int64], _request: object
    ) -> Reading:
        """The length of each key and 0.5, always of the same batch."""
        unknown = [place for place, key in enumerate(keys) if key == self.stranger]
        values = np.array([[len(str(key)), 0.5] for key in keys], dtype=float)
        values[unknown] = 0.0, 0.0
        return Reading(values, np.maximum(at_us, self.newest_us), unknown, {"v": 7})


class LaneWorld:
    """Makes versions without models and reads what was logged.

    Args:
        folder: Where scores are logged.

    Attributes:
        folder: Where scores are logged.
        writer: Of the deployment ``btc``.
    """

    def __init__(self, folder: Path) -> None:
        clock = SystemClock()
        self.folder = folder
        self.writer = Writer("btc", ScoreLog(folder, UlidIds(clock)), UlidIds(clock), clock)

    def version(
        self,
        number: int,
        engine: Engine | None = None,
        *,
        slow: bool = False,
        row_us: int = 0,
        features: tuple[str, ...] = ("v.a", "v.b"),
    ) -> ServedVersion:
        """A version of a regression.

        Args:
            number: Its number.
            engine: What predicts; ``Summing`` when left out.
            slow: Whether it computes in a thread.
            row_us: What a batch of one row is said to take, in microseconds.
            features: Names of its features.
        """
        manifest = manifest_of(*features, version=number)
        known = set(features) <= set(FixedReader.names)
        reader = cast("OnlineReader", FixedReader()) if known else None
        return ServedVersion(manifest, engine or Summing(), reader, slow=slow, row_us=row_us)

    def classifier(self, number: int, engine: Engine | None = None) -> ServedVersion:
        """A version of a classification.

        Args:
            number: Its number.
            engine: What predicts; ``Summing`` when left out.
        """
        manifest = manifest_of(*FixedReader.names, version=number, task="classification")
        reader = cast("OnlineReader", FixedReader())
        return ServedVersion(manifest, engine or Summing(), reader, slow=False)

    def logged(self) -> list[Score]:
        """Every score on disk, in the order written."""
        data = b"".join(path.read_bytes() for path in sorted(self.folder.glob("*.jsonl")))
        return msgspec.json.Decoder(Score).decode_lines(data)


def declare(*routes: Route, fallback: Fallback | None = None) -> Deployment:
    """The deployment ``btc`` of a model with the feature ``v.last_x``.

    Args:
        routes: Its routes beside the champion.
        fallback: What falls back.
    """
    source = ps.Source(
        "s",
        entity=ps.Entity("k"),
        timestamp="t",
        schema={"k": ps.String, "t": ps.Timestamp, "x": ps.Float64},
    )
    view = ps.FeatureView("v", source=source, features=[ps.last("x")])
    label = ps.Label("y", ps.col("x") * 2)
    dataset = ps.Dataset("d", spine=source, features=[view], label=label)
    trainer = Trainer(kind="sklearn", estimator="a:B")
    objective = ps.minimise("rmse")
    model = ps.Model("m", dataset=dataset, candidates=[trainer], select=objective)
    return ps.Deployment("btc", model=model, routes=[ps.champion(), *routes], fallback=fallback)


def endpoint_of(world: LaneWorld, declared: Deployment, **versions: ServedVersion) -> Endpoint:
    """An endpoint that has answered nothing yet.

    Args:
        world: Where scores are logged.
        declared: The deployment.
        versions: By the role in which each answers.
    """
    lanes = {
        role: Lane("fallback" if role == "previous" else role, version, world.writer)
        for role, version in versions.items()
    }
    return Endpoint(declared, lanes, world.writer, Counters(), {})


def ask_of(world: LaneWorld, *values: float, key: str | None = None) -> Ask:
    """A row that arrives now: with features, or with a key to look them up."""
    return Ask(world.writer.clock.now_us(), values=values or None, key=key)
