"""Raw data in: files and events, checked against their source, each record exactly once."""

from __future__ import annotations

from .batches import Progress, ingest_files, ingest_log
from .events import Accepted, accept_events

__all__ = ["Accepted", "Progress", "accept_events", "ingest_files", "ingest_log"]
