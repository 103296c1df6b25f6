"""Metadata through SQLAlchemy: records as JSON, an index of their searchable fields, the audit."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import msgspec
from sqlalchemy import delete, select, update

from penstock.errors import ConflictError, InputError, StateError, nearest
from penstock.ports import Delete, Metadata
from penstock.records import Record

from .chain import appended, entry_of, verified
from .connection import BUSY_TIMEOUT_S
from .engine import Database
from .schema import audit as audit_table
from .schema import meta, record_index, records

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sqlalchemy import ColumnElement, Connection

    from penstock.ports import Audit, Clock, Put
    from penstock.records import AuditEntry

__all__ = ["SqliteMetadata"]

R = TypeVar("R", bound=Record)


class SqliteMetadata(Metadata):
    """Metadata in one SQLite file.

    Args:
        path: The file; made with its folder when it is not there.
        clock: Tells when audit entries are made.
        busy_timeout_s: How long to wait for another writer.

    Raises:
        StateError: The file is damaged, cannot be opened, or belongs to a newer version.
        UnavailableError: Another process kept it locked.
    """

    def __init__(self, path: Path, clock: Clock, *, busy_timeout_s: float = BUSY_TIMEOUT_S) -> None:
        self._clock = clock
        self._database = Database(Path(path), busy_timeout_s=busy_timeout_s)

    def read(self, cls: type[R], key: str) -> R | None:
        """The record of that kind and key, or None."""
        with self._database.reading() as connection:
            return _read(connection, cls, key)

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
        conditions = [_has(cls, field, value) for field, value in (where or {}).items()]
        query = (
            select(records.c.key, records.c.schema, records.c.body)
            .where(records.c.kind == cls.KIND, *conditions)
            .order_by(records.c.key.desc() if newest_first else records.c.key)
            .limit(limit)
        )
        with self._database.reading() as connection:
            rows = connection.execute(query).all()
        return [_record(cls, key, schema, body) for key, schema, body in rows]

    def write(self, *changes: Put | Delete, audit: Audit | None = None) -> None:
        """Store all changes in one transaction, with an audit entry when one is given.

        Raises:
            ConflictError: An expectation does not hold; nothing was stored.
            InputError: A record would not read back as it is.
        """
        with self._database.writing() as connection:
            for change in changes:
                if isinstance(change, Delete):
                    _remove(connection, change.record)
                else:
                    _put(connection, change)
            values: dict[str, object] = {"revision": meta.c.revision + 1}
            if audit is not None:
                head = connection.execute(select(meta)).one()
                values["audit_sequence"] = head.audit_sequence + 1
                values["audit_hash"] = appended(
                    connection,
                    audit,
                    at=self._clock.now(),
                    sequence=head.audit_sequence + 1,
                    previous_hash=head.audit_hash,
                )
            connection.execute(update(meta).values(values))

    def revision(self) -> int:
        """A number that grows with every write of any process; cheap enough to poll."""
        return self._database.revision()

    def audit(self, *, after: int = 0, limit: int | None = None) -> list[AuditEntry]:
        """Audit entries with a greater sequence number, oldest first."""
        query = (
            select(audit_table)
            .where(audit_table.c.sequence > after)
            .order_by(audit_table.c.sequence)
            .limit(limit)
        )
        with self._database.reading() as connection:
            return [entry_of(row) for row in connection.execute(query)]

    def verify_audit(self) -> int:
        """Check the whole chain of hashes; returns the number of entries.

        Raises:
            StateError: An entry was altered, removed or inserted; says which.
        """
        # Under the write lock, so that no entry arrives between the chain's end and its reading.
        with self._database.writing() as connection:
            return verified(connection)

    def close(self) -> None:
        """Give connections back; the object is not used afterwards."""
        self._database.close()


def _put(connection: Connection, change: Put) -> None:
    record, cls = change.record, type(change.record)
    body = msgspec.json.encode(record)
    # What cannot be read back must not get in; a number that is not finite is the usual case.
    _read_back(record, body)
    if change.expected is not msgspec.UNSET:
        _expect(connection, record, change.expected)
    _remove(connection, record)
    values = {"kind": cls.KIND, "key": record.key, "schema": cls.SCHEMA, "body": body}
    connection.execute(records.insert(), values)
    fields = {field: getattr(record, field) for field in cls.INDEXED}
    indexed = [
        {"kind": cls.KIND, "field": field, "value": str(value), "key": record.key}
        for field, value in fields.items()
        if value is not None
    ]
    if indexed:
        connection.execute(record_index.insert(), indexed)


def _remove(connection: Connection, record: Record) -> None:
    for table in (records, record_index):
        ours = (table.c.kind == record.KIND, table.c.key == record.key)
        connection.execute(delete(table).where(*ours))


def _expect(
    connection: Connection, record: Record, expected: Record | msgspec.UnsetType | None
) -> None:
    """Refuse when another record is stored than is expected."""
    stored = _read(connection, type(record), record.key)
    if isinstance(expected, Record):
        expected = _read_back(expected, msgspec.json.encode(expected))
    if stored == expected:
        return
    what = f"{record.KIND} {record.key!r}"
    if expected is None:
        message = f"There is a {what} already; it was expected to be new. Read it and decide again."
    elif stored is None:
        message = f"The {what} was removed by somebody else. Read again what there is and decide."
    else:
        message = f"The {what} was changed by somebody else. Read it again and repeat the change."
    raise ConflictError(message, record_kind=record.KIND, key=record.key)


def _read_back(record: R, body: bytes) -> R:
    try:
        return msgspec.json.decode(body, type=type(record))
    except msgspec.ValidationError as error:
        message = (
            f"The {record.KIND} {record.key!r} cannot be stored: it would not read back ({error}). "
            "Numbers must be finite and every field must have its declared type."
        )
        raise InputError(message, record_kind=record.KIND, key=record.key) from error


def _read(connection: Connection, cls: type[R], key: str) -> R | None:
    query = select(records.c.schema, records.c.body)
    row = connection.execute(
        query.where(records.c.kind == cls.KIND, records.c.key == key)
    ).one_or_none()
    return None if row is None else _record(cls, key, row.schema, row.body)


def _record(cls: type[R], key: str, schema: int, body: bytes) -> R:
    if schema > cls.SCHEMA:
        message = (
            f"The {cls.KIND} {key!r} was written by a newer version of Penstock (schema {schema}; "
            f"this version knows {cls.SCHEMA}). Use that version, or a newer one."
        )
        raise StateError(message, record_kind=cls.KIND, key=key, schema=schema)
    try:
        return msgspec.json.decode(body, type=cls)
    except msgspec.DecodeError as error:
        message = (
            f"The {cls.KIND} {key!r} in the metadata database cannot be read: {error}. "
            "Restore the database from a backup."
        )
        raise StateError(message, record_kind=cls.KIND, key=key) from error


def _has(cls: type[Record], field: str, value: str | int) -> ColumnElement[bool]:
    """The condition that an indexed field has a value."""
    if field not in cls.INDEXED:
        message = (
            f"A {cls.KIND} cannot be searched by {field!r}. {nearest(field, cls.INDEXED)} "
            "Search by an indexed field."
        )
        raise InputError(message, record_kind=cls.KIND, field=field)
    return records.c.key.in_(
        select(record_index.c.key).where(
            record_index.c.kind == cls.KIND,
            record_index.c.field == field,
            record_index.c.value == str(value),
        )
    )
