"""How long engines take, measured in turn, so that whatever else the machine does meets all."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from .proof import Predictor

__all__ = ["BATCH_ROWS", "time_engines"]

BATCH_ROWS = 64
ROUNDS = 7
MOST_CALLS = 20
ROUND_S = 0.005


def time_engines(engines: Sequence[Predictor], x: NDArray[np.float64], rows: int) -> list[float]:
    """Median time of a call of each engine, in microseconds.

    Other rows each time: a processor learns the way of one row through a tree by heart.

    Args:
        engines: What is timed.
        x: ``float64[n, features]`` of real rows; repeated where there are too few.
        rows: Rows of a call.
    """
    wanted = rows * MOST_CALLS
    many = np.tile(x, (-(-wanted // len(x)), 1))[:wanted]
    batches = [np.ascontiguousarray(many[at : at + rows]) for at in range(0, wanted, rows)]
    calls = [_calls(engine, batches[0]) for engine in engines]
    times = [
        [_time(engine, batches[:most]) for engine, most in zip(engines, calls, strict=True)]
        for _ in range(ROUNDS)
    ]
    return [float(np.median(column)) for column in zip(*times, strict=True)]


def _calls(engine: Predictor, batch: NDArray[np.float64]) -> int:
    """How many calls make a round; the first ones warm it."""
    engine.predict(batch)
    return int(np.clip(ROUND_S * 1e6 / _time(engine, [batch]), 1, MOST_CALLS))


def _time(engine: Predictor, batches: Sequence[NDArray[np.float64]]) -> float:
    start_s = time.perf_counter()
    for batch in batches:
        engine.predict(batch)
    return (time.perf_counter() - start_s) * 1e6 / len(batches)
