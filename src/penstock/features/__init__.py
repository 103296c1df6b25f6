"""Features: as of any time from the raw tables, and by key from the online store.

``point_in_time`` is what training and batch scoring use, ``refresh`` brings raw batches to the
online store, ``OnlineReader`` reads it; ``backfill`` stores values as of many times, and
``stored_features`` joins them; ``check_online`` compares what is online with the tables. All are
the same algebra, and give the same values.
"""

from __future__ import annotations

from .backfill import BackfillResult, backfill
from .consistency import FeatureCheck, check_online
from .offline import point_in_time
from .points import Wanted, known_span
from .reader import OnlineReader
from .refreshing import RefreshResult, built_to, refresh, space_of
from .stored import stored_features

__all__ = [
    "BackfillResult",
    "FeatureCheck",
    "OnlineReader",
    "RefreshResult",
    "Wanted",
    "backfill",
    "built_to",
    "check_online",
    "known_span",
    "point_in_time",
    "refresh",
    "space_of",
    "stored_features",
]
