"""A feature view compiled: what to extract, which states to keep, where each feature is read.

Features share: one input per distinct (column, where), one state per input and kind, one row of
tiles per distinct hop. The whole past is the group of hop 0, which always has a single tile.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

import msgspec

from penstock.errors import DeclarationError
from penstock.spec import Aggregate, AggregateOp, DType, Expression, FeatureView

from .finish import needs_of
from .operators import dtype_of
from .states import State, StateKey, state_of

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping

    from penstock.spec import Captured

__all__ = [
    "FORMAT",
    "Group",
    "Input",
    "Program",
    "Reading",
    "Slot",
    "Window",
    "captured_meaning",
    "compile_view",
]

FORMAT = 1
"""Version of the packed layout; part of every fingerprint."""

QUICK = frozenset({"count", "sum", "mean", "min", "max", "std", "var", "last"})


@dataclass(frozen=True, kw_only=True)
class Input:
    """What is aggregated: a column's values, or records where it is empty, under a condition.

    Attributes:
        column: The source's or derived column; empty for records themselves.
        where: Only records for which this is true.
        kind: What of it counts: the ``number``; the ``mark`` by which distinct values are told
            apart; or only that ``one`` is there.
    """

    column: str
    where: Expression | None
    kind: Literal["number", "mark", "one"]


@dataclass(frozen=True, kw_only=True)
class Slot:
    """One state that a group keeps per tile.

    Attributes:
        source: Index of the input.
        key: Kind of the state.
        row: Index of its first word's row among the rows of the group's states.
        kind: Name of the kind.
        state: How the state works.
    """

    source: int
    key: StateKey
    row: int
    kind: str = field(init=False)
    state: State = field(init=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "kind", self.key[0])
        object.__setattr__(self, "state", state_of(self.key))


@dataclass(frozen=True, kw_only=True)
class Reading:
    """Where one feature comes from.

    Attributes:
        feature: The feature.
        column: Index of its first column among the view's.
        slots: Indices of the group's slots that it is finished from.
        op: Its operator.
        columns: Its column, or its columns where it has several values.
    """

    feature: Aggregate
    column: int
    slots: tuple[int, ...]
    op: AggregateOp = field(init=False)
    columns: int | slice = field(init=False)

    def __post_init__(self) -> None:
        wide = slice(self.column, self.column + self.feature.k)
        object.__setattr__(self, "op", self.feature.op)
        object.__setattr__(self, "columns", wide if self.feature.k else self.column)


@dataclass(frozen=True, kw_only=True)
class Window:
    """The features of one length in a group.

    Attributes:
        over_us: The length; 0 for the whole past.
        readings: The features.
        slots: Indices of the group's slots that they need.
        quick: Those features whose states are a few words, which plain Python reads fastest.
        quick_slots: Indices of the slots that the quick ones need.
        slow: The other features.
        alike: All of them: the quick ones of one operator together, each of the slow ones alone.
    """

    over_us: int
    readings: tuple[Reading, ...]
    slots: tuple[int, ...] = field(init=False)
    quick: tuple[Reading, ...] = field(init=False)
    quick_slots: tuple[int, ...] = field(init=False)
    slow: tuple[Reading, ...] = field(init=False)
    alike: tuple[tuple[Reading, ...], ...] = field(init=False)

    def __post_init__(self) -> None:
        quick = tuple(each for each in self.readings if each.feature.op in QUICK)
        slow = tuple(each for each in self.readings if each.feature.op not in QUICK)
        object.__setattr__(self, "slots", _slots_of(self.readings))
        object.__setattr__(self, "quick", quick)
        object.__setattr__(self, "quick_slots", _slots_of(quick))
        object.__setattr__(self, "slow", slow)
        ops = dict.fromkeys(each.op for each in quick)
        together = [tuple(each for each in quick if each.op == op) for op in ops]
        object.__setattr__(self, "alike", (*together, *((each,) for each in slow)))


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
        width: Number of columns: one per feature, or per value of it.
    """

    view: FeatureView
    columns: tuple[str, ...]
    derived: tuple[str, ...]
    inputs: tuple[Input, ...]
    groups: tuple[Group, ...]
    fingerprint: bytes
    width: int = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "width", len(self.view.names))

    @property
    def reach_us(self) -> int:
        """How far back from the time it is asked for a record can matter; 0 for ever."""
        if not all(group.hop_us for group in self.groups):
            return 0
        return max(self.view.ttl_us, *(group.reach_us + group.hop_us for group in self.groups))


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
        columns=tuple(sorted((wanted & set(view.source.columns)) - own)),
        derived=tuple(name for name in view.derive if name in wanted),
        inputs=distinct,
        groups=tuple(
            _group(view, hop_us, sources)
            for hop_us in sorted({feature.hop_us for feature in view.features})
        ),
        fingerprint=_fingerprint(view, wanted),
    )


