"""Rows to score over HTTP as Arrow streams beside JSON, at 1, 64 and 1,000 rows a request."""

from __future__ import annotations

import io
import json
import statistics
import tempfile
from pathlib import Path

import numpy as np
import polars as pl

from .figure import Figure
from .load import need_wrk, script_of_file, wrk
from .project import build, serving, token_of

ROWS = (1, 64, 1_000)
CONNECTIONS = 1


def measure(*, quick: bool) -> list[Figure]:
    """Take the figures."""
    need_wrk("predict_arrow")
    rounds = 2 if quick else 3
    with tempfile.TemporaryDirectory(prefix="penstock-bench-") as folder:
        home = Path(folder) / "home"
        home.mkdir()
        build(home)
        return _compare(home, rounds=rounds, seconds=2 if quick else 4)


def _compare(home: Path, *, rounds: int, seconds: int) -> list[Figure]:
    figures: list[Figure] = []
    with serving(home) as server:
        url = f"{server.url}/v1/deployments/boosted/predict"
        for rows in ROWS:
            for what, scripts in _scripts(home, rows).items():
                rates: dict[str, list[float]] = {form: [] for form in scripts}
                for _ in range(rounds):
                    for form, lua in scripts.items():
                        load = wrk(url, lua, CONNECTIONS, seconds)
                        rates[form].append(load.requests_per_s * rows)
                figures.append(
                    Figure(
                        what=f"{rows:,} {'row' if rows == 1 else 'rows'} {what}, as Arrow",
                        ours=statistics.median(rates["arrow"]),
                        unit="rows/s",
                        baseline=statistics.median(rates["json"]),
                        baseline_name="as JSON",
                        spread=(min(rates["arrow"]), max(rates["arrow"])),
                    )
                )
    return figures


def _scripts(home: Path, rows: int) -> dict[str, dict[str, Path]]:
    """Scripts for wrk, by what a row is and the form it is sent in."""
    names = [f"recent.last_x{i}" for i in range(10)] + [f"recent.mean_x{i}_6h" for i in range(10)]
    values = np.random.default_rng(3).normal(size=(rows, 20)).round(6)
    frames = {
        "of 20 features": pl.DataFrame(values, schema=names),
        "by entity key": pl.DataFrame({"device": [row % 50 for row in range(rows)]}),
    }
    token = token_of(home)
    found: dict[str, dict[str, Path]] = {}
    for what, frame in frames.items():
        part = "entity" if what.startswith("by") else "features"
        told = json.dumps({"rows": [{part: row} for row in frame.to_dicts()]}).encode()
        streamed = io.BytesIO()
        frame.write_ipc_stream(streamed)
        found[what] = {
            "json": script_of_file(home / f"{part}-{rows}.json", told, "application/json", token),
            "arrow": script_of_file(
                home / f"{part}-{rows}.arrows",
                streamed.getvalue(),
                "application/vnd.apache.arrow.stream",
                token,
            ),
        }
    return found
