"""Online feature state in an LMDB file, memory-mapped by every process that reads it."""

from __future__ import annotations

from .online_store import LmdbOnlineStore

__all__ = ["LmdbOnlineStore"]
