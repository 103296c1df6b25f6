"""The process that a test of vectors kills: it keeps them up to date, again and again."""

from __future__ import annotations

from contextlib import closing
from itertools import count
from typing import TYPE_CHECKING

from penstock.adapters.delta import DeltaTables
from penstock.adapters.files import FileLocks
from penstock.adapters.lmdb import LmdbOnlineStore
from penstock.features import refresh_vectors

if TYPE_CHECKING:
    from collections.abc import Sequence
    from multiprocessing.connection import Connection
    from pathlib import Path

    from penstock.spec import FeatureView

__all__ = ["keep_vectors"]


def keep_vectors(
    say: Connection, folder: Path, views: Sequence[FeatureView], start_us: int, step_us: int
) -> None:
    """Refresh vectors for ever, each time for a later moment, and say each.

    Args:
        say: Where the moments go.
        folder: Where ``tables``, ``online`` and ``locks`` are.
        views: The views.
        start_us: The first moment.
        step_us: From one to the next.
    """
    tables, locks = DeltaTables(folder / "tables"), FileLocks(folder / "locks")
    with closing(LmdbOnlineStore(folder / "online")) as online:
        for number in count():
            now_us = start_us + number * step_us
            refresh_vectors(tables, online, locks, views, now_us)
            say.send(now_us)
