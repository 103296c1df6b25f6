"""Feature views, and what is taken of them.

A view is a named set of features computed from one source for its entity.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, ClassVar

import msgspec

from penstock.errors import nearest

from .aggregates import Aggregate
from .base import Named, Value, unique_faults
from .described import Described, deprecation_faults, instead_faults
from .dtypes import DType
from .durations import duration_us
from .expressions import Expression, columns_of, expression_fault, is_condition, leads_of
from .sources import Source

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["FeatureView", "ViewSubset"]


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
