"""Raw data in: files and events, checked against their source, each record exactly once."""

from __future__ import annotations

from .batches import Progress, ingest_files, ingest_log
from .deleting import delete_records, deletion_hits
from .deletions import stored_deletions
from .events import Accepted, accept_events
from .files import has_files
from .intake import intake_lock
from .lookups import Lookups
from .messages import GROUP
from .quarantine import Quarantined, QuarantinedRecord, quarantined_records
from .tombstones import raw_name, raw_records, read_tombstones, remaining_records

__all__ = [
    "GROUP",
    "Accepted",
    "Lookups",
    "Progress",
    "Quarantined",
    "QuarantinedRecord",
    "accept_events",
    "delete_records",
    "deletion_hits",
    "has_files",
    "ingest_files",
    "ingest_log",
    "intake_lock",
    "quarantined_records",
    "raw_name",
    "raw_records",
    "read_tombstones",
    "remaining_records",
    "stored_deletions",
]
