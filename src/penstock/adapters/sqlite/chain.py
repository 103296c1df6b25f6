"""The audit chain: every entry's hash covers the entry before."""

from __future__ import annotations

import hashlib
from datetime import datetime
from typing import TYPE_CHECKING

import msgspec
from sqlalchemy import select

from penstock.errors import StateError
from penstock.records import AuditEntry

from .schema import audit, meta

if TYPE_CHECKING:
    from sqlalchemy import Connection, Row

    from penstock.ports import Audit

__all__ = ["appended", "entry_of", "verified"]

_FIELDS = ("sequence", "at", "actor", "action", "subject", "difference", "previous_hash")


def appended(
    connection: Connection, entry: Audit, *, at: datetime, sequence: int, previous_hash: str
) -> str:
    """Insert the next entry within the caller's transaction; returns its hash."""
    row: dict[str, object] = {
        "sequence": sequence,
        "at": at.isoformat(timespec="microseconds"),
        "actor": entry.actor,
        "action": entry.action,
        "subject": entry.subject,
        "difference": msgspec.json.encode(entry.difference, order="deterministic").decode(),
        "previous_hash": previous_hash,
    }
    row["hash"] = _hash([row[field] for field in _FIELDS])
    connection.execute(audit.insert(), row)
    return str(row["hash"])


def entry_of(row: Row[tuple[object, ...]]) -> AuditEntry:
    """The entry of a stored row."""
    return AuditEntry(
        sequence=row.sequence,
        at=datetime.fromisoformat(row.at),
        actor=row.actor,
        action=row.action,
        subject=row.subject,
        difference=msgspec.json.decode(row.difference),
        previous_hash=row.previous_hash,
        hash=row.hash,
    )


def verified(connection: Connection) -> int:
    """Check the whole chain, up to the newest entry that ``meta`` knows; returns their number.

    Raises:
        StateError: An entry was altered, removed or inserted; says which.
    """
    head = connection.execute(select(meta.c.audit_sequence, meta.c.audit_hash)).one()
    sequence, previous_hash = 0, ""
    for row in connection.execute(select(audit).order_by(audit.c.sequence)):
        sequence += 1
        if row.sequence != sequence:
            raise _broken(sequence, f"it is missing; the next one there is {row.sequence}")
        if row.previous_hash != previous_hash:
            raise _broken(sequence, "it does not follow the entry before it")
        if row.hash != _hash([getattr(row, field) for field in _FIELDS]):
            raise _broken(sequence, "its content is not what was written")
        previous_hash = row.hash
    if sequence != head.audit_sequence:
        raise _broken(min(sequence, head.audit_sequence) + 1, "the end was removed or added to")
    if previous_hash != head.audit_hash:
        raise _broken(sequence, "it is not the newest entry that was written")
    return sequence


def _hash(values: list[object]) -> str:
    return hashlib.sha256(msgspec.json.encode(values)).hexdigest()


def _broken(sequence: int, how: str) -> StateError:
    message = (
        f"The audit chain is broken at entry {sequence}: {how}. Somebody changed the audit table "
        "by hand: compare it with a backup."
    )
    return StateError(message, sequence=sequence)
