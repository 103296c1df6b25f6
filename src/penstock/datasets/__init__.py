"""Datasets: spines, point-in-time correct rows, splits; pinned to what they were built from."""

from __future__ import annotations

from .build import build, get_snapshot, load, pin
from .selected import get_selection, selected_names
from .spine import AT, spine_of
from .splits import EMBARGO, PARTS, assign_parts
from .stored import StoredViews

__all__ = [
    "AT",
    "EMBARGO",
    "PARTS",
    "StoredViews",
    "assign_parts",
    "build",
    "get_selection",
    "get_snapshot",
    "load",
    "pin",
    "selected_names",
    "spine_of",
]
