"""Artifacts and locks as plain files of a local disk."""

from __future__ import annotations

from .artifacts import FileArtifacts
from .locks import FileLocks

__all__ = ["FileArtifacts", "FileLocks"]
