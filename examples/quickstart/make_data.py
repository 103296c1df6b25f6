"""Write hourly candles of two symbols to ``data/``: ``python make_data.py [FOLDER]``.

A random walk whose steps lean against the step before, so that there is something to learn.
"""

from __future__ import annotations

import gzip
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np

HOURS = 2_000
START = datetime(2024, 1, 1, tzinfo=UTC)
REVERSION, VOLATILITY = -0.35, 0.01


def write_candles(folder: Path, symbol: str, seed: int) -> Path:
    """Write one symbol's candles; returns the file."""
    shocks = np.random.default_rng(seed).normal(scale=VOLATILITY, size=HOURS)
    steps = np.zeros(HOURS)
    for hour in range(1, HOURS):
        steps[hour] = REVERSION * steps[hour - 1] + shocks[hour]
    close = 100 * np.exp(np.cumsum(steps))
    opens = np.concatenate([[100.0], close[:-1]])
    path = folder / f"{symbol}.csv.gz"
    with gzip.open(path, "wt", encoding="utf-8") as file:
        file.write("Date,Open,Close\n")
        for hour in range(HOURS):
            stamp = (START + timedelta(hours=hour)).isoformat(sep=" ")
            file.write(f"{stamp},{opens[hour]:.6f},{close[hour]:.6f}\n")
    return path


def main(folder: Path) -> None:
    """Write both files."""
    folder.mkdir(parents=True, exist_ok=True)
    for seed, symbol in enumerate(("AAA", "BBB")):
        write_candles(folder, symbol, seed)


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent / "data")
