"""The processes that tests of backfills and profiles kill: they stop in the middle and wait."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from penstock.adapters.delta import DeltaTables
from penstock.adapters.files import FileLocks
from penstock.features import backfill, profile

if TYPE_CHECKING:
    from collections.abc import Callable
    from multiprocessing.connection import Connection
    from pathlib import Path

    from penstock.features import Wanted
    from penstock.spec import FeatureView

__all__ = ["backfill_until", "profile_until"]

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
    tables, locks = DeltaTables(folder / "tables"), FileLocks(folder / "locks")
    report = _pausing(say, parts)
    backfill(tables, locks, view, wanted, chunk_rows=chunk_rows, progress=report)
    say.send("done")


def profile_until(
    say: Connection, folder: Path, view: FeatureView, chunk_rows: int, parts: int
) -> None:
    """Profile a view, say each share done, and stop after so many parts.

    Args:
        say: Where the shares go.
        folder: Where ``tables`` and ``locks`` are.
        view: The view.
        chunk_rows: Points at once, one day's sample.
        parts: After so many, nothing more happens.
    """
    tables, locks = DeltaTables(folder / "tables"), FileLocks(folder / "locks")
    report = _pausing(say, parts)
    profile(tables, locks, view, sample=chunk_rows, chunk_rows=chunk_rows, progress=report)
    say.send("done")


def _pausing(say: Connection, parts: int) -> Callable[[str, float], None]:
    """A listener that says each share, and does not return from the one of that number."""
    done: list[float] = []

    def report(_: str, share: float) -> None:
        done.append(share)
        say.send(share)
        if len(done) == parts:
            time.sleep(LONG_S)

    return report