def _schema(view: FeatureView) -> dict[str, DType]:
    schema = view.source.columns
    faults: list[str] = []
    for name, expression in view.derive.items():
        try:
            schema[name] = dtype_of(expression, schema) or DType.FLOAT64
        except DeclarationError as error:
            faults += error.within(f"derive {name!r}")
            schema[name] = DType.FLOAT64
    for feature in view.features:
        faults += _where_faults(feature, schema)
        faults += _column_faults(feature, schema, view.derive)
    if faults:
        raise DeclarationError.of(f"FeatureView({view.name!r})", faults)
    return schema


def _where_faults(feature: Aggregate, schema: dict[str, DType]) -> Iterator[str]:
    if feature.where is None:
        return
    try:
        dtype_of(feature.where, schema)
    except DeclarationError as error:
        yield from error.within(f"feature {feature.name!r}: where")


def _column_faults(
    feature: Aggregate, schema: Mapping[str, DType], derive: Collection[str]
) -> Iterator[str]:
    """Yield that a derived column is no number; the view itself has looked at the source's."""
    dtype = schema.get(feature.column)
    if feature.column in derive and dtype and not (feature.takes_any_type or dtype.is_number):
        yield (
            f"feature {feature.name!r}: {feature.op} takes numbers and booleans, "
            f"but {feature.column!r} is {dtype.value}"
        )


def _input(feature: Aggregate, schema: dict[str, DType]) -> Input:
    kind: Literal["number", "mark", "one"] = "one"
    if feature.op == "approx_distinct":
        kind = "mark"
    elif feature.column and schema[feature.column].is_number:
        kind = "number"
    return Input(column=feature.column, where=feature.where, kind=kind)


def _group(view: FeatureView, hop_us: int, sources: list[int]) -> Group:
    """Build the group of one hop; ``sources`` is the index of each feature's input."""
    members = [index for index, each in enumerate(view.features) if each.hop_us == hop_us]
    needs: dict[int, list[tuple[int, StateKey]]] = {
        index: [(sources[index], key) for key in needs_of(view.features[index])]
        for index in members
    }
    widths = [len(feature.names) for feature in view.features]
    keys = sorted({key for keys in needs.values() for key in keys})
    places = {key: place for place, key in enumerate(keys)}
    readings = {
        index: Reading(
            feature=view.features[index],
            column=sum(widths[:index]),
            slots=tuple(places[key] for key in needs[index]),
        )
        for index in members
    }
    windows = tuple(
        Window(
            over_us=over_us,
            readings=tuple(readings[i] for i in members if view.features[i].over_us == over_us),
        )
        for over_us in sorted({view.features[index].over_us for index in members})
    )
    return Group(hop_us=hop_us, slots=_slots(keys), windows=windows)


def _slots(keys: list[tuple[int, StateKey]]) -> tuple[Slot, ...]:
    slots: list[Slot] = []
    row = 0
    for source, key in keys:
        slots.append(Slot(source=source, key=key, row=row))
        row += slots[-1].state.width
    return tuple(slots)


def _slots_of(readings: tuple[Reading, ...]) -> tuple[int, ...]:
    return tuple(sorted({slot for reading in readings for slot in reading.slots}))


def _wanted(view: FeatureView) -> set[str]:
    """Columns that decide the features: the source's and the derived ones."""
    return set[str]().union(*(view.read_by(feature) for feature in view.features))


def _fingerprint(view: FeatureView, wanted: set[str]) -> bytes:
    meaning = [FORMAT, *_view_meaning(view, view.features, wanted)]
    return hashlib.sha256(msgspec.json.encode(meaning)).digest()[:8]


def _view_meaning(
    view: FeatureView, features: Iterable[Aggregate], wanted: Collection[str]
) -> list[object]:
    """What decides the values of features that are computed from some columns."""
    source = view.source
    return [
        [source.name, source.entity.name, source.timestamp, source.known_after_us],
        sorted((name, dtype) for name, dtype in source.schema.items() if name in wanted),
        [(name, expression) for name, expression in view.derive.items() if name in wanted],
        [_meaning(feature) for feature in features],
        *([view.ttl_us] if view.ttl_us else ()),
        *(
            [name, *_capture(one)]
            for name, one in sorted(source.captured.items())
            if name in wanted
        ),
    ]


def captured_meaning(captured: Captured) -> str:
    """Hash of what decides the values of a column that records are completed with.

    For a feature it is what the batch engine computes it from; names of its view and of itself do
    not decide anything.
    """
    return hashlib.sha256(msgspec.json.encode(_capture(captured))).hexdigest()[:16]


def _capture(captured: Captured) -> list[object]:
    """What a column means that records are completed with."""
    dtype, (lookup, column) = captured.dtype, captured
    view = lookup.view
    if view is None:
        return [dtype, lookup.into.name, lookup.on, column, lookup.within_us]
    (feature,) = view.features_of([column])
    place = feature.names.index(column)
    return [dtype, lookup.on, place, *_view_meaning(view, [feature], view.read_by(feature))]


def _meaning(feature: Aggregate) -> list[object]:
    """What decides a feature's values; what only some operators take is there only for them."""
    given = [feature.k, feature.q, feature.half_life_us]
    window = [feature.over_us, feature.hop_us, feature.where]
    return [feature.op, feature.column, *window, *(given if any(given) else ())]
