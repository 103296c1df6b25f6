"""Values of many entities at once: states of one kind are reduced as one."""

from __future__ import annotations

import numpy as np
import pytest

from penstock.algebra import Events, ValueReader, as_of, compile_view, fold, read
from penstock.spec import Aggregate, FeatureView
from penstock.testing.strategies import source

HOUR_US = 3_600_000_000
ENTITIES, EVENTS = 24, 4_000
VIEW = FeatureView(
    name="v",
    source=source(),
    features=(
        *(Aggregate(op="sum", column=name, over="1h", hop="5m") for name in ("x", "y", "n")),
        *(Aggregate(op="mean", column=name, over="1h", hop="5m") for name in ("n", "x")),
        *(Aggregate(op="sum", column=name, over="6h", hop="5m") for name in ("n", "y")),
        *(Aggregate(op="max", column=name, over="6h", hop="5m") for name in ("y", "x")),
        Aggregate(op="mean", column="y", over="6h", hop="5m"),
        Aggregate(op="std", column="x", over="6h", hop="5m"),
        Aggregate(op="last", column="y", over="1h", hop="5m"),
        Aggregate(op="count", over="1h", hop="5m"),
        *(Aggregate(op="last", column=name) for name in ("y", "n", "x")),
        *(Aggregate(op="std", column=name) for name in ("x", "n")),
        *(Aggregate(op="mean", column=name) for name in ("n", "y")),
        *(Aggregate(op="min", column=name) for name in ("x", "y")),
        Aggregate(op="count"),
        Aggregate(op="last_k", column="x", k=3),
    ),
)
PROGRAM = compile_view(VIEW)


@pytest.mark.parametrize("even", [True, False], ids=["as many tiles", "unlike numbers of tiles"])
def test_many_are_read_as_each_alone(monkeypatch: pytest.MonkeyPatch, *, even: bool) -> None:
    rng = np.random.default_rng(1)
    times = np.sort(rng.integers(0, 8 * HOUR_US, EVENTS))
    codes = np.arange(EVENTS) % ENTITIES
    if not even:
        codes[rng.random(EVENTS) < 0.8] %= 5
    values = tuple(
        np.where(rng.random(EVENTS) < 0.1, np.nan, rng.normal(size=EVENTS) * 10**place)
        for place in range(len(PROGRAM.inputs))
    )
    events = Events(codes=codes, times=times, values=values)
    stored = fold(PROGRAM, [None] * ENTITIES, events)
    reader = ValueReader(PROGRAM)
    at_us = as_of(stored, rng.integers(7 * HOUR_US, 9 * HOUR_US, ENTITIES))

    found = reader.read(stored, at_us)

    alone = [reader.read_one(value, at) for value, at in zip(stored, at_us.tolist(), strict=True)]
    # A sum of many tiles is added up in another order there.
    np.testing.assert_allclose(found, alone, rtol=1e-9)
    monkeypatch.setattr(read, "STACKED_WORDS", 0)
    np.testing.assert_array_equal(found, reader.read(stored, at_us))
    assert np.unique(found[:, 0]).size > ENTITIES // 3  # the windows hold something
