"""Ingests in children that are forked ready-made, so that a kill costs no new start.

Each line on standard input starts one child, whose id is printed; the child ingests until nothing
is left and ends with 0. Nothing that starts threads runs before the fork.
"""

from __future__ import annotations

import sys
from pathlib import Path

import penstock as ps
from penstock.ingest import ingest_files, ingest_log
from penstock.runtime import open_services
from penstock.testing.zygotes import fork_at_each_line

CANDLES = ps.Source(
    "candles",
    entity=ps.Entity("symbol"),
    timestamp="ts",
    schema={"symbol": ps.String, "ts": ps.Timestamp, "close": ps.Float64},
    expect=[ps.positive("close"), ps.unique("symbol", "ts")],
    batch=ps.Files("data/*.csv"),
)


def files(home: Path) -> None:
    with open_services(home) as services:
        ingest_files(services, CANDLES)


def log(home: Path) -> None:
    with open_services(home, kind="stream") as services:
        while ingest_log(services, CANDLES, limit=30) is not None:
            pass


if __name__ == "__main__":
    fork_at_each_line(lambda: {"files": files, "log": log}[sys.argv[1]](Path(sys.argv[2])))
