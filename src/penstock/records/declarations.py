"""What has been applied."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import ClassVar

from .base import Record

__all__ = ["AppliedDeclaration", "AppliedProject"]


class AppliedDeclaration(Record, frozen=True):
    """A declaration as it was applied last.

    Attributes:
        declared_kind: ``source``, ``feature_view``, ``dataset``, ``model``, ``deployment`` ...
        name: Its name.
        document: What it says; see ``penstock.spec.to_document``.
        fingerprint: Hash of what it means, through everything it refers to.
        version: Counts the changes of its document, from 1.
        position: Place among all, each after what it refers to.
        applied_at: When.
        applied_by: Who.
    """

    KIND: ClassVar[str] = "declaration"
    INDEXED: ClassVar[tuple[str, ...]] = ("declared_kind",)

    declared_kind: str
    name: str
    document: Mapping[str, object]
    fingerprint: str
    version: int
    position: int
    applied_at: datetime
    applied_by: str

    @property
    def key(self) -> str:
        """``kind/name``."""
        return f"{self.declared_kind}/{self.name}"


class AppliedProject(Record, frozen=True):
    """The project as a whole, as it was applied last.

    Attributes:
        name: Its name.
        revision: Counts the applications that changed something, from 1.
        applied_at: When.
        applied_by: Who.
        commit: Commit of the project folder's repository; empty when there is none.
        dirty: Whether the folder differed from the commit.
    """

    KIND: ClassVar[str] = "project"

    name: str
    revision: int
    applied_at: datetime
    applied_by: str
    commit: str = ""
    dirty: bool = False

    @property
    def key(self) -> str:
        """There is one."""
        return "project"
