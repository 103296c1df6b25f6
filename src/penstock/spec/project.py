"""A project: everything declared together."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from .arriving import Entity
from .base import Named, unique_faults
from .datasets import Dataset
from .deployments import Deployment, Trigger
from .documents import declarations_in, kind_of
from .feature_services import FeatureService
from .graphs import Graph
from .models import Model
from .monitors import Monitor
from .on_demand import OnDemandView, replacement_faults
from .protection import Protection
from .sources import FeatureView, Source

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["Declaration", "Project"]

Declaration = (
    Entity
    | Source
    | FeatureView
    | OnDemandView
    | FeatureService
    | Dataset
    | Model
    | Graph
    | Deployment
    | Monitor
    | Trigger
    | Protection
)
VIEWS = frozenset({"feature_view", "on_demand_view"})
MODELS = frozenset({"model", "graph"})


class Project(Named, frozen=True, kw_only=True, tag="project"):
    """Everything a team declares together.

    What a declaration refers to belongs to the project too and need not be listed.

    Attributes:
        declarations: The declarations, in any order.
    """

    declarations: Sequence[Declaration] = ()

    @property
    def everything(self) -> tuple[Declaration, ...]:
        """Every declaration, each after what it refers to."""
        return declarations_in(self.declarations)

    def _faults(self) -> Iterator[str]:
        yield from super()._faults()
        found = [(kind_of(value), value.name) for value in self.everything]
        for kind in sorted({kind for kind, _ in found}):
            yield from unique_faults(kind, [name for other, name in found if other == kind])
        views = [v for v in self.everything if isinstance(v, (FeatureView, OnDemandView))]
        yield from replacement_faults(views)
        names = {kind: {name for other, name in found if other == kind} for kind in VIEWS}
        for name in sorted(set[str].intersection(*names.values())):
            yield f"a feature view and an on-demand view are called {name!r}; rename one"
        models = {kind: {name for other, name in found if other == kind} for kind in MODELS}
        for name in sorted(set[str].intersection(*models.values())):
            yield f"a model and a graph are called {name!r}; rename one"
        yield from _shared_topics([one for one in self.everything if isinstance(one, Source)])


def _shared_topics(sources: Sequence[Source]) -> Iterator[str]:
    """A fault for each topic that several sources read: a message is taken in once, by one."""
    readers: dict[str, list[str]] = {}
    for source in sources:
        readers.setdefault(source.topic, []).append(source.name)
    for topic, names in sorted(readers.items()):
        if len(set(names)) > 1:
            named = " and ".join(map(repr, sorted(set(names))))
            yield (
                f"the sources {named} read one topic, {topic!r}, and each of its messages is taken "
                "in by one source alone; give each a topic of its own and send to both"
            )
