"""Online store in one LMDB environment: spaces are numbered, a number leads each key."""

from __future__ import annotations

from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

import lmdb

from penstock.errors import StateError, UnavailableError
from penstock.ports import Changes, Found, OnlineStore, Some, claimed, passed

from .directory import (
    DIRECTORY,
    ENTRY,
    LONGEST_KEY_BYTES,
    NO_PROGRESS,
    NUMBER,
    PROGRESS,
    Entry,
    entry_key,
    new_number,
    pairs_in,
    remove_space,
    too_long,
)
from .layout import cut_short

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator, Sequence

    from penstock.errors import PenstockError

__all__ = ["LmdbOnlineStore"]

# Address space, not disk: the file grows as it is filled.
_MAP_SIZE_BYTES = 64 << 30
_MAX_READERS = 1024
_SPARE_TRANSACTIONS = 32


class LmdbOnlineStore(OnlineStore):
    """Spaces in one LMDB environment.

    Data pages are flushed before a commit returns, the page that names them a commit later: a power
    cut may take the newest write, never the file's integrity. A space may be written by one process
    and read by any number; a process opens a path once and shares the object among its threads.

    Args:
        path: The folder of the environment; made when it is not there.
        map_size_bytes: Greatest size of the file; takes address space, not disk.

    Raises:
        StateError: The store is damaged or cannot be opened.
        UnavailableError: This process has it open already.
    """

    def __init__(self, path: Path, *, map_size_bytes: int = _MAP_SIZE_BYTES) -> None:
        self._path = Path(path)
        with self._translated():
            self._path.mkdir(parents=True, exist_ok=True)
            if cut_short(self._path / "data.mdb"):
                raise _damaged(self._path, "its file is shorter than what was written")
            self._environment = lmdb.open(
                str(self._path),
                map_size=map_size_bytes,
                metasync=False,
                max_readers=_MAX_READERS,
                max_spare_txns=_SPARE_TRANSACTIONS,
            )
            # Readers that were killed keep old pages from being used again.
            self._environment.reader_check()

    def get(self, space: str, keys: Sequence[bytes]) -> list[bytes | None]:
        """The values of the keys, in their order, as of one moment.

        Raises:
            StateError: The store is damaged.
        """
        # The hot path: a try statement costs nothing here, a context manager half of the call.
        try:
            with self._environment.begin() as transaction:
                entry = transaction.get(entry_key(space))
                if entry is None:
                    return [None] * len(keys)
                number = entry[: NUMBER.size]
                return [transaction.get(number + key) for key in keys]
        except lmdb.Error as error:
            raise self._in_our_words(error) from error

    def look(self, asks: Sequence[tuple[str, Sequence[bytes]]]) -> list[Found]:
        """The values of keys in several spaces and each space's progress, all as of one moment.

        Raises:
            StateError: The store is damaged.
        """
        found: list[Found] = []
        try:
            with self._environment.begin() as transaction:
                for space, keys in asks:
                    entry = transaction.get(entry_key(space))
                    if entry is None:
                        found.append(Found(None, [None] * len(keys)))
                        continue
                    number = entry[: NUMBER.size]
                    (progress,) = PROGRESS.unpack_from(entry, NUMBER.size)
                    values = [transaction.get(number + key) for key in keys]
                    found.append(Found(None if progress == NO_PROGRESS else progress, values))
        except lmdb.Error as error:
            raise self._in_our_words(error) from error
        return found

    def claim(self, space: str, token: int, *, anew: bool = False) -> int | None:
        """Become the one who writes a space: whoever claimed it before can write nothing more.

        Raises:
            ConflictError: Somebody with a greater token has claimed it; nothing was done.
            StateError: The store is full or damaged.
        """
        if not anew:
            with self._translated(), self._environment.begin() as transaction:
                entry = Entry.read(transaction.get(entry_key(space)))
            if entry.token == token:
                return entry.reached
        with self._writing() as transaction:
            entry = Entry.read(transaction.get(entry_key(space)))
            if entry.token > token:
                raise claimed(space, entry.token, token)
            if anew:
                remove_space(transaction, space)
                entry = Entry.read(None)
            number = entry.number or new_number(transaction)
            transaction.put(entry_key(space), ENTRY.pack(number, entry.progress, token))
        return entry.reached

    def write(
        self, space: str, values: Changes, *, progress: int, token: int | None = None
    ) -> None:
        """Store or remove values, and store the number of the last raw batch they contain.

        Raises:
            ConflictError: The space's progress is at or past that number, or its last claim is not
                that token; nothing was stored.
            InputError: A key is too long.
            StateError: The store is full or damaged.
        """
        longest = max(values, key=len, default=b"")
        if len(longest) + NUMBER.size > LONGEST_KEY_BYTES:
            raise too_long("key", longest)
        with self._writing() as transaction:
            entry = Entry.read(transaction.get(entry_key(space)))
            if token not in {None, entry.token}:
                raise claimed(space, entry.token, token or 0)
            if progress <= entry.progress:
                raise passed(space, entry.progress, progress)
            number = entry.number or new_number(transaction)
            prefix = NUMBER.pack(number)  # sorted: neighbours come to the same page in turn
            changes = [(prefix + key, values[key]) for key in sorted(values)]
            with transaction.cursor() as cursor:
                cursor.putmulti([(at, value) for at, value in changes if value is not None])
            for at in [at for at, value in changes if value is None]:
                transaction.delete(at)
            transaction.put(entry_key(space), ENTRY.pack(number, progress, entry.token))

    def progress(self, space: str) -> int | None:
        """Number of the last raw batch folded in; None when the space was never written."""
        with self._translated(), self._environment.begin() as transaction:
            return Entry.read(transaction.get(entry_key(space))).reached

    def items(self, space: str) -> Iterator[tuple[bytes, bytes]]:
        """Every key and value of a space, as of one moment, by key."""
        with self._translated(), self._environment.begin() as transaction:
            entry = transaction.get(entry_key(space))
            if entry is not None:
                yield from pairs_in(transaction, entry[: NUMBER.size])

    def some(self, space: str, after: bytes, size: int) -> Some:
        """So many keys and values of a space, by key.

        Raises:
            StateError: The store is damaged.
        """
        with self._translated(), self._environment.begin() as transaction:
            entry = transaction.get(entry_key(space))
            if entry is None:
                return Some([], b"")
            # The last key of the call before comes again, unless it has gone since.
            items = list(islice(pairs_in(transaction, entry[: NUMBER.size], after[:-1]), size + 1))
        if after and items and items[0][0] == after[:-1]:
            del items[0]
        items = items[:size]
        # An empty key has to be told from none.
        return Some(items, items[-1][0] + b"." if len(items) == size else b"")

    def spaces(self) -> list[str]:
        """Names of the spaces, sorted."""
        with self._translated(), self._environment.begin() as transaction:
            return sorted(name.decode() for name, _ in pairs_in(transaction, DIRECTORY) if name)

    def drop(self, space: str, *, token: int | None = None) -> None:
        """Remove a space and its claim; nothing happens when it is not there.

        Raises:
            ConflictError: The space's last claim is not that token; nothing was done.
        """
        with self._writing() as transaction:
            packed = transaction.get(entry_key(space))
            entry = Entry.read(packed)
            if packed is not None and token not in {None, entry.token}:
                raise claimed(space, entry.token, token or 0)
            remove_space(transaction, space)

    def close(self) -> None:
        """Let go of the store; the object is not used afterwards."""
        self._environment.close()

    @contextmanager
    def _writing(self) -> Generator[lmdb.Transaction[bytes]]:
        """A transaction that alone writes; undone when the body raises."""
        with self._translated(), self._environment.begin(write=True) as transaction:
            yield transaction

    @contextmanager
    def _translated(self) -> Generator[None]:
        try:
            yield
        except (lmdb.Error, OSError) as error:
            raise self._in_our_words(error) from error

    def _in_our_words(self, error: Exception) -> PenstockError:
        facts = {"path": str(self._path)}
        if isinstance(error, lmdb.MapFullError):
            message = (
                f"The online store '{self._path}' is full: it has reached its greatest size. "
                "Drop spaces of feature views that are no longer used."
            )
            return StateError(message, **facts)
        if isinstance(error, lmdb.ReadersFullError):
            message = (
                f"The online store '{self._path}' has {_MAX_READERS} readers, as many as it takes. "
                "Stop some processes, then try again."
            )
            return UnavailableError(message, **facts)
        if "already open" in str(error):
            message = (
                f"The online store '{self._path}' is open in this process already. "
                "Share that object among threads, or close it first."
            )
            return UnavailableError(message, **facts)
        return _damaged(self._path, str(error))


def _damaged(path: Path, what: str) -> StateError:
    message = (
        f"The online store '{path}' is damaged or cannot be used: {what}. See that its folder can "
        "be written to and the disk has room. If it is damaged, stop all processes and remove the "
        "folder: it is built again from the tables."
    )
    return StateError(message, path=str(path))
