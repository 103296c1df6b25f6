"""How spaces lie in an LMDB environment: one is numbered, and its number leads its keys."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, NamedTuple

from penstock.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Iterator

    import lmdb

__all__ = [
    "DIRECTORY",
    "ENTRY",
    "LONGEST_KEY_BYTES",
    "NO_PROGRESS",
    "NUMBER",
    "PROGRESS",
    "Entry",
    "entry_key",
    "new_number",
    "pairs_in",
    "remove_space",
    "too_long",
]

LONGEST_KEY_BYTES = 511

# Keys begin with the number of their space. Space 0 is the directory: the name of each space leads
# to its entry, and the empty name to the greatest number given so far. A number is never given
# twice, so that a reader cannot take a new space's values for those of a dropped one.
NUMBER = struct.Struct(">I")
DIRECTORY = NUMBER.pack(0)
# Number, progress, token of the last claim. A space that was only claimed has no progress; one that
# was written before there were claims has a shorter entry, without a token.
ENTRY = struct.Struct(">Iqq")
PROGRESS = struct.Struct(">q")
NO_PROGRESS = -(1 << 63)


class Entry(NamedTuple):
    """What the directory says of a space; zeros where there is none."""

    number: int
    progress: int
    token: int

    @classmethod
    def read(cls, packed: bytes | None) -> Entry:
        """What is stored; None for nothing."""
        if packed is None:
            return cls(0, NO_PROGRESS, 0)
        return cls._make(ENTRY.unpack(packed.ljust(ENTRY.size, b"\0")))

    @property
    def reached(self) -> int | None:
        """The space's progress; None where it was never written."""
        return None if self.progress == NO_PROGRESS else self.progress


def entry_key(space: str) -> bytes:
    """The key of a space's entry.

    Raises:
        InputError: The name is empty or too long.
    """
    name = space.encode()
    if not name or len(name) + NUMBER.size > LONGEST_KEY_BYTES:
        raise too_long("space's name", name)
    return DIRECTORY + name


def too_long(what: str, key: bytes) -> InputError:
    """The error of a key or a name that is longer than LMDB takes."""
    longest = LONGEST_KEY_BYTES - NUMBER.size
    message = f"The {what} {key[:40]!r} has {len(key)} bytes; expected 1 to {longest}."
    return InputError(message, size_bytes=len(key))


def new_number(transaction: lmdb.Transaction[bytes]) -> int:
    """A number that no space has had."""
    given = transaction.get(DIRECTORY)
    number: int = NUMBER.unpack(given)[0] + 1 if given else 1
    transaction.put(DIRECTORY, NUMBER.pack(number))
    return number


def remove_space(transaction: lmdb.Transaction[bytes], space: str) -> None:
    """Remove a space with its values; nothing happens when it is not there."""
    entry = transaction.pop(entry_key(space))
    if entry is None:
        return
    prefix = entry[: NUMBER.size]
    with transaction.cursor() as cursor:
        found = cursor.set_range(prefix)
        while found and cursor.key().startswith(prefix):
            found = cursor.delete()


def pairs_in(
    transaction: lmdb.Transaction[bytes], prefix: bytes, first: bytes = b""
) -> Iterator[tuple[bytes, bytes]]:
    """Keys that begin with the prefix, without it, from the first on, and their values."""
    with transaction.cursor() as cursor:
        cursor.set_range(prefix + first)
        for key, value in cursor:
            if not key.startswith(prefix):
                return
            yield key[len(prefix) :], value
