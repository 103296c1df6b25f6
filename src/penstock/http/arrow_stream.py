"""Arrow streams as requests bring them: read here, in bounds, and nothing taken on trust.

Polars and other readers take a stream for the work of a friend: a few altered bytes end the
process. What strangers send is read by this module, which knows the few types a request has and
checks every offset against the bytes there are.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from penstock.errors import InputError

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["Column", "read_stream"]

Kind = Literal["text", "whole", "number", "truth", "time", "null"]
CONTINUED = b"\xff\xff\xff\xff"
SCHEMA, DICTIONARY, BATCH = 1, 2, 3
NULL, INT, FLOAT, UTF8, BOOL, TIMESTAMP, LARGE_UTF8, UTF8_VIEW = 1, 2, 3, 5, 6, 10, 20, 24
TEXTS = {UTF8, LARGE_UTF8, UTF8_VIEW}
PER_SECOND = (1, 1_000, 1_000_000, 1_000_000_000)
SHORT_VIEW = 12
# Rows may share bytes, and dictionaries be many: a small body must not become a large request.
LONGEST_TEXT_BYTES = 8_192
MOST_TEXT_BYTES = 16 << 20
ENTRIES_PER_ROW = 10
NODE_BYTES = BUFFER_BYTES = 16
WRONG = (struct.error, IndexError, KeyError, OverflowError, TypeError, UnicodeDecodeError,
         ValueError)  # fmt: skip


@dataclass(frozen=True)
class Column:
    """A column of a request.

    Attributes:
        name: Its name.
        kind: What its values are; ``null`` where the type says that there are none.
        values: One per row, None for null; times in microseconds since 1970 UTC.
        zone: The time zone of a column of times; empty for none.
    """

    name: str
    kind: Kind
    values: list[Any]
    zone: str = ""


def read_stream(body: bytes, *, most_rows: int) -> list[Column]:
    """The columns of an Arrow stream, in its order.

    Args:
        body: A schema and any number of record batches, as the streaming format has it, without
            compression; columns may have dictionaries.
        most_rows: How many rows to take.

    Raises:
        InputError: It is no such stream, has a column of another type than text, whole numbers,
            floats, booleans, times or nothing, two columns of one name, or more rows.
    """
    reader = _Reader(most_rows)
    try:
        reader.read(body)
    except WRONG as error:
        raise InputError(
            f"The body is no Arrow stream that can be read: {type(error).__name__}: {error}. Send "
            "the streaming format (Polars: write_ipc_stream, pyarrow: new_stream)."
        ) from None
    fields = reader.fields or ()
    if len({field.name for field in fields}) < len(fields):
        raise InputError("The stream has two columns of one name. Send each column once.")
    return [
        Column(field.name, field.kind, values, field.zone)
        for field, values in zip(fields, reader.columns, strict=True)
    ]


@dataclass(frozen=True)
class _Field:
    """A column of the schema.

    ``dtype`` is of its values, None for text, booleans and nothing; ``dictionary`` the number of
    the dictionary that its values are in, None where they stand for themselves, and ``index`` the
    type of their places there.
    """

    name: str
    kind: Kind
    type: int
    dtype: np.dtype[Any] | None = None
    per_second: int = 0
    zone: str = ""
    dictionary: int | None = None
    index: np.dtype[Any] | None = None


def _field(table: _Table) -> _Field:
    field = _plain_field(table)
    if not table.at_field(4):
        return field
    encoding = table.table(4)
    index = _whole(encoding.table(1)) if encoding.at_field(1) else np.dtype("<i4")
    return replace(field, dictionary=encoding.number(0, "<q", 0), index=index)


def _plain_field(table: _Table) -> _Field:
    """The column as it is when its values stand for themselves."""
    name, kind = table.text(0), table.number(2, "<B", 0)
    if kind in TEXTS:
        return _Field(name, "text", kind)
    if kind == BOOL:
        return _Field(name, "truth", kind)
    if kind == NULL:
        return _Field(name, "null", kind)
    inner = table.table(3) if kind in {INT, FLOAT, TIMESTAMP} else None
    if inner is not None and kind == INT and inner.number(0, "<i", 0) in {8, 16, 32, 64}:
        return _Field(name, "whole", kind, _whole(inner))
    if inner is not None and kind == FLOAT:
        return _Field(name, "number", kind, np.dtype(("<f2", "<f4", "<f8")[inner.unit(0)]))
    if inner is not None and kind == TIMESTAMP:
        zone = inner.text(1) if inner.at_field(1) else ""
        return _Field(name, "time", kind, np.dtype("<i8"), PER_SECOND[inner.unit(0)], zone)
    raise InputError(
        f"Column {name!r} is of an Arrow type that no request has (number {kind} of the format). "
        "Send text, whole numbers, floats, booleans or times."
    )


def _whole(table: _Table) -> np.dtype[Any]:
    """The type of whole numbers that the format describes."""
    sign = "i" if table.number(1, "<B", 0) else "u"
    return np.dtype(f"<{sign}{table.number(0, '<i', 0) // 8}")


class _Reader:
    """Reads a stream message by message.

    Args:
        most_rows: How many rows to take.

    Attributes:
        fields: The columns of the schema; none before it has come.
        columns: The values of each so far.
    """

    def __init__(self, most_rows: int) -> None:
        self.fields: list[_Field] | None = None
        self.columns: list[list[Any]] = []
        self._most_rows = most_rows
        self._rows = self._entries = self._text_bytes = 0
        self._dictionaries: dict[int, list[Any]] = {}

    def read(self, body: bytes) -> None:
        """Read all messages."""
        place = 0
        while place < len(body):
            if body[place : place + 4] != CONTINUED:
                raise ValueError(f"no message begins at byte {place}")
            (size,) = struct.unpack_from("<i", body, place + 4)
            if size == 0:
                break
            data = _slice(body, place + 8, size)
            message = _Table(data, _offset(data, 0))
            place += 8 + size
            content = _slice(body, place, message.number(3, "<q", 0))
            place += len(content)
            self._message(message.number(1, "<B", 0), message.table(2), content)
        if self.fields is None:
            raise ValueError("it has no schema")

    def _message(self, kind: int, header: _Table, content: bytes) -> None:
        if kind == SCHEMA and self.fields is None:
            self.fields = [_field(table) for table in header.tables(1)]
            self.columns = [[] for _ in self.fields]
        elif kind == BATCH and self.fields is not None:
            self._rows += header.number(0, "<q", 0)
            if self._rows > self._most_rows:
                raise InputError(
                    f"There are more than {self._most_rows:,} rows. Send fewer at once."
                )
            found = self._batch(self.fields, header, content)
            for column, values in zip(self.columns, found, strict=True):
                column.extend(values)
        elif kind == DICTIONARY and self.fields is not None:
            self._dictionary(self.fields, header, content)
        else:
            raise ValueError(f"a message of kind {kind} where none is expected")

    def _dictionary(self, fields: list[_Field], header: _Table, content: bytes) -> None:
        number, batch = header.number(0, "<q", 0), header.table(1)
        self._entries += batch.number(0, "<q", 0)
        most = ENTRIES_PER_ROW * self._most_rows
        if self._entries > most:
            raise InputError(
                f"The dictionaries have more than {most:,} values. Send the columns as plain text."
            )
        plain = {field.dictionary: replace(field, dictionary=None) for field in fields}
        (values,) = self._batch([plain[number]], batch, content)
        is_delta = header.number(2, "<B", 0)
        known = self._dictionaries.get(number, []) if is_delta else []
        self._dictionaries[number] = known + values

    def _batch(self, fields: list[_Field], header: _Table, content: bytes) -> list[list[Any]]:
        if header.at_field(3):
            raise InputError("The Arrow stream is compressed. Send it without compression.")
        rows = header.number(0, "<q", 0)
        if rows < 0:
            raise ValueError(f"a batch of {rows} rows")
        nodes = header.vector(1, NODE_BYTES)
        buffers = _Buffers(header, content)
        found: list[list[Any]] = []
        for number, field in enumerate(fields):
            length, nulls = struct.unpack("<qq", nodes[NODE_BYTES * number :][:NODE_BYTES])
            if length != rows:
                raise ValueError(f"column {field.name!r} has {length} values for {rows} rows")
            if field.kind == "null" and field.dictionary is None:
                found.append([None] * rows)  # it has no buffers at all
                continue
            valid = buffers.take()
            there = _bits(valid, rows) if nulls else None
            found.append(self._values(field, buffers, rows, there))
        return found

    def _values(
        self, field: _Field, buffers: _Buffers, rows: int, there: list[bool] | None
    ) -> list[Any]:
        if field.dictionary is None:
            values = self._plain_values(field, buffers, rows)
            if there is None:
                return values
            return [v if known else None for v, known in zip(values, there, strict=True)]
        places = _array(buffers.take(), field.index or np.dtype("<i4"), rows).tolist()
        entries = self._dictionaries[field.dictionary]
        found = [
            _entry(entries, place) if known else None
            for place, known in zip(places, there or [True] * rows, strict=True)
        ]
        if field.kind == "text":
            self._count_text(sum(len(value) for value in found if value is not None))
        return found

    def _plain_values(self, field: _Field, buffers: _Buffers, rows: int) -> list[Any]:
        if field.type == UTF8_VIEW:
            views = buffers.take()
            return self._views(views, [buffers.take() for _ in range(buffers.variadic())], rows)
        if field.kind == "text":
            dtype = np.dtype("<i4" if field.type == UTF8 else "<i8")
            bounds = buffers.take()
            ends = _array(bounds, dtype, rows + 1).tolist() if rows or bounds else [0]
            data = buffers.take()
            return [self._text(data, low, high - low) for low, high in pairwise(ends)]
        if field.dtype is None:
            return _bits(buffers.take(), rows)
        values: list[Any] = _array(buffers.take(), field.dtype, rows).tolist()
        if field.kind != "time":
            return values
        # In Python's numbers: what is out of range then is an error and not another time.
        return [value * 1_000_000 // field.per_second for value in values]

    def _views(self, views: bytes, data: list[bytes], rows: int) -> list[str]:
        """Text of which short ones stand in their place, longer ones elsewhere."""
        found: list[str] = []
        each = struct.iter_unpack("<i4sii", _slice(views, 0, 16 * rows))
        for row, (size, _, buffer, start) in enumerate(each):
            if 0 <= size <= SHORT_VIEW:
                found.append(views[16 * row + 4 : 16 * row + 4 + size].decode())
            elif buffer < 0:
                raise ValueError("a text lies outside of its data")
            else:
                found.append(self._text(data[buffer], start, size))
        return found

    def _text(self, data: bytes, low: int, size: int) -> str:
        if size > LONGEST_TEXT_BYTES:
            raise InputError(
                f"A text is longer than {LONGEST_TEXT_BYTES:,} bytes. Send a shorter one."
            )
        self._count_text(size)
        return _slice(data, low, size).decode()

    def _count_text(self, size_bytes: int) -> None:
        self._text_bytes += size_bytes
        if self._text_bytes > MOST_TEXT_BYTES:
            raise InputError("Its texts come to more than 16 MiB. Send fewer rows at once.")


def _entry(entries: list[Any], place: int) -> Any:  # noqa: ANN401 - a value of any kind
    if place < 0:
        raise IndexError(f"place {place} of a dictionary")
    return entries[place]


def _bits(data: bytes, rows: int) -> list[bool]:
    packed = _array(data, np.dtype(np.uint8), (rows + 7) // 8)
    found: list[bool] = np.unpackbits(packed, bitorder="little")[:rows].astype(bool).tolist()
    return found


def _array(data: bytes, dtype: np.dtype[Any], count: int) -> NDArray[Any]:
    return np.frombuffer(data, dtype, count) if count else np.empty(0, dtype)


def _slice(data: bytes, low: int, size: int) -> bytes:
    if low < 0 or size < 0 or low + size > len(data):
        raise ValueError(f"{size} bytes at {low} of {len(data)}")
    return data[low : low + size]


def _offset(data: bytes, at: int) -> int:
    """Where the offset that stands at a place leads to."""
    (away,) = struct.unpack("<I", _slice(data, at, 4))
    return at + int(away)


class _Buffers:
    """The buffers of a batch, taken one after the other."""

    def __init__(self, header: _Table, content: bytes) -> None:
        self._places = list(struct.iter_unpack("<qq", header.vector(2, BUFFER_BYTES)))[::-1]
        counts = header.vector(4, 8) if header.at_field(4) else b""
        self._variadic = [count for (count,) in struct.iter_unpack("<q", counts)][::-1]
        self._content = content

    def take(self) -> bytes:
        return _slice(self._content, *self._places.pop())

    def variadic(self) -> int:
        """How many buffers the next column of views has beside the views."""
        count = self._variadic.pop()
        if count > len(self._places):
            raise ValueError(f"{count} buffers of {len(self._places)}")
        return int(count)


class _Table:
    """A table of FlatBuffers: its fields lie where its list of offsets says."""

    def __init__(self, data: bytes, at: int) -> None:
        (back,) = struct.unpack("<i", _slice(data, at, 4))
        (size,) = struct.unpack("<H", _slice(data, at - back, 2))
        self._offsets = _slice(data, at - back, size)
        self._data = data
        self._at = at

    def at_field(self, number: int) -> int:
        """Where a field lies; 0 where the table has it not."""
        offset = self._offsets[4 + 2 * number : 6 + 2 * number]
        away = int.from_bytes(offset, "little")
        return self._at + away if away else 0

    def number(self, number: int, form: str, default: int) -> int:
        at = self.at_field(number)
        if not at:
            return default
        (value,) = struct.unpack(form, _slice(self._data, at, struct.calcsize(form)))
        return int(value)

    def unit(self, number: int) -> int:
        """A small number that stands for one of a few; beyond them it is an error."""
        found = self.number(number, "<h", 0)
        if found < 0:
            raise IndexError(found)
        return found

    def table(self, number: int) -> _Table:
        return _Table(self._data, _offset(self._data, self._needed(number)))

    def vector(self, number: int, size: int) -> bytes:
        at = _offset(self._data, self._needed(number))
        (count,) = struct.unpack("<I", _slice(self._data, at, 4))
        return _slice(self._data, at + 4, count * size)

    def tables(self, number: int) -> list[_Table]:
        at = _offset(self._data, self._needed(number))
        count = len(self.vector(number, 4)) // 4
        places = [at + 4 + 4 * each for each in range(count)]
        return [_Table(self._data, _offset(self._data, place)) for place in places]

    def text(self, number: int) -> str:
        return self.vector(number, 1).decode()

    def _needed(self, number: int) -> int:
        at = self.at_field(number)
        if not at:
            raise KeyError(f"field {number} of the metadata")
        return at
