"""Ingests in children that are forked ready-made, so that a kill costs no new start.

Each line on standard input starts one child, whose id is printed; the child ingests until nothing
is left and ends with 0. Nothing that starts threads runs before the fork.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import penstock as ps
from penstock.ingest import ingest_files, ingest_log
from penstock.runtime import open_services

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


def main() -> None:
    work = {"files": files, "log": log}[sys.argv[1]]
    home = Path(sys.argv[2])
    for _ in sys.stdin:
        child = os.fork()
        if child == 0:
            work(home)
            os._exit(0)
        sys.stdout.write(f"{child}\n")
        sys.stdout.flush()
        _, status = os.waitpid(child, 0)
        sys.stdout.write(f"{status}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
