"""A feature view compiled: what to extract, which states to keep, where each feature is read.

Features share: one input per distinct (column, where), one state per input and kind, one row of
tiles per distinct hop. The whole past is the group of hop 0, which always has a single tile.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import msgspec

from penstock.errors import DeclarationError
from penstock.spec import AggregateOp, DType, Expression, FeatureView, columns_of

from .finish import NEEDS
from .operators import dtype_of
from .states import STATES, State, StateName

if TYPE_CHECKING:
    from collections.abc import Iterator

    from penstock.spec import Aggregate

__all__ = ["FORMAT", "Group", "Input", "Program", "Reading", "Slot", "Window", "compile_view"]

FORMAT = 1
"""Version of the packed layout; part of every fingerprint."""


@dataclass(frozen=True, kw_only=True)
class Input:
    """What is aggregated: a column's values, or records where it is empty, under a condition.

    Attributes:
        column: The source's or derived column; empty for records themselves.
        where: Only records for which this is true.
        is_numeric: Whether the values matter; otherwise only whether there is one.
    """

    column: str
    where: Expression | None
    is_numeric: bool


@dataclass(frozen=True, kw_only=True)
class Slot:
    """One state that a group keeps per tile.

    Attributes:
        source: Index of the input.
        name: Kind of the state.
        row: Index of its first word's row among the rows of the group's states.
    """

    source: int
    name: StateName
    row: int

    @property
    def state(self) -> State:
        """How the state works."""
        return STATES[self.name]


@dataclass(frozen=True, kw_only=True)
class Reading:
    """Where one feature comes from.

    Attributes:
        feature: Index among the view's features.
        op: Its operator.
        slots: Indices of the group's slots that it is finished from.
    """

    feature: int
    op: AggregateOp
    slots: tuple[int, ...]


@dataclass(frozen=True, kw_only=True)
class Window:
    """The features of one length in a group.

    Attributes:
        over_us: The length; 0 for the whole past.
        readings: The features.
        slots: Indices of the group's slots that they need.
    """

    over_us: int
    readings: tuple[Reading, ...]
    slots: tuple[int, ...]


@dataclass(frozen=True, kw_only=True)
class Group:
    """The windows that share tiles.

    Attributes:
        hop_us: Length of a tile; 0 for the whole past.
        slots: The states of a tile.
        windows: The windows, by length.
        width: Words of a tile's states.
    """

    hop_us: int
    slots: tuple[Slot, ...]
    windows: tuple[Window, ...]
    width: int = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "width", sum(slot.state.width for slot in self.slots))

    @property
    def reach_us(self) -> int:
        """Length of the longest window."""
        return self.windows[-1].over_us


@dataclass(frozen=True, kw_only=True)
class Program:
    """A compiled feature view.

    Attributes:
        view: The view.
        columns: The source's columns that are read, besides its key and timestamp.
        derived: The derived columns that are needed, in the order of their computation.
        inputs: What is aggregated.
        groups: The tiles, by hop; the whole past first.
        fingerprint: Eight bytes of the hash of everything that decides the values; names of the
            view and of its features do not.
    """

    view: FeatureView
    columns: tuple[str, ...]
    derived: tuple[str, ...]
    inputs: tuple[Input, ...]
    groups: tuple[Group, ...]
    fingerprint: bytes

    @property
    def width(self) -> int:
        """Number of features."""
        return len(self.view.features)


def compile_view(view: FeatureView) -> Program:
    """Compile a feature view.

    Args:
        view: The view.

    Raises:
        DeclarationError: A derived column or condition is given types it does not take; all such
            faults together.
    """
    schema = _schema(view)
    wanted = _wanted(view)
    inputs = [_input(feature, schema) for feature in view.features]
    distinct = tuple(dict.fromkeys(inputs))
    sources = [distinct.index(each) for each in inputs]
    own = {view.source.entity.name, view.source.timestamp}
    return Program(
        view=view,
        columns=tuple(sorted((wanted & set(view.source.schema)) - own)),
        derived=tuple(name for name in view.derive if name in wanted),
        inputs=distinct,
        groups=tuple(
            _group(view, hop_us, sources)
            for hop_us in sorted({feature.hop_us for feature in view.features})
        ),
        fingerprint=_fingerprint(view, wanted),
    )


def _schema(view: FeatureView) -> dict[str, DType]:
    schema = dict(view.source.schema)
    faults: list[str] = []
    for name, expression in view.derive.items():
        try:
            schema[name] = dtype_of(expression, schema) or DType.FLOAT64
        except DeclarationError as error:
            faults.append(f"derive {name!r}: {error}")
            schema[name] = DType.FLOAT64
    for feature in view.features:
        faults += _where_faults(feature, schema)
    if faults:
        raise DeclarationError.of(f"FeatureView({view.name!r})", faults)
    return schema


def _where_faults(feature: Aggregate, schema: dict[str, DType]) -> Iterator[str]:
    if feature.where is None:
        return
    try:
        dtype_of(feature.where, schema)
    except DeclarationError as error:
        yield f"feature {feature.name!r}: where: {error}"


def _input(feature: Aggregate, schema: dict[str, DType]) -> Input:
    numeric = bool(feature.column) and schema[feature.column].is_number
    return Input(column=feature.column, where=feature.where, is_numeric=numeric)


def _group(view: FeatureView, hop_us: int, sources: list[int]) -> Group:
    """Build the group of one hop; ``sources`` is the index of each feature's input."""
    members = [index for index, each in enumerate(view.features) if each.hop_us == hop_us]
    needs: dict[int, list[tuple[int, StateName]]] = {
        index: [(sources[index], name) for name in NEEDS[view.features[index].op]]
        for index in members
    }
    keys = sorted({key for keys in needs.values() for key in keys})
    places = {key: place for place, key in enumerate(keys)}
    readings = {
        index: Reading(
            feature=index,
            op=view.features[index].op,
            slots=tuple(places[key] for key in needs[index]),
        )
        for index in members
    }
    windows = tuple(
        _window(over_us, [readings[i] for i in members if view.features[i].over_us == over_us])
        for over_us in sorted({view.features[index].over_us for index in members})
    )
    return Group(hop_us=hop_us, slots=_slots(keys), windows=windows)


