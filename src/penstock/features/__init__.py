"""Features: as of any time from the raw tables, and by key from the online store.

``point_in_time`` is what training and batch scoring use, ``refresh`` brings raw batches to the
online store, ``OnlineReader`` reads it; ``backfill`` stores values as of many times, and
``stored_features`` joins them; ``profile`` stores how they lie, day by day; ``check_online``
compares what is online with the tables. All are the same algebra, and give the same values.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from .composition import request_dtype
from .freshness import Freshness, ViewAge, require_fresh, view_ages
from .gathering import Gathering
from .partitions import (
    MOST_PARTITIONS,
    Layout,
    PartOf,
    layout_of,
    layouts_of,
    marks_of,
    part_of,
    partition_of,
    partition_spaces,
    slot_count,
)
from .past import check_past, past_error
from .reader import OnlineReader, Reading
from .service import GatheredReads, ServiceReader
from .spaces import built_to, lock_of, space_of
from .sweeping import swept_counts
from .unknown import UnknownEntities
from .vectors import groups_of

if TYPE_CHECKING:
    from .backfilling import BackfillResult, backfill
    from .consistency import check_online, compare_columns
    from .offline import point_in_time, spine_times
    from .parts import Parts, drop_old_parts, parts_of
    from .points import Wanted, known_span
    from .profilable import Profiled, profiled, unprofiled
    from .profiles import ColumnProfile, profiles_of
    from .profiling import PROFILE_DAYS, PROFILE_SAMPLE, ProfileResult, profile, profiled_to
    from .refreshing import RefreshResult, refresh
    from .rounding import Expected, expected_features
    from .stored import STORED, StoredState, stored_features, stored_state
    from .vector_writing import VectorResult, drop_vectors, refresh_vectors

__all__ = [
    "MOST_PARTITIONS",
    "PROFILE_DAYS",
    "PROFILE_SAMPLE",
    "STORED",
    "BackfillResult",
    "ColumnProfile",
    "Expected",
    "Freshness",
    "GatheredReads",
    "Gathering",
    "Layout",
    "OnlineReader",
    "PartOf",
    "Parts",
    "ProfileResult",
    "Profiled",
    "Reading",
    "RefreshResult",
    "ServiceReader",
    "StoredState",
    "UnknownEntities",
    "VectorResult",
    "ViewAge",
    "Wanted",
    "backfill",
    "built_to",
    "check_online",
    "check_past",
    "compare_columns",
    "drop_old_parts",
    "drop_vectors",
    "expected_features",
    "groups_of",
    "known_span",
    "layout_of",
    "layouts_of",
    "lock_of",
    "marks_of",
    "part_of",
    "partition_of",
    "partition_spaces",
    "parts_of",
    "past_error",
    "point_in_time",
    "profile",
    "profiled",
    "profiled_to",
    "profiles_of",
    "refresh",
    "refresh_vectors",
    "request_dtype",
    "require_fresh",
    "slot_count",
    "space_of",
    "spine_times",
    "stored_features",
    "stored_state",
    "swept_counts",
    "unprofiled",
    "view_ages",
]

LAZY = {
    name: module
    for module, names in {
        ".backfilling": ("BackfillResult", "backfill"),
        ".consistency": ("check_online", "compare_columns"),
        ".offline": ("point_in_time", "spine_times"),
        ".parts": ("Parts", "drop_old_parts", "parts_of"),
        ".points": ("Wanted", "known_span"),
        ".profilable": ("Profiled", "profiled", "unprofiled"),
        ".profiles": ("ColumnProfile", "profiles_of"),
        ".profiling": ("PROFILE_DAYS", "PROFILE_SAMPLE", "ProfileResult", "profile", "profiled_to"),
        ".refreshing": ("RefreshResult", "refresh"),
        ".rounding": ("Expected", "expected_features"),
        ".stored": ("STORED", "StoredState", "stored_features", "stored_state"),
        ".vector_writing": ("VectorResult", "drop_vectors", "refresh_vectors"),
    }.items()
    for name in names
}


def __getattr__(name: str) -> object:
    if name in LAZY:
        return getattr(import_module(LAZY[name], __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
