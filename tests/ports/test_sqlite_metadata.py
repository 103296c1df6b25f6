from __future__ import annotations

import hashlib
import sqlite3
from contextlib import closing
from functools import partial
from typing import TYPE_CHECKING

import msgspec
import pytest

from penstock.adapters.sqlite import SqliteMetadata
from penstock.adapters.system import SystemClock
from penstock.errors import StateError, UnavailableError
from penstock.ports import Audit, Put
from penstock.testing.metadata_suite import MetadataSuite, Note

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from penstock.ports import Metadata

REHASH = (
    "UPDATE audit SET hash = "
    "rehash(sequence, at, actor, action, subject, difference, previous_hash)"
)
INSERT = (
    "INSERT INTO audit SELECT 4, at, actor, action, subject, difference, hash, '' "
    "FROM audit WHERE sequence = 3"
)
# What is forged, by which statements, and what the check of the chain says to it.
FORGERIES = {
    "an entry altered": (
        ["UPDATE audit SET actor = 'you' WHERE sequence = 2"],
        "2: its content is not what was written",
    ),
    "an entry altered with its hash": (
        ["UPDATE audit SET actor = 'you' WHERE sequence = 2", REHASH],
        "3: it does not follow",
    ),
    "the newest altered with its hash": (
        ["UPDATE audit SET actor = 'you' WHERE sequence = 3", REHASH],
        "3: it is not the newest entry that was written",
    ),
    "an entry removed": (["DELETE FROM audit WHERE sequence = 2"], "2: it is missing"),
    "the newest removed": (["DELETE FROM audit WHERE sequence = 3"], "3: the end was removed"),
    "all removed": (["DELETE FROM audit"], "1: the end was removed"),
    "an entry inserted": (
        [
            INSERT,
            REHASH,
        ],
        "4: the end was removed or added to",
    ),
}


class TestSqliteMetadata(MetadataSuite):
    @pytest.fixture
    def opener(self, tmp_path: Path) -> Callable[[], Metadata]:
        return partial(SqliteMetadata, tmp_path / "state" / "metadata.db", SystemClock())


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "metadata.db"


def opened(path: Path) -> SqliteMetadata:
    return SqliteMetadata(path, SystemClock(), busy_timeout_s=0.05)


def rehash(*values: object) -> str:
    return hashlib.sha256(msgspec.json.encode(values)).hexdigest()


def execute(path: Path, *statements: str) -> None:
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.create_function("rehash", -1, rehash)
        for statement in statements:
            connection.execute(statement)


@pytest.mark.parametrize(("statements", "said"), FORGERIES.values(), ids=FORGERIES)
def test_forged_audit_is_found(path: Path, statements: list[str], said: str) -> None:
    with closing(opened(path)) as store:
        for subject in "abc":
            store.write(audit=Audit(actor="me", action="do", subject=subject, difference={"to": 1}))
        assert store.verify_audit() == 3
        execute(path, "DROP TRIGGER audit_refuses_UPDATE", "DROP TRIGGER audit_refuses_DELETE")
        execute(path, *statements)
        with pytest.raises(StateError, match=f"audit chain is broken at entry {said}"):
            store.verify_audit()


@pytest.mark.parametrize("change", ["DELETE FROM audit", "UPDATE audit SET actor = 'you'"])
def test_audit_table_is_append_only(path: Path, change: str) -> None:
    with closing(opened(path)) as store:
        store.write(audit=Audit(actor="me", action="do", subject="a"))
        with pytest.raises(sqlite3.IntegrityError, match="append-only"):
            execute(path, change)
        assert [entry.actor for entry in store.audit()] == ["me"]


def test_locked_database_is_unavailable(path: Path) -> None:
    with closing(opened(path)) as store, closing(sqlite3.connect(path)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(UnavailableError, match="locked"):
            store.write(Put(Note(topic="a", number=1)))
        assert store.find(Note) == []
        other.rollback()
        store.write(Put(Note(topic="a", number=1)))


@pytest.mark.parametrize("content", [b"junk" * 4096, b"SQLite format 3\x00" + b"\xff" * 8192])
def test_file_that_is_no_database(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    with pytest.raises(StateError, match="damaged") as caught:
        opened(path)
    assert caught.value.facts["path"] == str(path)
    assert path.read_bytes() == content


def test_damaged_pages(path: Path) -> None:
    with closing(opened(path)) as store:
        store.write(*(Put(Note(topic="a", number=n, text="x" * 500)) for n in range(200)))
    size_bytes = path.stat().st_size
    with path.open("r+b") as file:
        file.seek(4096)
        file.write(b"\xff" * (size_bytes - 4096))
    with pytest.raises(StateError, match="damaged"), closing(opened(path)) as store:
        store.find(Note)


def test_damaged_record(path: Path) -> None:
    with closing(opened(path)) as store:
        store.write(Put(Note(topic="a", number=1)))
        execute(path, "UPDATE records SET body = '{'")
        with pytest.raises(StateError, match="'a/0001'"):
            store.read(Note, "a/0001")


def test_newer_database_is_refused(path: Path) -> None:
    opened(path).close()
    execute(path, "UPDATE meta SET schema = 99")
    with pytest.raises(StateError, match="schema 99"):
        opened(path)


def test_folder_that_cannot_be_made(path: Path) -> None:
    path.write_text("a file where a folder should be")
    with pytest.raises(StateError, match="cannot be opened"):
        opened(path / "inner" / "metadata.db")
