"""``python -m bench`` lists the benchmarks; ``python -m bench NAME`` runs one.

Exits 1 where a budget does not hold or a part of a group could not be measured, 2 for an unknown
name.
"""

from __future__ import annotations

import argparse
import importlib
import platform
import sys
from pathlib import Path
from typing import Protocol, cast

import msgspec
from rich.console import Console

from penstock.errors import nearest

from .figure import Figure, show

BENCHMARKS = {
    "startup": "import, the command line, and each process until it is ready",
    "join": "point-in-time features: values as of a time, and windows at arbitrary points",
    "backfill": "stored features: filled, and brought up to date after late records",
    "parts": "point-in-time features in parts: two worker processes against one",
    "online": "features of 1 and 100 entities from the embedded store",
    "events": "events into online features, and reads from Redis (needs redis-server)",
    "lookups": "records completed from another source, beside bare Polars",
    "partitions": "events into online features by one consumer and by two (needs redis-server)",
    "candles": "sixty features of hourly candles, streamed, against the batch engine",
    "feast": "joins, fills, reads and events beside Feast 0.67 (needs PENSTOCK_BENCH_FEAST)",
    "scale": "1e4 to 1e6 entities: loaded, read, served over HTTP and checked (needs wrk)",
    "engines": "1 and 64 rows of every family through every engine, beside the bare libraries",
    "many": "thousands of small models in one process, loaded by need",
    "predict": "single predictions over HTTP at 1, 16 and 64 connections (needs wrk)",
    "predict_arrow": "rows to score as Arrow beside JSON, 1 to 1,000 a request (needs wrk)",
    "incidents": "a champion that turns slow, wrong or crashing under load, until it is replaced",
    "overload": "ten times the connections: who is answered, and how late (needs wrk)",
    "costs": "what each feature of a served prediction costs (needs wrk)",
    "scoring": "single predictions beside MLflow, BentoML, MLServer, FastAPI and Triton",
    "grpc_scoring": "single predictions over gRPC beside echoes of grpcio (needs h2load)",
    "vectors": "precomputed feature vectors beside the views they are made of",
    "feature_server": "features by key over HTTP at 16 connections (needs wrk)",
    "upgrades": "requests that fail while versions change and processes are killed",
    "traces": "single predictions while nothing, a hundredth and everything is traced (needs wrk)",
    "demo": "penstock demo psystock, from nothing to the last screen",
}

GROUPS = {
    "features": ("join", "backfill", "parts", "online", "events", "candles", "scale", "feast")
}
"""Benchmarks that answer one question together."""


class Benchmark(Protocol):
    """A module of this folder."""

    def measure(self, *, quick: bool) -> list[Figure]:
        """Take the figures; smaller sizes and fewer runs when quick."""
        ...


def main(arguments: list[str] | None = None) -> int:
    """Run what the command line asks for."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("name", nargs="?", help="the benchmark; left out to list them")
    parser.add_argument("--quick", action="store_true", help="smaller sizes, fewer runs")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there")
    options = parser.parse_args(arguments)
    console = Console(width=max(Console().width, 110))
    if options.name is None:
        for name, text in BENCHMARKS.items():
            console.print(f"  [bold]{name:<16}[/]{text}", highlight=False)
        for name, members in GROUPS.items():
            console.print(f"  [bold]{name:<16}[/]all of {', '.join(members)}", highlight=False)
        return 0
    if options.name not in [*BENCHMARKS, *GROUPS]:
        known = [*BENCHMARKS, *GROUPS]
        Console(stderr=True).print(
            f"There is no benchmark {options.name!r}. {nearest(options.name, known)}"
        )
        return 2
    figures: list[Figure] = []
    left_out = False
    for name in GROUPS.get(options.name, (options.name,)):
        module = cast("Benchmark", importlib.import_module(f"bench.{name}"))
        try:
            taken = module.measure(quick=options.quick)
        except SystemExit as missing:
            if options.name not in GROUPS:
                raise
            left_out = True  # what the others have measured is still told
            Console(stderr=True).print(f"{name} is left out: {missing}")
            continue
        show(name, taken, console)
        figures += taken
    if options.json is not None:
        options.json.write_bytes(
            msgspec.json.format(msgspec.json.encode(_report(options, figures)))
        )
    return 1 if left_out or any(figure.holds is False for figure in figures) else 0


def _report(options: argparse.Namespace, figures: list[Figure]) -> dict[str, object]:
    rows = [
        msgspec.to_builtins(figure) | {"ratio": figure.ratio, "holds": figure.holds}
        for figure in figures
    ]
    return {
        "benchmark": options.name,
        "quick": options.quick,
        "python": platform.python_version(),
        "machine": platform.machine(),
        "figures": rows,
    }


if __name__ == "__main__":
    sys.exit(main())
