"""Metadata: the platform's records, changed in transactions, each change audited."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import TYPE_CHECKING, TypeVar

import msgspec

from penstock.records import Record

if TYPE_CHECKING:
    from penstock.records import AuditEntry

__all__ = ["Audit", "Delete", "Metadata", "Put"]

R = TypeVar("R", bound=Record)


class Put(msgspec.Struct, frozen=True):
    """Write a record.

    Attributes:
        record: The record.
        expected: The record that must be stored now, field for field; ``None`` for "must not
            exist"; left out for "whatever is there".
    """

    record: Record
    expected: Record | msgspec.UnsetType | None = msgspec.UNSET


class Delete(msgspec.Struct, frozen=True):
    """Remove a record; nothing happens when it is not there."""

    record: Record


class Audit(msgspec.Struct, frozen=True, kw_only=True):
    """What the audit table says of a change.

    Attributes:
        actor: Who changed it.
        action: What was done, such as ``"apply"``.
        subject: To what.
        difference: What changed, as plain JSON values.
    """

    actor: str
    action: str
    subject: str
    difference: Mapping[str, object] = {}


class Metadata(ABC):
    """Keeps records by kind and key.

    Atomic: ``write`` stores all of its changes and its audit entry, or nothing. Durable: what
        ``write`` acknowledged survives kill -9 of any process. Isolated: of two racing writers with
        the same expectation one gets ``ConflictError``. Safe across threads and processes. A
        missing key reads as None. A record with a greater schema number than this version knows
        raises ``StateError``; a store that is locked too long or cannot be reached raises
        ``UnavailableError``.
    """

    @abstractmethod
    def read(self, cls: type[R], key: str) -> R | None:
        """The record of that kind and key, or None."""

    @abstractmethod
    def find(
        self,
        cls: type[R],
        *,
        where: Mapping[str, str | int] | None = None,
        newest_first: bool = False,
        limit: int | None = None,
    ) -> list[R]:
        """Records of a kind, ordered by key.

        Args:
            cls: The kind.
            where: Values that indexed fields must have; all must match.
            newest_first: Greatest key first.
            limit: At most so many.

        Raises:
            InputError: A field is not indexed.
        """

    @abstractmethod
    def write(self, *changes: Put | Delete, audit: Audit | None = None) -> None:
        """Store all changes in one transaction, with an audit entry when one is given.

        Raises:
            ConflictError: An expectation does not hold; nothing was stored.
        """

    @abstractmethod
    def revision(self) -> int:
        """A number that grows with every write of any process; cheap enough to poll."""

    @abstractmethod
    def audit(self, *, after: int = 0, limit: int | None = None) -> list[AuditEntry]:
        """Audit entries with a greater sequence number, oldest first."""

    @abstractmethod
    def verify_audit(self) -> int:
        """Check the whole chain of hashes; returns the number of entries.

        Raises:
            StateError: An entry was altered, removed or inserted; says which.
        """

    @abstractmethod
    def close(self) -> None:
        """Give connections back; the object is not used afterwards."""
