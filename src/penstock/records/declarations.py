"""What has been applied."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import ClassVar

from .base import Record

__all__ = ["AppliedDeclaration", "AppliedProject", "DeclarationVersion"]


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


class DeclarationVersion(Record, frozen=True):
    """A declaration as it was applied once; kept when another version of it is applied.

    Attributes:
        declaration: Its key, ``kind/name``.
        version: 1, 2, 3 ... of its document; goes on when it is removed and declared again.
        document: What it said; see ``penstock.spec.to_document``.
        fingerprint: Hash of what it meant, through everything it referred to when it was applied.
        applied_at: When.
        applied_by: Who.
        commit: Commit of the project folder's repository; empty where it is not known.
        dirty: Whether the folder differed from the commit.
    """

    KIND: ClassVar[str] = "declaration_version"
    INDEXED: ClassVar[tuple[str, ...]] = ("declaration",)

    declaration: str
    version: int
    document: Mapping[str, object]
    fingerprint: str
    applied_at: datetime
    applied_by: str
    commit: str = ""
    dirty: bool = False

    @property
    def key(self) -> str:
        """``kind/name/version``, ordered as text like the versions."""
        return self.key_of(self.declaration, self.version)

    @staticmethod
    def key_of(declaration: str, version: int) -> str:
        """The key of a declaration's version of that number."""
        return f"{declaration}/{version:09d}"

    @classmethod
    def of(
        cls, applied: AppliedDeclaration, *, commit: str = "", dirty: bool = False
    ) -> DeclarationVersion:
        """The version that a declaration is at.

        Args:
            applied: The declaration as it is applied.
            commit: Commit of the project folder, where it is known.
            dirty: Whether the folder differed from it.
        """
        return cls(
            declaration=applied.key,
            version=applied.version,
            document=applied.document,
            fingerprint=applied.fingerprint,
            applied_at=applied.applied_at,
            applied_by=applied.applied_by,
            commit=commit,
            dirty=dirty,
        )


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
