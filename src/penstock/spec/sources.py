"""Sources, what their records are completed with, and the features computed of them.

They stand together because each refers to the others: features are computed from the records of a
source, whose records may be completed with features that were computed from those of another.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, ClassVar, NamedTuple, cast

import msgspec

from penstock.errors import nearest

from .aggregates import Aggregate
from .arriving import RESERVED, Arriving
from .base import Named, Value, unique_faults
from .described import Described, deprecation_faults, instead_faults
from .dtypes import DType
from .durations import duration_us
from .expressions import (
    Expression,
    columns_of,
    expression_fault,
    functions_of,
    is_condition,
    leads_of,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from .base import Declared
    from .expressions import Function

__all__ = ["Captured", "FeatureView", "Lookup", "Source", "ViewSubset"]


class Lookup(Value, frozen=True, omit_defaults=True):
    """What a record is completed with from another source when it is taken in.

    From a source, found is the newest record with the key that ``on`` holds, among those that are
    known when the record is: both times count with their source's ``known_after``. Of two known at
    one time, the one that arrived later.

    From a feature view, it is the features of the entity with that key at the time when the record
    is known, as the view means them, from what its source had stored and not deleted until then. A
    key of which nothing is known has those of an unknown entity: counts and sums of 0, else null.

    The values stay with the record as they were then.

    Attributes:
        source: The source that is looked into, or the feature view whose features are wanted.
        on: The column whose value is the key of the other source's entity; of the same type.
        columns: Names of the new columns to the other source's columns, or to the names that
            features have within their view.
        within: How long what was found stays true, such as ``"30d"``: a record that is as old as
            that or older is not found. For ever when empty; features have windows and their view's
            ``ttl`` instead.
    """

    source: Source | FeatureView
    on: str
    columns: Mapping[str, str]
    within: str = ""

    @property
    def view(self) -> FeatureView | None:
        """The feature view whose features are wanted; none where columns of a source are."""
        return self.source if isinstance(self.source, FeatureView) else None

    @property
    def into(self) -> Source:
        """The source whose records are read."""
        return self.source.source if isinstance(self.source, FeatureView) else self.source

    @property
    def offered(self) -> dict[str, DType]:
        """What columns may be taken from, and the types of that."""
        if isinstance(self.source, FeatureView):
            head = f"{self.source.name}."
            return {name.removeprefix(head): one for name, one in self.source.dtypes.items()}
        return self.source.columns

    @property
    def within_us(self) -> int:
        """How long what was found stays true, in microseconds; 0 for ever."""
        return duration_us(self.within) if self.within else 0

    def decided_by(self, other: Declared) -> Declared:
        """Of a view, the features that are wanted."""
        return other.with_only(self.columns.values()) if isinstance(other, FeatureView) else other

    def _subject(self) -> str:
        return f"Lookup on {self.on!r}"

    def _faults(self) -> Iterator[str]:
        known = self.offered
        named = cast("object", self.columns)  # a project is not type-checked
        example = f"columns={self._example()}"
        if not isinstance(named, Mapping):
            yield (
                f"columns is {named!r}; map each new column to one of {self.source.name!r}, such "
                f"as {example}"
            )
            return
        if not self.columns:
            yield f"it takes no column; name some, such as {example}"
        what, kind = ("feature", "view") if self.view else ("column", "source")
        for name, column in self.columns.items():
            if name.startswith(RESERVED) or not name:
                yield f"column {name!r}: names that begin with '_' belong to the platform"
            if column not in known:
                yield (
                    f"{name!r} is to be {column!r} of {kind} {self.source.name!r}, which has no "
                    f"such {what}. {nearest(column, list(known))}"
                )
        try:
            if self.within and not duration_us(self.within):
                yield "within is zero; leave it out for records of any age"
        except ValueError as error:
            yield f"within: {error}"
        if self.view:
            yield from self._view_faults(self.view)

    def _view_faults(self, view: FeatureView) -> Iterator[str]:
        if self.within:
            yield (
                "within is for columns of a source; features have windows, and their view says "
                "with ttl= how long what is known stays true"
            )
        for feature in view.features_of(self.columns.values()):
            if view.functions_in(feature):
                yield (
                    f"{feature.name!r} of view {view.name!r} is computed by a Python function; "
                    "records could not be taken in where that fails. Write it as an expression, or "
                    "look the columns up that it reads"
                )

    def _example(self) -> str:
        taken = self.into.entity.name
        last = [name for name in self.offered if name != taken][-1]
        return f"{{{last!r}: {last!r}}}"


class Captured(NamedTuple):
    """Where a column that a record is completed with comes from.

    Attributes:
        lookup: What finds it.
        column: The column of the source that is looked into, or the name that a feature has within
            its view.
    """

    lookup: Lookup
    column: str

    @property
    def dtype(self) -> DType:
        """Type of its values."""
        return self.lookup.offered[self.column]


class Source(Arriving, frozen=True, kw_only=True, tag="source"):
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
        lookups: What its records are completed with from other sources and from features of them,
            when they are taken in. One may go by a column that another before it brings.
    """

    LATER: ClassVar[tuple[str, ...]] = ("lookups",)

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
            for source in (*lookup.into.looks_into, lookup.into):
                found.setdefault(source.name, source)
        return tuple(found.values())

    @property
    def looks_through(self) -> tuple[FeatureView, ...]:
        """The views whose features its records are completed with, directly or through others.

        Each once, after those that the records it is computed from are completed with.
        """
        found: dict[str, FeatureView] = {}
        for lookup in self.lookups:
            own = () if lookup.view is None else (lookup.view,)
            for view in (*lookup.into.looks_through, *own):
                found.setdefault(view.name, view)
        return tuple(found.values())

    def _faults(self) -> Iterator[str]:
        yield from super()._faults()
        if not self._untyped():
            yield from self._lookup_faults()

    def _lookup_faults(self) -> Iterator[str]:
        known = dict(self.schema)
        for lookup in self.lookups:
            other, on = lookup.into, lookup.on
            if self.name in {one.name for one in (other, *other.looks_into)}:
                way = self._way_back(lookup)
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
            known |= {name: lookup.offered[column] for name, column in lookup.columns.items()}
        ways = [(lookup.view is None, lookup.source.name, lookup.on) for lookup in self.lookups]
        for _, name, on in sorted({way for way in ways if ways.count(way) > 1}):
            yield f"two lookups on {on!r} look into {name!r}; put their columns into one"

    def _way_back(self, lookup: Lookup) -> str:
        """How a lookup leads to the source itself, in words."""
        steps = [] if lookup.into.name == self.name else [repr(lookup.into.name)]
        steps = [f"the view {lookup.view.name!r}", *steps] if lookup.view else steps
        return "itself" + (f" through {' and '.join(steps)}" if steps else "")


