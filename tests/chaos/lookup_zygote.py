"""Ingests two sources, one of which looks into the other, in children that are forked ready-made.

Each line on standard input starts one child, whose id is printed; the child ingests a little of
each source in turn until nothing is left and ends with 0.
"""

from __future__ import annotations

import sys
from pathlib import Path

import penstock as ps
from penstock.ingest import Lookups, ingest_log
from penstock.runtime import open_services
from penstock.testing.zygotes import fork_at_each_line

MERCHANTS = ps.Source(
    "merchants",
    entity=ps.Entity("merchant"),
    timestamp="since",
    schema={"merchant": ps.String, "since": ps.Timestamp, "risk": ps.Float64},
)
RATED = ps.FeatureView(
    "rated", source=MERCHANTS, features=[ps.mean("risk", over="20h", name="mean"), ps.count()]
)
PAYMENTS = ps.Source(
    "payments",
    entity=ps.Entity("user"),
    timestamp="ts",
    schema={"user": ps.String, "ts": ps.Timestamp, "merchant": ps.String},
    lookups=[
        ps.Lookup(MERCHANTS, on="merchant", columns={"risk": "risk"}, within="50h"),
        ps.Lookup(RATED, on="merchant", columns={"mean": "mean", "ratings": "count"}),
    ],
)


def ingest(home: Path) -> None:
    with open_services(home, kind="stream") as services:
        lookups = Lookups(services.tables)
        while any(
            [
                ingest_log(services, MERCHANTS, limit=7) is not None,
                ingest_log(services, PAYMENTS, limit=11, lookups=lookups) is not None,
            ]
        ):
            pass


if __name__ == "__main__":
    fork_at_each_line(lambda: ingest(Path(sys.argv[1])))
