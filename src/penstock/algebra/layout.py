"""The packed online value: everything of one view and entity in one string of bytes.

    word 0              b"PNSK", format as two bytes, two zero bytes
    word 1              the program's fingerprint
    word 2              time of the entity's newest event, int64 microseconds
    words 3 .. 3+G-1    number of tiles of each group, int64
    then for each group:
        one row         the tiles' indices, int64, ascending
        a row per word  of the states, float64

All words are 8 bytes, little-endian; a row has one word per tile. Tiles without events are not
there; the one with the newest event always is.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from penstock.errors import StateError

from .arrays import FloatArray, IntArray, Words, concatenate_ranges
from .program import FORMAT
from .state import NEVER_US

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Never

    from .program import Group, Program

__all__ = [
    "COUNTS_AT",
    "Stored",
    "Tiles",
    "check",
    "header_of",
    "newest_of",
    "newest_one",
    "pack",
    "unpack",
]

COUNTS_AT = 3
"""The word where the numbers of tiles begin."""

WORD_BYTES = 8
MAGIC = b"PNSK"
NEWEST_WORD = 2
NEWEST_AT = slice(NEWEST_WORD * WORD_BYTES, (NEWEST_WORD + 1) * WORD_BYTES)
NEWEST = struct.Struct("<q")
NEVER = NEWEST.pack(NEVER_US)


@dataclass(frozen=True, kw_only=True)
class Tiles:
    """The tiles of one group for many entities, by entity and index.

    Attributes:
        codes: The entity of each.
        index: Its index, as ``windows.tile_of`` counts.
        words: Its states, one array per word.
        rows: The words as the rows of one array; none where they are not that anyway.
    """

    codes: IntArray
    index: IntArray
    words: Words
    rows: FloatArray | None = None


@dataclass(frozen=True, kw_only=True)
class Stored:
    """What packed values hold.

    Attributes:
        newest_us: Time of the newest event of each entity.
        groups: The tiles of each group of the program.
    """

    newest_us: IntArray
    groups: tuple[Tiles, ...]


def header_of(program: Program) -> bytes:
    """The first two words of every value of a program."""
    return MAGIC + struct.pack("<HH", FORMAT, 0) + program.fingerprint


def newest_one(value: bytes) -> int:
    """Time of the newest event in one value, int64 microseconds."""
    if len(value) < COUNTS_AT * WORD_BYTES:
        raise _refusal("it is too short")
    return int(NEWEST.unpack_from(value, NEWEST_AT.start)[0])


def newest_of(values: Sequence[bytes | None]) -> IntArray:
    """Time of the newest event in each value, int64 microseconds; ``NEVER_US`` for None."""
    times = b"".join([NEVER if value is None else value[NEWEST_AT] for value in values])
    if len(times) != len(values) * WORD_BYTES:
        raise _refusal("it is too short")
    return np.frombuffer(times, "<i8")


def check(program: Program, value: bytes, header: bytes) -> tuple[int, ...]:
    """Refuse a value that is not one of this program.

    Args:
        program: The compiled view.
        value: The bytes.
        header: What ``header_of`` gives for the program.

    Returns:
        The number of tiles of each group.

    Raises:
        StateError: It is no packed value, one of another program, or incomplete.
    """
    groups = len(program.groups)
    if len(value) < (COUNTS_AT + groups) * WORD_BYTES:
        raise _refusal("it is too short")
    if value[:16] != header:
        raise _refusal(
            "it begins with another format or belongs to another version of the feature view"
        )
    counts = struct.unpack_from(f"<{groups}q", value, COUNTS_AT * WORD_BYTES)
    words = COUNTS_AT + groups
    for group, tiles in zip(program.groups, counts, strict=True):
        words += tiles * (1 + group.width)
    if min(counts) < 1 or words * WORD_BYTES != len(value):
        raise _refusal("its length does not fit what it says it holds")
    return counts


def _refusal(why: str) -> StateError:
    return StateError(
        f"A value of the online store cannot be read: {why}. Nothing is lost, since the raw tables "
        "hold every record: delete the online store and run 'penstock features build'.",
        reason=why,
    )


def unpack(program: Program, values: Sequence[bytes]) -> Stored:
    """Read many values at once.

    Args:
        program: The compiled view.
        values: One value per entity; the entities get the codes 0, 1, ...

    Raises:
        StateError: One of them is not a value of this program.
    """
    return _of_one_shape(program, values) or _of_any_shape(program, values)


def _of_one_shape(program: Program, values: Sequence[bytes]) -> Stored | None:
    """Values that all have as many tiles: the rows of one matrix. None where they have not."""
    if len(set(map(len, values))) != 1:
        return None
    counts = check(program, values[0], header_of(program))
    matrix = np.frombuffer(b"".join(values), "<i8").reshape(len(values), -1)
    heads = COUNTS_AT + len(counts)
    alike = matrix[:, :heads] == matrix[0, :heads]
    alike[:, NEWEST_WORD] = True
    if not alike.all():
        return None
    columns = np.ascontiguousarray(matrix.T)
    return Stored(
        newest_us=columns[NEWEST_WORD], groups=_columns(program.groups, counts, heads, columns)
    )


def _of_any_shape(program: Program, values: Sequence[bytes]) -> Stored:
    """Values that have different numbers of tiles.

    Raises:
        StateError: One of them is not a value of this program.
    """
    sizes = np.fromiter(map(len, values), np.int64, len(values))
    heads = COUNTS_AT + len(program.groups)
    if (sizes < heads * WORD_BYTES).any() or (sizes % WORD_BYTES).any():
        _refuse_one_of(program, values)
    ints = np.frombuffer(b"".join(values), "<i8")
    ends = np.cumsum(sizes) // WORD_BYTES
    starts = ends - sizes // WORD_BYTES
    counts = ints[starts[:, None] + np.arange(COUNTS_AT, heads)]
    whole = heads + counts @ np.array([1 + group.width for group in program.groups])
    magic, fingerprint = np.frombuffer(header_of(program), "<i8")
    alike = (ints[starts] == magic) & (ints[starts + 1] == fingerprint)
    if not (alike & (whole * WORD_BYTES == sizes)).all() or (counts < 1).any():
        _refuse_one_of(program, values)
    groups = _gathered(program.groups, counts, starts + heads, ints)
    return Stored(newest_us=ints[starts + NEWEST_WORD], groups=groups)


def _columns(
    groups: Sequence[Group], counts: Sequence[int], place: int, columns: IntArray
) -> tuple[Tiles, ...]:
    """The tiles of values that all have as many.

    Args:
        groups: The groups.
        counts: Tiles of each group, the same in all values.
        place: Words before the first row.
        columns: The values, a column each.
    """
    size = columns.shape[1]
    found: list[Tiles] = []
    for group, tiles in zip(groups, counts, strict=True):
        past = place + tiles * (1 + group.width)
        rows = columns[place:past]
        if tiles > 1:
            # From (row, tile, entity) to (row, entity, tile): the tiles of an entity side by side.
            rows = rows.reshape(-1, tiles, size).swapaxes(1, 2).reshape(-1, size * tiles)
        floats = rows.view("<f8")[1:]
        codes = np.repeat(np.arange(size), tiles)
        found.append(Tiles(codes=codes, index=rows[0], words=tuple(floats), rows=floats))
        place = past
    return tuple(found)


def _gathered(
    groups: Sequence[Group], counts: IntArray, place: IntArray, ints: IntArray
) -> tuple[Tiles, ...]:
    """The tiles of values that have different numbers of them.

    Args:
        groups: The groups.
        counts: Tiles of each value (row) and group (column).
        place: Where each value's first row begins.
        ints: The words of all values.
    """
    floats = ints.view("<f8")
    found: list[Tiles] = []
    for number, group in enumerate(groups):
        tiles = counts[:, number]
        row = np.repeat(place, tiles) + concatenate_ranges(tiles)
        step = np.repeat(tiles, tiles)
        index = ints[row]
        words: list[FloatArray] = []
        for _ in range(group.width):
            row += step
            words.append(floats[row])
        codes = np.repeat(np.arange(len(counts)), tiles)
        found.append(Tiles(codes=codes, index=index, words=tuple(words)))
        place = place + tiles * (1 + group.width)
    return tuple(found)


def _refuse_one_of(program: Program, values: Sequence[bytes]) -> Never:
    """Refuse the value that is at fault, as reading it alone would."""
    header = header_of(program)
    for value in values:
        check(program, value, header)
    raise _refusal("its length does not fit what it says it holds")


def pack(program: Program, stored: Stored) -> list[bytes]:
    """Write many values at once; the reverse of ``unpack``.

    Args:
        program: The compiled view.
        stored: What to write; the codes 0, 1, ... are the places in the result.
    """
    size = len(stored.newest_us)
    counts = np.stack([np.bincount(tiles.codes, minlength=size) for tiles in stored.groups], axis=1)
    heads = COUNTS_AT + len(program.groups)
    widths = np.array([1 + group.width for group in program.groups])
    ends = np.cumsum(heads + counts @ widths)
    starts = np.concatenate([np.zeros(min(1, size), np.int64), ends[:-1]])
    ints = np.empty(int(ends[-1]) if size else 0, dtype="<i8")
    ints[starts], ints[starts + 1] = np.frombuffer(header_of(program), "<i8")
    ints[starts + 2] = stored.newest_us
    for number in range(len(program.groups)):
        ints[starts + COUNTS_AT + number] = counts[:, number]
    _write_rows(program.groups, stored.groups, counts, starts + heads, ints)
    whole = ints.tobytes()
    cuts = (np.concatenate([starts, ends[-1:]]) * WORD_BYTES).tolist()
    return [whole[low:high] for low, high in pairwise(cuts)]


def _write_rows(
    groups: Sequence[Group],
    stored: Sequence[Tiles],
    counts: IntArray,
    place: IntArray,
    ints: IntArray,
) -> None:
    """Write each group's rows at ``place`` and after, per entity."""
    floats = ints.view("<f8")
    for number, (group, tiles) in enumerate(zip(groups, stored, strict=True)):
        count = counts[:, number]
        row = np.repeat(place, count) + concatenate_ranges(count)
        step = np.repeat(count, count)
        ints[row] = tiles.index
        for word in tiles.words:
            row += step
            floats[row] = word
        place = place + count * (1 + group.width)
