"""The metadata database's tables, the same in every SQL dialect."""

from __future__ import annotations

from sqlalchemy import (
    CheckConstraint,
    Column,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
)

__all__ = ["DATABASE_SCHEMA", "SCHEMA", "audit", "meta", "record_index", "records"]

# Number of this layout. A database of a greater one belongs to a newer version and is refused.
DATABASE_SCHEMA = 1

SCHEMA = MetaData()

# One row: the number of the layout, the counter of writes, and the newest entry of the audit
# chain, without which cutting off the chain's end would go unseen.
meta = Table(
    "meta",
    SCHEMA,
    Column("id", Integer, CheckConstraint("id = 1"), primary_key=True, autoincrement=False),
    Column("schema", Integer, nullable=False),
    Column("revision", Integer, nullable=False),
    Column("audit_sequence", Integer, nullable=False),
    Column("audit_hash", String, nullable=False),
)

records = Table(
    "records",
    SCHEMA,
    Column("kind", String, primary_key=True),
    Column("key", String, primary_key=True),
    Column("schema", Integer, nullable=False),
    Column("body", LargeBinary, nullable=False),
    sqlite_with_rowid=False,
)

record_index = Table(
    "record_index",
    SCHEMA,
    Column("kind", String, primary_key=True),
    Column("field", String, primary_key=True),
    Column("value", String, primary_key=True),
    Column("key", String, primary_key=True),
    Index("record_index_by_key", "kind", "key"),
    sqlite_with_rowid=False,
)

audit = Table(
    "audit",
    SCHEMA,
    Column("sequence", Integer, primary_key=True, autoincrement=False),
    Column("at", String, nullable=False),
    Column("actor", String, nullable=False),
    Column("action", String, nullable=False),
    Column("subject", String, nullable=False),
    Column("difference", String, nullable=False),
    Column("previous_hash", String, nullable=False),
    Column("hash", String, nullable=False),
)
