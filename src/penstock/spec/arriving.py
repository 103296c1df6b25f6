"""What arrives: of which entities, in which files and topics, and what it looks like."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Literal, cast

import msgspec

from penstock.errors import nearest

from .base import Named, Value
from .dtypes import DType
from .durations import duration_us
from .expectations import Expectation

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["RESERVED", "Arriving", "Entity", "Files", "Topic"]

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


class Arriving(Named, frozen=True, kw_only=True):
    """What arrives of a source; ``Source`` says what each field is."""

    entity: Entity
    timestamp: str
    schema: Mapping[str, DType]
    nullable: Sequence[str] = ()
    expect: Sequence[Expectation] = ()
    known_after: str = ""
    batch: Files | None = None
    stream: Topic | None = None

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
