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
    from_document,
    key_of,
    kind_of,
)

if TYPE_CHECKING:
    from collections.abc import Iterable

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
        """Rebuild the declarations from their records.

        Raises:
            StateError: A document cannot be read.
        """
        known: dict[str, Declaration] = {}
        fingerprints: dict[str, str] = {}
        for record in sorted(records, key=lambda record: record.position):
            declared = DECLARED_CLASSES[record.declared_kind]
            value = from_document(declared, record.document, known)
            known[key_of(value)] = value
            fingerprints[key_of(value)] = record.fingerprint
        return cls(known, fingerprints)

    def all(self, cls: type[D]) -> tuple[D, ...]:
        """Every declaration of a class, in order."""
        return tuple(value for value in self.declarations.values() if isinstance(value, cls))

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
        values = {value.name: value for value in self.all(cls)}
        if name in values:
            return values[name]
        self.require_applied()
        raise NotFoundError.of(
            kind_of(cls).replace("_", " "),
            name,
            values,
            hint="Declare it and run 'penstock apply'.",
        )
