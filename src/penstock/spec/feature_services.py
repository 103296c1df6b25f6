"""Feature services: the features of one model or client, as a named set."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from .base import Named, unique_faults
from .documents import fingerprint
from .on_demand import Features, View, entities_of, request_fields, view_faults, views_in
from .sources import ViewSubset

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .arriving import Entity
    from .dtypes import DType

__all__ = ["FeatureService", "feature_faults"]

SERVICE_ID_LENGTH = 16


class FeatureService(Named, frozen=True, kw_only=True, tag="feature_service"):
    """A named set of features, in an order: what a model learns from, or a client reads.

    Attributes:
        features: Views, for all of their features, or ``view["name", ...]`` for some.
    """

    features: Sequence[Features]

    @property
    def views(self) -> tuple[View, ...]:
        """The views its features come from, each once, in order."""
        return views_in(self.features)

    @property
    def names(self) -> tuple[str, ...]:
        """Full names of its features, in order."""
        return tuple(name for each in self.features for name in each.names)

    @property
    def dtypes(self) -> dict[str, DType]:
        """Type of each feature by its full name, in order."""
        return {name: dtype for each in self.features for name, dtype in each.dtypes.items()}

    @property
    def entities(self) -> tuple[Entity, ...]:
        """What its features are about, each once, in order."""
        return entities_of(self.views)

    @property
    def request_fields(self) -> dict[str, DType]:
        """The fields a request has to bring for its on-demand views, and their types."""
        return request_fields(self.views)

    @property
    def service_id(self) -> str:
        """First 16 hexadecimal digits of its fingerprint: another where any feature means another.

        A model's manifest carries it, and an answer of the feature server too.
        """
        return fingerprint(self)[:SERVICE_ID_LENGTH]

    def _faults(self) -> Iterator[str]:
        yield from super()._faults()
        yield from feature_faults(self.features)


def feature_faults(features: Sequence[Features]) -> Iterator[str]:
    """Yield what is wrong with a list of views and of features of views."""
    if not features:
        yield "it has no feature views"
    views = [each.view if isinstance(each, ViewSubset) else each for each in features]
    different = [view for place, view in enumerate(views) if view not in views[:place]]
    twice = list(view_faults(different))
    yield from twice or unique_faults("feature", [name for each in features for name in each.names])
