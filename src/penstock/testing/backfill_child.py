"""The process that a test of backfills kills: it stops in the middle of its work and waits."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from penstock.adapters.delta import DeltaTables
from penstock.adapters.files import FileLocks
from penstock.features import backfill

if TYPE_CHECKING:
    from multiprocessing.connection import Connection
    from pathlib import Path

    from penstock.features import Wanted
    from penstock.spec import FeatureView

__all__ = ["backfill_until"]

LONG_S = 600.0


def backfill_until(  # noqa: PLR0913, PLR0917 - what a backfill takes, and where it stops
    say: Connection, folder: Path, view: FeatureView, wanted: Wanted, chunk_rows: int, parts: int
) -> None:
    """Backfill a view, say each share done, and stop after so many parts.

    Args:
        say: Where the shares go.
        folder: Where ``tables`` and ``locks`` are.
        view: The view.
        wanted: The times.
        chunk_rows: As for ``backfill``.
        parts: After so many, nothing more happens.
    """
    done: list[float] = []

    def report(_: str, share: float) -> None:
        done.append(share)
        say.send(share)
        if len(done) == parts:
            time.sleep(LONG_S)

    tables, locks = DeltaTables(folder / "tables"), FileLocks(folder / "locks")
    backfill(tables, locks, view, wanted, chunk_rows=chunk_rows, progress=report)
    say.send("done")
