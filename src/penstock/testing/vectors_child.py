"""The process that a test of vectors kills: it keeps them up to date, again and again."""

from __future__ import annotations

from contextlib import closing, suppress
from itertools import count
from typing import TYPE_CHECKING

from penstock.adapters.delta import DeltaTables
from penstock.adapters.files import FileLocks
from penstock.adapters.lmdb import LmdbOnlineStore
from penstock.adapters.redis import RedisOnlineStore
from penstock.errors import ConflictError
from penstock.features import refresh_vectors

if TYPE_CHECKING:
    from collections.abc import Sequence
    from multiprocessing.connection import Connection
    from pathlib import Path

    from penstock.spec import FeatureView

__all__ = ["keep_vectors"]


def keep_vectors(  # noqa: PLR0913, PLR0917 - what a process is started with
    say: Connection,
    folder: Path,
    views: Sequence[FeatureView],
    start_us: int,
    step_us: int,
    url: str = "",
) -> None:
    """Refresh vectors for ever, each time for a later moment, and say each.

    Args:
        say: Where the moments go.
        folder: Where ``tables``, ``online`` and ``locks`` are.
        views: The views.
        start_us: The first moment.
        step_us: From one to the next.
        url: The Redis that the online store is in; in the folder when left out.
    """
    tables, locks = DeltaTables(folder / "tables"), FileLocks(folder / "locks")
    online = RedisOnlineStore(url) if url else LmdbOnlineStore(folder / "online")
    with closing(online):
        for number in count():
            now_us = start_us + number * step_us
            with suppress(ConflictError):  # a view was dropped meanwhile
                refresh_vectors(tables, online, locks, views, now_us)
            say.send(now_us)
