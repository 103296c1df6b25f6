"""On-demand views: features computed when they are asked for, from others and from the request."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, ClassVar, Union

import msgspec

from penstock.errors import nearest

from .base import Named, unique_faults
from .described import Described, deprecation_faults, described_by, instead_faults
from .documents import kind_of
from .dtypes import DType
from .expressions import Expression, columns_of, expression_fault, leads_of
from .sources import FeatureView, ViewSubset

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator
    from typing import Unpack

    from .arriving import Entity
    from .described import Shown

__all__ = [
    "Features",
    "OnDemandFeature",
    "OnDemandView",
    "View",
    "all_views",
    "base_views",
    "entities_of",
    "feature",
    "names_below",
    "replacement_faults",
    "request_fields",
    "view_faults",
    "views_in",
]

TIME = "at"
NOTHING_SAID = Described()
REQUESTABLE = frozenset({DType.FLOAT64, DType.INT64, DType.BOOLEAN, DType.STRING})


class OnDemandFeature(Described, frozen=True, kw_only=True, tag="feature"):
    """A feature of an on-demand view, with what readers are told of it.

    Attributes:
        expression: What is computed.

    What readers are told of it besides is in ``Described``.
    """

    MEANT: ClassVar[str] = "expression"

    expression: Expression

    def _subject(self) -> str:
        return "feature"

    def _faults(self) -> Iterator[str]:
        yield from super()._faults()
        if fault := expression_fault(self.expression):
            yield f"its expression {fault}"


def feature(expression: Expression, **shown: Unpack[Shown]) -> OnDemandFeature:
    """A feature of an on-demand view, with what readers are told of it.

    It means what the expression alone means: what is said of it may change, and nothing becomes
    another.

    Args:
        expression: What is computed.
        **shown: ``description``, ``unit``, ``tags``, ``owner``, ``deprecated`` and ``instead``, as
            aggregates take them.
    """
    return OnDemandFeature(expression=expression, **described_by(shown))


class OnDemandView(Named, frozen=True, kw_only=True, tag="on_demand_view"):
    """Features computed at the moment they are asked for: from other views and from the request.

    The same expressions are evaluated for training, where a request's fields are the columns of
    the spine's records, and online, where they come with the request. Nothing of the view is
    stored, so it is never late and never has to be built.

    A feature's full name, in frames and in requests, is ``view.feature``.

    Attributes:
        views: The views whose features the expressions read, by their full names; other on-demand
            views may be among them.
        request: The fields that a request brings, and their types: ``Float64``, ``Int64``,
            ``Boolean`` or ``String``. In a dataset the spine's source has columns of these names
            and types. A field may be null.
        features: The expression of each feature; it reads features of ``views`` by full name,
            request fields by name, and the view's own features above it by name. A condition gives
            1, 0 or null. ``ps.feature(expression, unit="USD")`` says something of it too.
        deprecated: The day, as ``2027-01-31``, from which on nothing new may use any of it; empty
            while it is there to stay.
        instead: The view to use in its place.
    """

    SHOWN: ClassVar[tuple[str, ...]] = (*Named.SHOWN, "deprecated", "instead")

    views: Sequence[Union[FeatureView, OnDemandView]] = ()  # noqa: UP007 - read at run time
    request: Mapping[str, DType] = msgspec.field(default_factory=dict)
    features: Mapping[str, Expression | OnDemandFeature] = msgspec.field(default_factory=dict)
    deprecated: str = ""
    instead: str = ""

    @property
    def expressions(self) -> dict[str, Expression]:
        """The expression of each feature, by its name within the view."""
        return {
            name: each.expression if isinstance(each, OnDemandFeature) else each
            for name, each in self.features.items()
        }

    @property
    def described(self) -> dict[str, Described]:
        """What is said of each feature, by its name within the view."""
        return {
            name: each if isinstance(each, OnDemandFeature) else NOTHING_SAID
            for name, each in self.features.items()
        }

    @property
    def names(self) -> tuple[str, ...]:
        """Full names of the features, in order."""
        return tuple(f"{self.name}.{name}" for name in self.features)

    @property
    def dtypes(self) -> dict[str, DType]:
        """Type of each feature by its full name: float64."""
        return dict.fromkeys(self.names, DType.FLOAT64)

    @property
    def schema(self) -> dict[str, DType]:
        """Every name the expressions may read except the view's own, and its type."""
        inner = {name: dtype for view in self.views for name, dtype in view.dtypes.items()}
        return inner | dict(self.request)

    def _faults(self) -> Iterator[str]:
        yield from super()._faults()
        if not self.features:
            yield "it has no features"
        if not self.views and not self.request:
            yield "it reads nothing; give it views, request fields, or both"
        yield from view_faults(self.views)
        yield from self._request_faults()
        known = list(self.schema)
        for name, expression in self.expressions.items():
            yield from self._feature_faults(name, expression, known)
            known.append(name)
        yield from deprecation_faults(self.deprecated, self.instead)
        described = self.described
        yield from instead_faults(list(described.values()), list(described), described)

    def _request_faults(self) -> Iterator[str]:
        entities = {entity.name for entity in entities_of(self.views)}
        for name, dtype in self.request.items():
            if dtype not in REQUESTABLE:
                types = "ps.Float64, ps.Int64, ps.Boolean or ps.String"
                yield f"request field {name!r} has the type {dtype!r}; give it {types}"
            if not name or "." in name or name.startswith("_"):
                yield f"request field {name!r}: a name has no '.' and does not begin with '_'"
            if name == TIME:
                yield f"request field {name!r} is the time asked for already; rename it"
            if name in entities:
                yield f"request field {name!r} is the key of an entity already; rename it"

    def _feature_faults(self, name: str, expression: Expression, known: list[str]) -> Iterator[str]:
        if not name or "." in name or name in self.request:
            yield (
                f"feature {name!r}: a name is not empty, has no '.' and is no request field's; "
                "rename it"
            )
        if fault := expression_fault(expression):
            yield f"feature {name!r} {fault}"
            return
        if leads_of(expression):
            yield f"feature {name!r} looks ahead with lead(); only a label may"
        if not columns_of(expression):
            yield f"feature {name!r} reads no feature and no request field; it would never change"
        for column in sorted(columns_of(expression) - set(known)):
            yield f"feature {name!r} reads {column!r}. {nearest(column, known)}"


