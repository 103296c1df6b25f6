"""Entities, the sources their records come from, and what records are completed with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, ClassVar, Literal, NamedTuple, cast

import msgspec

from penstock.errors import nearest

from .base import Named, Value
from .dtypes import DType
from .durations import duration_us
from .expectations import Expectation

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["Captured", "Entity", "Files", "Lookup", "Source", "Topic"]

RESERVED = "_"  # columns that begin with it are the platform's own
OWN_TOPICS = ("events", "notifications", "observations", "observations.rejected")
"""Topics of the platform; a source that read one would take what is said there for records."""


class Entity(Named, frozen=True, kw_only=True, tag="entity"):
    """What features are about. Its name is also the column that identifies it.

    Attributes:
        dtype: Type of the key: text of at most 500 bytes, or whole number.
    """

    dtype: DType = DType.STRING

    def _faults(self) -> Iterator[str]:
        yield from super()._faults()
        if self.dtype not in {DType.STRING, DType.INT64}:
            yield f"dtype {self.dtype.value!r} cannot be a key; use ps.String or ps.Int64"


class Files(Value, frozen=True, omit_defaults=True):
    """Files that hold a source's records; each file is one batch.

    Attributes:
        pattern: Path or glob, relative to the project folder.
        format: ``csv`` (``.gz`` too), ``parquet`` or ``jsonl``; from the file's ending when empty.
        columns: The source's column to the file's column, where they differ.
        name_as: Column filled with the file's name without its endings.
    """

    pattern: str
    format: Literal["", "csv", "parquet", "jsonl"] = ""
    columns: Mapping[str, str] = msgspec.field(default_factory=dict)
    name_as: str = ""


class Topic(Value, frozen=True, omit_defaults=True):
    """A topic of the event log that carries a source's records.

    Attributes:
        name: Name of the topic.
    """

    name: str


class Lookup(Value, frozen=True, omit_defaults=True):
    """What a record is completed with from another source when it is taken in.

    Found is the newest record of the other source with the key that ``on`` holds, among those that
    are known when the record is: both times count with their source's ``known_after``. Of two known
    at one time, the one that arrived later. The values stay with the record as they were then.

    Attributes:
        source: The source that is looked into.
        on: The column whose value is the other source's key; of the same type.
        columns: Names of the new columns to the other source's columns.
        within: How long what was found stays true, such as ``"30d"``: a record that is as old as
            that or older is not found. For ever when empty.
    """

    source: Source
    on: str
    columns: Mapping[str, str]
    within: str = ""

    @property
    def within_us(self) -> int:
        """How long what was found stays true, in microseconds; 0 for ever."""
        return duration_us(self.within) if self.within else 0

    def _subject(self) -> str:
        return f"Lookup on {self.on!r}"

    def _faults(self) -> Iterator[str]:
        known = self.source.columns
        named = cast("object", self.columns)  # a project is not type-checked
        if not isinstance(named, Mapping):
            yield (
                f"columns is {named!r}; map each new column to one of {self.source.name!r}, such "
                f"as columns={_example(self.source)}"
            )
            return
        if not self.columns:
            yield f"it takes no column; name some, such as columns={_example(self.source)}"
        for name, column in self.columns.items():
            if name.startswith(RESERVED) or not name:
                yield f"column {name!r}: names that begin with '_' belong to the platform"
            if column not in known:
                yield (
                    f"{name!r} is to be {column!r} of source {self.source.name!r}, which has no "
                    f"such column. {nearest(column, list(known))}"
                )
        try:
            if self.within and not duration_us(self.within):
                yield "within is zero; leave it out for records of any age"
        except ValueError as error:
            yield f"within: {error}"


def _example(source: Source) -> str:
    others = [name for name in source.schema if name != source.entity.name]
    return f"{{{others[-1]!r}: {others[-1]!r}}}"


class Captured(NamedTuple):
    """Where a column that a record is completed with comes from.

    Attributes:
        lookup: What finds it.
        column: The column of the source that is looked into.
    """

    lookup: Lookup
    column: str

    @property
    def dtype(self) -> DType:
        """Type of its values."""
        return self.lookup.source.columns[self.column]


class Source(Named, frozen=True, kw_only=True, tag="source"):
    """Where raw records come from and what they look like.

    Attributes:
        entity: What a record is about.
        timestamp: The column with the record's own time.
        schema: Every column and its type; the entity's key and the timestamp are among them.
        nullable: Columns that may be empty; a float column among them takes NaN as empty.
        expect: The rules a record has to keep.
        known_after: How long after its timestamp a record is known, such as ``"1h"`` for a
            candle stamped with its opening. Every time in features counts from then.
        batch: The files it is read from.
        stream: The topic its events arrive on; its own name when not given.
        lookups: What its records are completed with from other sources, when they are taken in. One
            may go by a column that another before it brings.
    """

    LATER: ClassVar[tuple[str, ...]] = ("lookups",)

    entity: Entity
    timestamp: str
    schema: Mapping[str, DType]
    nullable: Sequence[str] = ()
    expect: Sequence[Expectation] = ()
    known_after: str = ""
    batch: Files | None = None
    stream: Topic | None = None
    lookups: Sequence[Lookup] = ()

    @property
    def captured(self) -> dict[str, Captured]:
        """The columns that its records are completed with, by name, in the order of lookups."""
        return {
            name: Captured(lookup, column)
            for lookup in self.lookups
            for name, column in lookup.columns.items()
        }

    @property
    def columns(self) -> dict[str, DType]:
        """Every column of its stored records: those that arrive, and those looked up."""
        return {**self.schema, **{name: one.dtype for name, one in self.captured.items()}}

    @property
    def looks_into(self) -> tuple[Source, ...]:
        """The sources that its records are completed from, directly or through each other.

        Each once, after those that it looks into itself.
        """
        found: dict[str, Source] = {}
        for lookup in self.lookups:
            for source in (*lookup.source.looks_into, lookup.source):
                found.setdefault(source.name, source)
        return tuple(found.values())

    @property
    def known_after_us(self) -> int:
        """How long after its timestamp a record is known, in microseconds."""
        return duration_us(self.known_after) if self.known_after else 0

    @property
    def topic(self) -> str:
        """The topic of the event log its events arrive on."""
        if self.stream:
            return self.stream.name
        return f"{self.name}.records" if self.name in OWN_TOPICS else self.name

    @property
    def identity(self) -> tuple[str, ...]:
        """The columns that identify a record: those of ``unique``, else all of them."""
        for rule in self.expect:
            if rule.rule == "unique":
                return rule.columns
        return tuple(self.schema)

    def _faults(self) -> Iterator[str]:
        yield from super()._faults()
        if untyped := self._untyped():
            yield from untyped
            return
        columns = list(self.schema)
        yield from self._topic_faults()
        yield from self._file_faults(columns)
        yield from self._key_faults(columns)
        for name in columns:
            if name.startswith(RESERVED) or not name:
                yield f"column {name!r}: names that begin with '_' belong to the platform"
        for name in self.nullable:
            if name not in self.schema:
                yield f"nullable names {name!r}, which is no column. {nearest(name, columns)}"
        for rule in self.expect:
            for name in sorted(rule.reads - set(columns)):
                yield f"{rule.name} reads {name!r}, which is no column. {nearest(name, columns)}"
            yield from self._rule_faults(rule)
        if [rule.rule for rule in self.expect].count("unique") > 1:
            yield "unique is declared twice; a record has one identity"
        try:
            duration_us(self.known_after or "0s")
        except ValueError as error:
            yield f"known_after: {error}"
        yield from self._lookup_faults()

    def _lookup_faults(self) -> Iterator[str]:
        known = dict(self.schema)
        for lookup in self.lookups:
            other, on = lookup.source, lookup.on
            if self.name in {one.name for one in (other, *other.looks_into)}:
                way = "itself" if other.name == self.name else f"itself through {other.name!r}"
                yield f"the lookup on {on!r} looks into {way}; a record cannot be completed so"
            if on not in known:
                yield f"the lookup on {on!r} names no column. {nearest(on, list(known))}"
            elif known[on] != other.entity.dtype:
                yield (
                    f"the lookup on {on!r} goes by {known[on].value}, but the key of "
                    f"{other.name!r} is {other.entity.dtype.value}; give both one type"
                )
            for name in lookup.columns:
                if name in known:
                    yield f"the lookup on {on!r} brings {name!r}, which is a column already"
            known |= {name: other.columns[column] for name, column in lookup.columns.items()}
        ways = [(lookup.source.name, lookup.on) for lookup in self.lookups]
        for name, on in sorted({way for way in ways if ways.count(way) > 1}):
            yield f"two lookups on {on!r} look into {name!r}; put their columns into one"

    def _untyped(self) -> list[str]:
        """A fault for each column whose type is none of ours; nothing else can be said then."""
        types = "ps.String, ps.Int64, ps.Float64, ps.Boolean or ps.Timestamp"
        columns = cast("Mapping[str, object]", self.schema)  # a project is not type-checked
        return [
            f"column {name!r} has the type {dtype!r}; give it {types}"
            for name, dtype in columns.items()
            if not isinstance(dtype, DType)
        ]

    def _rule_faults(self, rule: Expectation) -> Iterator[str]:
        numeric = rule.rule in {"positive", "between"}
        if not numeric and rule.rule not in {"one_of", "matches"}:
            return
        for name in sorted(rule.reads & set(self.schema)):
            dtype = self.schema[name]
            if not (dtype.is_number if numeric else dtype is DType.STRING):
                takes = "numbers" if numeric else "text"
                yield f"{rule.name} takes {takes}, but {name!r} is {dtype.value}"

    def _topic_faults(self) -> Iterator[str]:
        if self.stream and self.stream.name in OWN_TOPICS:
            yield f"the topic {self.stream.name!r} is the platform's own; give another"

    def _file_faults(self, columns: list[str]) -> Iterator[str]:
        if self.batch is None:
            return
        named = [("columns", name) for name in self.batch.columns]
        named += [("name_as", self.batch.name_as)] if self.batch.name_as else []
        for what, name in named:
            if name not in self.schema:
                hint = nearest(name, columns)
                yield f"batch: {what} names {name!r}, which is no column. {hint}"

    def _key_faults(self, columns: list[str]) -> Iterator[str]:
        key, stamp = self.entity.name, self.timestamp
        if key not in self.schema:
            yield f"the entity's key {key!r} is no column. {nearest(key, columns)}"
        elif self.schema[key] != self.entity.dtype:
            yield (
                f"column {key!r} is {self.schema[key].value}, but the entity's key is "
                f"{self.entity.dtype.value}"
            )
        if stamp not in self.schema:
            yield f"the timestamp {stamp!r} is no column. {nearest(stamp, columns)}"
        elif self.schema[stamp] != DType.TIMESTAMP:
            yield f"column {stamp!r} is {self.schema[stamp].value}; it has to be ps.Timestamp"
        for name in (key, stamp):
            if name in self.nullable:
                yield f"{name!r} identifies a record and cannot be nullable"
