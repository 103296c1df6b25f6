"""Artifacts: files and folders that never change, by the hash of their content."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["Artifacts"]


class Artifacts(ABC):
    """Keeps files and folders under a reference made from their content.

    Atomic: an artifact is whole or absent. Idempotent: the same content has the same reference,
        however often it is put. Safe across threads and processes.
    """

    @abstractmethod
    def put(self, path: Path) -> str:
        """Keep a copy of a file or folder; returns its reference, ``<sha256 hex>``."""

    @abstractmethod
    def path(self, reference: str) -> Path:
        """A local path of the artifact, to be read only.

        Raises:
            NotFoundError: There is no such artifact.
            StateError: It is there but damaged; ``facts["path"]`` says where, as text.
        """

    @abstractmethod
    def exists(self, reference: str) -> bool:
        """Whether the artifact is there."""
