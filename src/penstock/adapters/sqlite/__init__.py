"""Metadata and event log as SQLite files: no server, several processes, kill -9 safe."""

from __future__ import annotations

from .event_log import SqliteEventLog
from .metadata import SqliteMetadata

__all__ = ["SqliteEventLog", "SqliteMetadata"]
