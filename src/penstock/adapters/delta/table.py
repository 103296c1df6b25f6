"""One Delta table: a handle that is kept, commits that are made once, listings that are checked."""

from __future__ import annotations

import threading
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar
from uuid import uuid4

import msgspec
import polars as pl
from deltalake import CommitProperties, DeltaTable, Transaction
from deltalake.exceptions import CommitFailedError, DeltaError, TableNotFoundError
from deltalake.transaction import AddAction

from penstock.errors import StateError, UnavailableError

from .frames import checked_schema, conformed, missing_fields, schema_of
from .holding import holding
from .listing import Listing, list_files, size_on_disk
from .removal import RACES, remove_below
from .vacuum import remove_old, vacuumed

if TYPE_CHECKING:
    from collections.abc import Collection, Generator, Mapping
    from contextlib import AbstractContextManager

    from deltalake.transaction import RemoveAction

__all__ = ["OneTable"]

Key = TypeVar("Key")
Value = TypeVar("Value")

# Expired logs are kept: a pinned version reads the same until somebody vacuums.
_CONFIGURATION = {
    "delta.checkpointInterval": "25",
    "delta.enableExpiredLogCleanup": "false",
}
# Appends never conflict in what they do, they only race for the next number.
_COMMIT_RETRIES = 500
_ATTEMPTS = 20
_KEPT = 16
# Readers of Delta tables pass over names that begin with an underscore.
_COMPACTION_LOCK = "_compaction.lock"
_CREATION_LOCK = "_creation.lock"