def _slots(keys: list[tuple[int, StateName]]) -> tuple[Slot, ...]:
    slots: list[Slot] = []
    row = 0
    for source, name in keys:
        slots.append(Slot(source=source, name=name, row=row))
        row += STATES[name].width
    return tuple(slots)


def _window(over_us: int, readings: list[Reading]) -> Window:
    slots = sorted({slot for reading in readings for slot in reading.slots})
    return Window(over_us=over_us, readings=tuple(readings), slots=tuple(slots))


def _wanted(view: FeatureView) -> set[str]:
    """Columns that decide the features: the source's and the derived ones."""
    wanted = {feature.column for feature in view.features if feature.column}
    for feature in view.features:
        wanted |= columns_of(feature.where) if feature.where is not None else set()
    for name in reversed(list(view.derive)):
        if name in wanted:
            wanted |= columns_of(view.derive[name])
    return wanted


def _fingerprint(view: FeatureView, wanted: set[str]) -> bytes:
    source = view.source
    features = [
        [feature.op, feature.column, feature.over_us, feature.hop_us, feature.where]
        for feature in view.features
    ]
    meaning = [
        FORMAT,
        [source.name, source.entity.name, source.timestamp, source.known_after_us],
        sorted((name, dtype) for name, dtype in source.schema.items() if name in wanted),
        [(name, expression) for name, expression in view.derive.items() if name in wanted],
        features,
    ]
    return hashlib.sha256(msgspec.json.encode(meaning)).digest()[:8]
