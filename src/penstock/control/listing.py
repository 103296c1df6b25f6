"""The feature catalogue as a list: every feature and service, who uses it, and how fresh it is."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, TypeAlias

import msgspec

from penstock.errors import NotFoundError, PenstockError
from penstock.features import view_ages
from penstock.plan import (
    Catalogue,
    FeatureEntry,
    ServiceEntry,
    feature_entries,
    service_entries,
)
from penstock.spec import FeatureView

from .usage import declared_readers, pointed_to, version_reads

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from penstock.ports import Services

__all__ = ["Freshness", "Listing", "ViewState", "list_features", "view_states"]

Freshness: TypeAlias = Literal["fresh", "stale", "not built", "no records", "unknown"]


class ViewState(msgspec.Struct, frozen=True, kw_only=True):
    """How a feature view stands online.

    Attributes:
        view: The view.
        state: ``fresh`` while its newest batch is as young as the view asks, and where it asks
            nothing; ``stale`` when it is not; ``unknown`` while the online store cannot be read.
        age_us: Since its newest batch that is online arrived, in microseconds; none without one.
        waiting: How many newer batches are stored and not online yet.
    """

    view: str
    state: Freshness
    age_us: int | None = None
    waiting: int = 0


class Listing(msgspec.Struct, frozen=True, kw_only=True):
    """What there is in the feature catalogue.

    Attributes:
        features: Every feature, in the order of declaration.
        services: Every feature service.
        states: How each feature view stands online.
        unread: Versions in service, such as ``direction@3``, whose manifest cannot be read: what
            they use is not among who uses what.
    """

    features: tuple[FeatureEntry, ...]
    services: tuple[ServiceEntry, ...]
    states: tuple[ViewState, ...]
    unread: tuple[str, ...] = ()

    def where(
        self,
        *,
        tags: Sequence[str] = (),
        owner: str = "",
        view: str = "",
        unused: bool = False,
        deprecated: bool = False,
    ) -> Listing:
        """Those that everything given holds of.

        Args:
            tags: All of these are among its tags.
            owner: Who answers for it.
            view: It is of this view; of services, those with features of it.
            unused: Nobody uses it.
            deprecated: It is deprecated, whether its day has come or not; of services none.

        Raises:
            NotFoundError: Nothing has that tag or owner, or there is no such view; names the
                nearest.
        """
        every: tuple[FeatureEntry | ServiceEntry, ...] = (*self.features, *self.services)
        _require("tag", tags, {tag for one in every for tag in one.tags})
        _require("owner", [owner] if owner else [], {one.owner for one in every} - {""})
        views = {one.view for one in self.features}
        _require("feature view or on-demand view", [view] if view else [], views)

        def holds(one: FeatureEntry | ServiceEntry) -> bool:
            return (
                set(tags) <= set(one.tags)
                and owner in {"", one.owner}
                and not (unused and one.used_by)
            )

        features = [
            one
            for one in self.features
            if holds(one) and view in {"", one.view} and (one.deprecated or not deprecated)
        ]
        services = [
            one
            for one in (() if deprecated else self.services)
            if holds(one)
            and any(name.startswith(f"{view}." if view else "") for name in one.features)
        ]
        return msgspec.structs.replace(self, features=tuple(features), services=tuple(services))


def list_features(services: Services) -> Listing:
    """Everything that is applied of the catalogue, with who uses it.

    Users are declarations, and the model versions that an alias points to, which may have learned
    from what is declared no more.

    Args:
        services: The ports; uses metadata, artifacts, the online store and the clock.

    Raises:
        NotReadyError: Nothing has been applied yet.
    """
    catalogue = Catalogue.load(services.metadata)
    catalogue.require_applied()
    readers = declared_readers(services.metadata, catalogue)
    read, unread = version_reads(services, pointed_to(services.metadata))
    by_key = {f"model_version/{one.label}": one for one in read}
    readers |= {key: one.columns for key, one in by_key.items()}
    learned = {key: one.service for key, one in by_key.items() if one.service}
    return Listing(
        features=feature_entries(catalogue, readers),
        services=service_entries(catalogue, learned),
        states=view_states(services, catalogue.all(FeatureView)),
        unread=unread,
    )


def view_states(services: Services, views: Sequence[FeatureView]) -> tuple[ViewState, ...]:
    """How each of some views stands online.

    Args:
        services: The ports; uses metadata, tables, the online store and the clock.
        views: The views.
    """
    now_us = services.clock.now_us()
    try:
        ages = {age.view: age for age in view_ages(services.metadata, services.online, views)}
    except PenstockError:
        # What is said of features is worth reading also while the online store is down.
        return tuple(ViewState(view=view.name, state="unknown") for view in views)
    found: list[ViewState] = []
    for view in views:
        age = ages.get(view.name)
        if age is None:
            known = services.tables.version(f"raw/{view.source.name}") is not None
            found.append(ViewState(view=view.name, state="not built" if known else "no records"))
            continue
        state: Freshness = "stale" if age.is_stale(now_us) else "fresh"
        age_us = now_us - age.arrived_us
        found.append(ViewState(view=view.name, state=state, age_us=age_us, waiting=age.waiting))
    return tuple(found)


def _require(kind: str, wanted: Iterable[str], known: set[str]) -> None:
    for name in wanted:
        if name not in known:
            given = "tags=[...]" if kind == "tag" else f"{kind}=..."
            hint = "" if known else f"Nothing has one; declare it with {given}"
            raise NotFoundError.of(kind, name, known, hint=hint)
