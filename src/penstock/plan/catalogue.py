"""The catalogue: everything that has been applied, as declarations again."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, TypeVar

import msgspec

from penstock.errors import NotFoundError, NotReadyError
from penstock.records import AppliedDeclaration
from penstock.spec import (
    Dataset,
    Declaration,
    Declared,
    Deployment,
    Entity,
    FeatureService,
    FeatureView,
    Graph,
    Model,
    Monitor,
    OnDemandView,
    Protection,
    Source,
    Trigger,
    key_of,
    kind_of,
)

from .declared import Applied

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from penstock.ports import Metadata
    from penstock.spec import View

__all__ = ["DECLARED_CLASSES", "Catalogue"]

D = TypeVar("D", bound=Declared)

DECLARED_CLASSES: Mapping[str, type[Declaration]] = {
    kind_of(cls): cls
    for cls in (
        Entity,
        Source,
        FeatureView,
        OnDemandView,
        FeatureService,
        Dataset,
        Model,
        Graph,
        Deployment,
        Monitor,
        Trigger,
        Protection,
    )
}


class Catalogue(msgspec.Struct, frozen=True):
    """Everything that has been applied.

    Attributes:
        declarations: By key (``source/candles``), each after what it refers to.
        fingerprints: Hash of what each means, by key.
    """

    declarations: Mapping[str, Declaration]
    fingerprints: Mapping[str, str]

    @classmethod
    def load(cls, metadata: Metadata) -> Catalogue:
        """Read what has been applied."""
        return cls.of(metadata.find(AppliedDeclaration))

    @classmethod
    def of(cls, records: Iterable[AppliedDeclaration]) -> Catalogue:
        """Rebuild the declarations from their records, each when it is asked for.

        Whoever asks for one whose document cannot be read gets a ``StateError``.
        """
        found = list(records)
        fingerprints = {record.key: record.fingerprint for record in found}
        return cls(Applied(found, DECLARED_CLASSES), fingerprints)

    def all(self, cls: type[D]) -> tuple[D, ...]:
        """Every declaration of a class, in order."""
        return tuple(
            value for key in self._keys(cls) if isinstance(value := self.declarations[key], cls)
        )

    def _keys(self, cls: type[Declared]) -> Iterator[str]:
        """The keys of every declaration of a class, in order; nothing is built."""
        kinds = {kind for kind, known in DECLARED_CLASSES.items() if issubclass(known, cls)}
        return (key for key in self.declarations if key.partition("/")[0] in kinds)

    def deployments_of(self, model: str) -> tuple[Deployment, ...]:
        """Every deployment of a model, in order; none of another is built.

        Args:
            model: Name of the model, or of the graph.
        """
        keys, known = self._keys(Deployment), self.declarations
        if isinstance(known, Applied):
            wanted = {f"{kind_of(Model)}/{model}", f"{kind_of(Graph)}/{model}"}
            keys = (key for key in keys if known.refers(key, "model") in wanted)
        found = (known[key] for key in keys)
        return tuple(
            one for one in found if isinstance(one, Deployment) and one.model.name == model
        )

    @property
    def views(self) -> tuple[View, ...]:
        """Every feature view and every on-demand view, in order."""
        return (*self.all(FeatureView), *self.all(OnDemandView))

    def fingerprint(self, value: Declared) -> str:
        """Hash of what the declaration means, as applied."""
        return self.fingerprints[key_of(value)]

    def require_applied(self) -> None:
        """See that there is anything at all.

        Raises:
            NotReadyError: Nothing has been applied yet.
        """
        if not self.declarations:
            raise NotReadyError(
                "Nothing has been applied in this project folder yet. Run 'penstock apply' first."
            )

    def source(self, name: str) -> Source:
        """The source of that name."""
        return self._named(Source, name)

    def view(self, name: str) -> FeatureView:
        """The feature view of that name."""
        return self._named(FeatureView, name)

    def feature_service(self, name: str) -> FeatureService:
        """The feature service of that name."""
        return self._named(FeatureService, name)

    def on_demand_view(self, name: str) -> OnDemandView:
        """The on-demand view of that name."""
        return self._named(OnDemandView, name)

    def dataset(self, name: str) -> Dataset:
        """The dataset of that name."""
        return self._named(Dataset, name)

    def model(self, name: str) -> Model:
        """The model of that name."""
        return self._named(Model, name)

    def deployment(self, name: str) -> Deployment:
        """The deployment of that name."""
        return self._named(Deployment, name)

    def monitor(self, name: str) -> Monitor:
        """The monitor of that name."""
        return self._named(Monitor, name)

    def _named(self, cls: type[D], name: str) -> D:
        """The declaration of that class and name.

        Raises:
            NotReadyError: Nothing has been applied yet.
            NotFoundError: There is none of that name; names the nearest.
        """
        names = {key.partition("/")[2]: key for key in self._keys(cls)}
        found = self.declarations[names[name]] if name in names else None
        if isinstance(found, cls):
            return found
        self.require_applied()
        raise NotFoundError.of(
            kind_of(cls).replace("_", " "),
            name,
            names,
            hint="Declare it and run 'penstock apply'.",
        )