class OneTable:
    """A Delta table in a folder. Safe across threads and processes.

    The handle is opened once and updated by what is new in the log. Data files are written by
    Polars and committed by themselves: ``write_deltalake`` looks through all live files at each
    append, and so slows down with their number.
    """

    def __init__(self, name: str, folder: Path) -> None:
        self._name = name
        self._folder = folder
        self._lock = threading.RLock()
        self._opened: DeltaTable | None = None
        self._listings: dict[int, Listing] = {}
        self._numbers: dict[tuple[str, int], int] = {}

    def append(self, frame: pl.DataFrame, app: str, number: int) -> bool:
        """Commit the frame with the writer's number; False when the number was in already."""
        with self._lock, self._guarded():
            handle = self._handle() or self._create(frame)
            for _ in range(_ATTEMPTS):
                if (handle.transaction_version(app) or 0) >= number:
                    return False
                fitting = conformed(self._name, frame, schema_of(handle))
                # The number was read and is committed with the same state of the handle: this is
                # what makes a racing writer of the same number fail instead of writing it twice.
                if self._commit(handle, fitting, Transaction(app, number)):
                    self._refresh(handle)
                    return True
                self._refresh(handle)
        message = (
            f"The table {self._name!r} is being written too fast by another process as {app!r}. "
            "One writer at a time takes that name; try again."
        )
        raise UnavailableError(message, table=self._name, app=app, number=number)

    def widen(self, columns: Mapping[str, pl.DataType]) -> None:
        """Add the columns that the table lacks, in one commit; another process may do it first."""
        with self._lock, self._guarded():
            handle = self._handle()
            if handle is None or not missing_fields(handle, columns):
                return
            with self._creating():
                self._refresh(handle)
                if fields := missing_fields(handle, columns):
                    handle.alter.add_columns(fields, commit_properties=_properties())
                    self._refresh(handle)

    def applied(self, app: str, version: int | None = None) -> int:
        """The writer's greatest number, now or in an older version; 0 for none."""
        with self._lock, self._guarded():
            handle = self._handle()
            if handle is None or version is None or version == handle.version():
                return 0 if handle is None else handle.transaction_version(app) or 0
            if (app, version) not in self._numbers:
                _make_room(self._numbers)
                older = DeltaTable(self._folder, version=version)
                self._numbers[app, version] = older.transaction_version(app) or 0
            return self._numbers[app, version]

    def version(self) -> int | None:
        """The newest version, or None when there is no table."""
        with self._lock, self._guarded():
            handle = self._handle()
            return None if handle is None else handle.version()

    def listing(self, version: int) -> Listing:
        """The files of a version, each seen to be there with its size.

        Raises:
            NotFoundError: A vacuum has removed files that no later version needs.
            StateError: A file is missing or cut short, or the log cannot be read.
        """
        with self._lock, self._guarded():
            listing = self._listings.get(version) or self._list(version)
        for path, size_bytes in listing.files:
            found = size_on_disk(Path(path))
            if found is None and not self._in_newest(path):
                raise vacuumed(self._name, version)
            if found != size_bytes:
                raise self._damaged(f"its file '{path}' is missing or cut short")
        return listing

    def compact(self, below_bytes: int | None) -> None:
        """Merge small files as a new version; nothing happens when somebody else does it now."""
        with self._guarded(), self._compacting() as alone:
            if not alone:
                return
            # A handle of its own, without the table's lock: reading and appending go on meanwhile.
            handle = DeltaTable(self._folder)
            if len(handle.file_uris()) > 1:
                handle.optimize.compact(target_size=below_bytes, commit_properties=_properties())

    def remove(self, column: str, below: int) -> int:
        """Remove the rows whose number in a column is below a bound; returns how many."""
        with self._guarded(), holding(self._folder / _COMPACTION_LOCK, wait=True):
            return remove_below(self._name, self._folder, column, below, _properties())

    def vacuum(self, keep: Collection[int], older_than_h: int, *, dry_run: bool) -> list[int]:
        """Remove what only old versions need; the sizes of the files, in bytes."""
        with self._guarded(), self._compacting() as alone:
            if not alone:
                return []
            return remove_old(self._folder, keep, older_than_h, _properties(), dry_run=dry_run)

    def _compacting(self) -> AbstractContextManager[bool]:
        """Whether this is the only compaction of the table, for as long as the context is open.

        Of two at once the library commits both, and every row that both rewrote is there twice
        (deltalake 1.6.6; numbers of a writer do not keep them apart, as they do for appends).
        """
        return holding(self._folder / _COMPACTION_LOCK, wait=False)

    def _creating(self) -> AbstractContextManager[bool]:
        """Be the only one that creates the table; waits for another that does.

        Of two creations at once the library commits both, the second as version 1, and a writer
        that began from the first is told that the metadata have changed (deltalake 1.6.6).
        """
        return holding(self._folder / _CREATION_LOCK, wait=True)

    def _handle(self) -> DeltaTable | None:
        """The kept handle at the newest version; None when there is no table."""
        if self._opened is not None:
            self._refresh(self._opened)
        elif self._folder.is_dir():
            self._opened = self._open()
        return self._opened

    def _open(self) -> DeltaTable | None:
        try:
            handle = DeltaTable(self._folder)
        except TableNotFoundError:
            # The log is written before the first data file, so data without a log has lost it.
            if next(self._folder.glob("*.parquet"), None) is None:
                return None
            raise self._damaged("its log is gone") from None
        self._check_newest(handle)
        return handle

    def _create(self, frame: pl.DataFrame) -> DeltaTable:
        schema = checked_schema(self._name, frame)
        self._folder.mkdir(parents=True, exist_ok=True)
        with self._creating():
            self._opened = self._open()
            if self._opened is None:
                DeltaTable.create(self._folder, schema=schema, configuration=_CONFIGURATION)
                self._opened = DeltaTable(self._folder)
        return self._opened

    def _refresh(self, handle: DeltaTable) -> None:
        """Read what is new in the log; a look at the next log file's name tells whether it is."""
        if self._log_file(handle.version() + 1).exists():
            handle.update_incremental()
            self._check_newest(handle)

    def _check_newest(self, handle: DeltaTable) -> None:
        """An empty log file would pass for a version without changes."""
        path = self._log_file(handle.version())
        if size_on_disk(path) == 0:
            self._opened = None
            raise self._damaged(f"its log file '{path}' is empty")

    def _log_file(self, version: int) -> Path:
        return self._folder / "_delta_log" / f"{version:020}.json"

    def _commit(self, handle: DeltaTable, frame: pl.DataFrame, number: Transaction) -> bool:
        """Write the rows and commit them; False when the number may be in already."""
        actions: list[AddAction | RemoveAction] = [self._write(frame)] if frame.height else []
        try:
            handle.create_write_transaction(
                actions, "append", handle.schema(), commit_properties=_properties(number)
            )
        except CommitFailedError as error:
            for action in actions:
                (self._folder / action.path).unlink(missing_ok=True)
            if not any(race in str(error) for race in RACES):
                raise
            return False
        return True

    def _write(self, frame: pl.DataFrame) -> AddAction:
        path = self._folder / f"part-{uuid4()}.parquet"
        try:
            frame.write_parquet(path, compression="zstd", compression_level=1)
        except (OSError, pl.exceptions.ComputeError) as error:
            path.unlink(missing_ok=True)
            # Polars says in words what the disk said, such as that it is full.
            raise OSError(str(error).rpartition("error: ")[2]) from error
        stat = path.stat()
        return AddAction(
            path=path.name,
            size=stat.st_size,
            partition_values={},
            modification_time=stat.st_mtime_ns // 1_000_000,
            data_change=True,
            stats=msgspec.json.encode({"numRecords": frame.height}).decode(),
        )

    def _in_newest(self, path: str) -> bool:
        """Whether the newest version has a file."""
        with self._lock, self._guarded():
            handle = self._handle()
            return handle is not None and path in dict(self._list(handle.version()).files)

    def _list(self, version: int) -> Listing:
        handle = self._handle()
        if handle is None or handle.version() != version:
            handle = DeltaTable(self._folder, version=version)
        _make_room(self._listings)
        self._listings[version] = list_files(handle, self._folder)
        return self._listings[version]

    @contextmanager
    def _guarded(self) -> Generator[None]:
        """Tell the library's and the disk's errors in our words."""
        try:
            yield
        except DeltaError as error:
            self._opened = None
            raise self._damaged(str(error).partition("\n")[0]) from error
        except OSError as error:
            self._opened = None
            message = (
                f"The table {self._name!r} in '{self._folder}' cannot be read or written: "
                f"{error.strerror or error}. See that the folder can be written to and the disk "
                "has room, then try again."
            )
            raise StateError(message, table=self._name, path=str(self._folder)) from error

    def _damaged(self, what: str) -> StateError:
        message = (
            f"The table {self._name!r} in '{self._folder}' is damaged: {what}. "
            "Restore the folder from a backup; the rest of the project is not affected."
        )
        return StateError(message, table=self._name, path=str(self._folder))


def _properties(*numbers: Transaction) -> CommitProperties:
    return CommitProperties(
        app_transactions=list(numbers) or None, max_commit_retries=_COMMIT_RETRIES
    )


def _make_room(kept: dict[Key, Value]) -> None:
    """Of what is kept, the oldest goes."""
    if len(kept) >= _KEPT:
        kept.pop(next(iter(kept)))