class FeatureView(Named, frozen=True, kw_only=True, tag="feature_view"):
    """Features computed from one source for its entity.

    A feature's full name, in frames and in requests, is ``view.feature``.

    Attributes:
        source: Where the records come from.
        derive: Columns computed from each record before anything is aggregated.
        features: The aggregates.
        ttl: How long what is known of an entity stays true, such as ``"7d"``: where its newest
            record is as old as that or older, every feature is null, counts too. For ever when
            empty.
        freshness: How long ago the newest records may have arrived, such as ``"2h"``, before what
            is online is stale; ``ps.Deployment(stale=)`` says what happens then. It decides no
            value, so a change of it makes nothing anew. Any age when empty.
        deprecated: The day, as ``2027-01-31``, from which on nothing new may use any of it; empty
            while it is there to stay.
        instead: The view to use in its place.
    """

    SHOWN: ClassVar[tuple[str, ...]] = (*Named.SHOWN, "freshness", "deprecated", "instead")

    source: Source
    derive: Mapping[str, Expression] = msgspec.field(default_factory=dict)
    features: Sequence[Aggregate] = ()
    ttl: str = ""
    freshness: str = ""
    deprecated: str = ""
    instead: str = ""

    @property
    def names(self) -> tuple[str, ...]:
        """Full names of the features' columns, in order."""
        return tuple(f"{self.name}.{name}" for each in self.features for name in each.names)

    __iter__ = None
    """It has no order to be gone through, though it has an index."""

    def __getitem__(self, chosen: str | tuple[str, ...]) -> ViewSubset:
        """Some of its features: ``momentum["last_close", "mean_ret_6h"]``.

        Args:
            chosen: Names within the view, in the order wanted. The name of a feature of several
                columns, such as ``last_k``, stands for all of them.

        Raises:
            DeclarationError: It has no such feature, or one is named twice.
        """
        return ViewSubset(view=self, chosen=(chosen,) if isinstance(chosen, str) else chosen)

    @property
    def described(self) -> dict[str, Described]:
        """What is said of each feature, by its name within the view."""
        return {each.name: each for each in self.features}

    @property
    def ttl_us(self) -> int:
        """How long what is known of an entity stays true, in microseconds; 0 for ever."""
        return duration_us(self.ttl) if self.ttl else 0

    @property
    def freshness_us(self) -> int:
        """How long ago the newest records may have arrived, in microseconds; 0 for any age."""
        return duration_us(self.freshness) if self.freshness else 0

    @property
    def dtypes(self) -> dict[str, DType]:
        """Type of each column by its full name: whole numbers for counts, else float64."""
        return {
            f"{self.name}.{name}": DType.INT64 if feature.is_whole else DType.FLOAT64
            for feature in self.features
            for name in feature.names
        }

    def features_of(self, columns: Iterable[str]) -> tuple[Aggregate, ...]:
        """The features that some columns belong to, by the columns' names within the view."""
        wanted = set(columns)
        return tuple(each for each in self.features if not wanted.isdisjoint(each.names))

    def read_by(self, feature: Aggregate) -> frozenset[str]:
        """The columns that a feature is computed from, through each other: stored and derived."""
        wanted = {feature.column} if feature.column else set()
        if feature.where is not None:
            wanted |= columns_of(feature.where)
        for name in reversed(list(self.derive)):
            if name in wanted:
                wanted |= columns_of(self.derive[name])
        return frozenset(wanted)

    def functions_in(self, feature: Aggregate) -> tuple[Function, ...]:
        """The Python functions that a feature is computed by."""
        read = self.read_by(feature)
        used = [each for name, each in self.derive.items() if name in read]
        used += [] if feature.where is None else [feature.where]
        return tuple(one for each in used for one in functions_of(each))

    def with_only(self, columns: Iterable[str]) -> FeatureView:
        """The view with only the features that some columns belong to, and what these need.

        Args:
            columns: Names within the view.
        """
        # What would be used instead of one of them need not be among them.
        kept = [msgspec.structs.replace(one, instead="") for one in self.features_of(columns)]
        read = frozenset[str]().union(*map(self.read_by, kept))
        derive = {name: each for name, each in self.derive.items() if name in read}
        return msgspec.structs.replace(self, features=tuple(kept), derive=derive)

    def _dtype(self, column: str) -> DType | None:
        if column in self.derive:
            return DType.BOOLEAN if is_condition(self.derive[column]) else DType.FLOAT64
        return self.source.columns.get(column)

    def _faults(self) -> Iterator[str]:
        yield from super()._faults()
        if not self.features:
            yield "it has no features"
        yield from _length_faults("ttl", self.ttl, "values that stay true for ever")
        yield from _length_faults("freshness", self.freshness, "features of any age")
        columns_made = [name for each in self.features for name in each.names]
        yield from unique_faults("feature", columns_made)
        yield from deprecation_faults(self.deprecated, self.instead)
        names = [each.name for each in self.features]
        yield from instead_faults(self.features, names, {*names, *columns_made})
        columns = [*self.source.columns, *self.derive]
        yield from self._derive_faults(columns)
        for feature in self.features:
            yield from self._feature_faults(feature, columns)

    def _derive_faults(self, columns: list[str]) -> Iterator[str]:
        for name, expression in self.derive.items():
            if fault := expression_fault(expression):
                yield f"derive {name!r} {fault}"
            if name in self.source.columns or name.startswith("_"):
                yield f"derive {name!r}: the source has that column already, or it begins with '_'"
            if leads_of(expression):
                yield f"derive {name!r} looks ahead with lead(); only a label may"
            known = set(self.source.columns) | set(
                list(self.derive)[: list(self.derive).index(name)]
            )
            for column in sorted(columns_of(expression) - known):
                yield f"derive {name!r} reads {column!r}. {nearest(column, columns)}"

    def _feature_faults(self, feature: Aggregate, columns: list[str]) -> Iterator[str]:
        wanted = {feature.column} if feature.column else set()
        if feature.where is not None:
            wanted |= columns_of(feature.where)
        for column in sorted(wanted - set(columns)):
            yield f"feature {feature.name!r} reads {column!r}. {nearest(column, columns)}"
        dtype = self._dtype(feature.column)
        if not feature.takes_any_type and dtype is not None and not dtype.is_number:
            yield (
                f"feature {feature.name!r}: {feature.op} takes numbers and booleans, "
                f"but {feature.column!r} is {dtype.value}"
            )


