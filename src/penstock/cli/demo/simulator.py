"""A seeded simulator of hourly candles whose market changes once, and is predictable a little.

For each symbol, independently, with ``e`` and ``u`` standard normal:

- volatility: ``log v[t] = 0.97 log v[t-1] + 0.08 u[t]`` around 1, so it wanders within days;
- return of an hour: ``r[t] = p r[t-1] + s v[t] e[t]``, where ``p`` and ``s`` are the regime's;
- close = open * exp(r); the next hour opens there;
- high and low lie beyond open and close by half-normal steps of ``0.4 s v``;
- volume grows with the size of the return and with the regime's ``volume``.

Before the change (``CALM``) an hour takes back a part of the one before (``p`` < 0); after it
(``BROKEN``) an hour goes on like the one before (``p`` > 0), volatility is three times as great and
so is the volume. A model of the calm market is therefore wrong in the broken one, more often than
by chance, and its inputs drift; both can be seen, and a model that has seen both can tell them
apart by their volatility.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

import msgspec
import numpy as np
import polars as pl

if TYPE_CHECKING:
    import numpy.typing as npt

__all__ = ["BROKEN", "CALM", "SYMBOLS", "Regime", "simulate"]

SYMBOLS = ("AURA", "BIRCH", "CEDAR", "DUNE", "EMBER", "FJORD")
START = datetime(2023, 1, 1, tzinfo=UTC)
HOUR_US = 3_600_000_000
VOLATILITY_MEMORY, VOLATILITY_STEP = 0.97, 0.08
WICK = 0.4
SEED = 20_260_101

Floats = "npt.NDArray[np.float64]"


class Regime(msgspec.Struct, frozen=True, kw_only=True):
    """How the market behaves for a while.

    Attributes:
        persistence: Share of an hour's return that comes again in the next; negative takes back.
        volatility: Standard deviation of an hour's return.
        volume: Factor on the volume.
    """

    persistence: float
    volatility: float
    volume: float


CALM = Regime(persistence=-0.22, volatility=0.004, volume=1.0)
BROKEN = Regime(persistence=0.28, volatility=0.012, volume=3.0)


def simulate(*, hours: int, change_at: int, seed: int = SEED) -> dict[str, pl.DataFrame]:
    """Make the candles of six symbols.

    Args:
        hours: Candles of each symbol, from 2023-01-01 00:00 UTC.
        change_at: The hour from which the market is ``BROKEN``.
        seed: The same seed makes the same candles, on every machine.

    Returns:
        By symbol: ``Date`` (microseconds, UTC; when the candle opens), ``Open``, ``High``,
        ``Low``, ``Close``, ``Volume`` (float64).
    """
    streams = np.random.default_rng(seed).spawn(len(SYMBOLS))
    return {
        symbol: _candles(rng, hours, change_at, price=10.0 * 3**place)
        for place, (symbol, rng) in enumerate(zip(SYMBOLS, streams, strict=True))
    }


def _candles(rng: np.random.Generator, hours: int, change_at: int, *, price: float) -> pl.DataFrame:
    broken = np.arange(hours) >= change_at
    persistence = np.where(broken, BROKEN.persistence, CALM.persistence)
    scale = np.where(broken, BROKEN.volatility, CALM.volatility)
    scale = scale * np.exp(_remembering(rng.normal(0, VOLATILITY_STEP, hours), VOLATILITY_MEMORY))
    returns = _remembering(scale * rng.normal(0, 1, hours), persistence)
    closes = price * np.exp(np.cumsum(returns))
    opens = np.concatenate(([price], closes[:-1]))
    highs = np.maximum(opens, closes) * np.exp(np.abs(rng.normal(0, WICK, hours)) * scale)
    lows = np.minimum(opens, closes) * np.exp(-np.abs(rng.normal(0, WICK, hours)) * scale)
    volume = 1e6 / price * np.where(broken, BROKEN.volume, CALM.volume)
    volumes = volume * np.exp(0.4 * rng.normal(0, 1, hours)) * (1 + np.abs(returns) / scale)
    begin = int(START.timestamp()) * 1_000_000
    stamps = pl.Series("Date", begin + HOUR_US * np.arange(hours, dtype=np.int64))
    return pl.DataFrame(
        {
            "Date": stamps.cast(pl.Datetime("us", "UTC")),
            "Open": opens.round(6),
            "High": highs.round(6),
            "Low": lows.round(6),
            "Close": closes.round(6),
            "Volume": volumes.round(3),
        }
    )


def _remembering(
    steps: npt.NDArray[np.float64], memory: float | npt.NDArray[np.float64]
) -> npt.NDArray[np.float64]:
    """``x[t] = memory[t] * x[t-1] + steps[t]``, from 0."""
    factors = np.broadcast_to(memory, steps.shape)
    values = np.empty_like(steps)
    last = 0.0
    for place, (factor, step) in enumerate(zip(factors.tolist(), steps.tolist(), strict=True)):
        last = factor * last + step
        values[place] = last
    return values
