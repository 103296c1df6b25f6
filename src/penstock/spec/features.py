"""Feature views: named sets of features computed from one source for its entity."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import msgspec

from penstock.errors import nearest

from .aggregates import Aggregate
from .base import Named, unique_faults
from .dtypes import DType
from .durations import duration_us
from .expressions import Expression, columns_of, is_condition, leads_of
from .sources import Source

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["FeatureView"]


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
    """

    source: Source
    derive: Mapping[str, Expression] = msgspec.field(default_factory=dict)
    features: Sequence[Aggregate] = ()
    ttl: str = ""

    @property
    def names(self) -> tuple[str, ...]:
        """Full names of the features' columns, in order."""
        return tuple(f"{self.name}.{name}" for each in self.features for name in each.names)

    @property
    def ttl_us(self) -> int:
        """How long what is known of an entity stays true, in microseconds; 0 for ever."""
        return duration_us(self.ttl) if self.ttl else 0

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
        return self.source.schema.get(column)

    def _faults(self) -> Iterator[str]:
        yield from super()._faults()
        if not self.features:
            yield "it has no features"
        try:
            if self.ttl and not self.ttl_us:
                yield "ttl is zero; leave it out for values that stay true for ever"
        except ValueError as error:
            yield f"ttl: {error}"
        yield from unique_faults("feature", [name for each in self.features for name in each.names])
        columns = [*self.source.schema, *self.derive]
        yield from self._derive_faults(columns)
        for feature in self.features:
            yield from self._feature_faults(feature, columns)

    def _derive_faults(self, columns: list[str]) -> Iterator[str]:
        for name, expression in self.derive.items():
            if name in self.source.schema or name.startswith("_"):
                yield f"derive {name!r}: the source has that column already, or it begins with '_'"
            if leads_of(expression):
                yield f"derive {name!r} looks ahead with lead(); only a label may"
            known = set(self.source.schema) | set(
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