View = FeatureView | OnDemandView
"""What features come from."""

Features = View | ViewSubset
"""All features of a view, or some of a feature view's."""


def views_in(features: Iterable[Features]) -> tuple[View, ...]:
    """The views that features come from, each once, in order."""
    found = [each.view if isinstance(each, ViewSubset) else each for each in features]
    return tuple({view.name: view for view in found}.values())


def all_views(views: Iterable[View]) -> Iterator[View]:
    """Every view among some views and below them."""
    for view in views:
        yield view
        if isinstance(view, OnDemandView):
            yield from all_views(view.views)


def base_views(views: Iterable[View]) -> tuple[FeatureView, ...]:
    """The feature views among some views and below them, each once, in the order they are read."""
    found = {view.name: view for view in all_views(views) if isinstance(view, FeatureView)}
    return tuple(found.values())


def names_below(views: Iterable[View], names: Collection[str]) -> set[str]:
    """Full names of features, with those of everything they are computed from.

    Args:
        views: The views they come from.
        names: The features' full names.
    """
    found = set(names)
    for view in views:
        if isinstance(view, OnDemandView):
            # A feature reads only those above it, so from the last to the first is enough.
            for name, expression in reversed(list(view.expressions.items())):
                if f"{view.name}.{name}" in found:
                    found |= {
                        f"{view.name}.{column}" if column in view.features else column
                        for column in columns_of(expression) - set(view.request)
                    }
            found |= names_below(view.views, found)
    return found


def entities_of(views: Iterable[View]) -> tuple[Entity, ...]:
    """The entities that some views are about, each once."""
    return tuple({v.source.entity.name: v.source.entity for v in base_views(views)}.values())


def view_faults(views: Sequence[View]) -> Iterator[str]:
    """Yield what keeps some views from being read together."""
    yield from unique_faults("view", [view.name for view in views])
    known: dict[str, View] = {}
    unlike = {view.name for view in all_views(views) if known.setdefault(view.name, view) != view}
    for name in sorted(unlike):
        yield f"there are two unlike views {name!r}; give each its own name"
    fields: dict[str, DType] = {}
    for name, dtype in (field for view in views for field in request_fields([view]).items()):
        if fields.setdefault(name, dtype) != dtype:
            one = fields[name].value
            yield f"request field {name!r} is {one} in one view, {dtype.value} in another"


def replacement_faults(views: Sequence[View]) -> Iterator[str]:
    """Yield each view, or feature of another view, that is named instead of one and is not there.

    Args:
        views: All of a project's.
    """
    known = {view.name for view in views}
    names = {f"{view.name}.{name}" for view in views for name in view.described}
    names |= {name for view in views for name in view.names}
    for view in views:
        if view.instead and view.instead not in known - {view.name}:
            rest = known - {view.name}
            yield f"{kind_of(view)} {view.name!r}: no instead={view.instead!r}. " + nearest(
                view.instead, rest
            )
        for name, one in view.described.items():
            if "." in one.instead and one.instead not in names:
                full = f"{view.name}.{name}"
                yield f"feature {full!r}: no instead={one.instead!r}. " + nearest(
                    one.instead, names - {full}
                )


def request_fields(views: Iterable[View]) -> dict[str, DType]:
    """The fields that a request has to bring for some views, and their types."""
    inner = [view for view in all_views(views) if isinstance(view, OnDemandView)]
    return {name: dtype for view in inner for name, dtype in view.request.items()}
