"""Delta Lake tables on a local disk, read and written with Polars."""

from __future__ import annotations

from .tables import DeltaTables

__all__ = ["DeltaTables"]
