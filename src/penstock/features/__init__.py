"""Features: as of any time from the raw tables, and by key from the online store.

``point_in_time`` is what training and batch scoring use, ``refresh`` brings raw batches to the
online store, ``OnlineReader`` reads it. All three are the same algebra, and give the same values.
"""

from __future__ import annotations

from .offline import point_in_time
from .reader import OnlineReader
from .refreshing import RefreshResult, built_to, refresh, space_of

__all__ = ["OnlineReader", "RefreshResult", "built_to", "point_in_time", "refresh", "space_of"]