def _length_faults(name: str, text: str, without: str) -> Iterator[str]:
    try:
        if text and not duration_us(text):
            yield f"{name} is zero; leave it out for {without}"
    except ValueError as error:
        yield f"{name}: {error}"


class ViewSubset(Value, frozen=True, kw_only=True, tag="view_subset"):
    """Some features of a view, as ``view["name", ...]`` gives them.

    Attributes:
        view: The view.
        chosen: Names within the view, in the order wanted.
    """

    view: FeatureView
    chosen: Sequence[str]

    @property
    def name(self) -> str:
        """The view's."""
        return self.view.name

    @property
    def names(self) -> tuple[str, ...]:
        """Full names of the columns, in order."""
        known = self._known()
        return tuple(f"{self.view.name}.{name}" for each in self.chosen for name in known[each])

    @property
    def dtypes(self) -> dict[str, DType]:
        """Type of each column by its full name."""
        dtypes = self.view.dtypes
        return {name: dtypes[name] for name in self.names}

    def _known(self) -> dict[str, tuple[str, ...]]:
        """Columns by what they can be called: each by its own name, and by its feature's."""
        own = {name: (name,) for each in self.view.features for name in each.names}
        return {each.name: each.names for each in self.view.features} | own

    def _subject(self) -> str:
        return f"FeatureView({self.view.name!r})[...]"

    def _faults(self) -> Iterator[str]:
        if not self.chosen:
            yield "it names no feature; take the view itself for all of them"
        known = self._known()
        unknown = [name for name in self.chosen if name not in known]
        for name in unknown:
            yield f"the view has no feature {name!r}. {nearest(str(name), known)}"
        if not unknown:
            yield from unique_faults("feature", list(self.names))
