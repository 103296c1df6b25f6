"""Online features kept up to date for everything that reads them, and for nothing else.

A view that is declared anew has a new space of the online store. The versions trained on the old
one go on reading the old space until none of them answers any more, so new batches go to both.
A space that nothing reads is dropped, under the lock that a refresh of it takes: a refresh that
comes later begins from zero, and never goes on from half of a space.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING, TypeAlias

import msgspec
import structlog

from penstock.errors import ConflictError, PenstockError, UnavailableError
from penstock.features import (
    VectorResult,
    drop_vectors,
    groups_of,
    layout_of,
    layouts_of,
    lock_of,
    part_of,
    refresh,
    refresh_vectors,
    space_of,
)
from penstock.plan import Catalogue
from penstock.ports import announce
from penstock.records import ALIASES, Aliases, AppliedProject, Event, ServingStatus
from penstock.registry import aliases, get_version, read_manifest, views_of
from penstock.spec import Deployment, FeatureView, base_views

from .partitioning import wanted_partitions

if TYPE_CHECKING:
    from collections.abc import Iterator

    from penstock.ports import Locks, Metadata, Services

__all__ = [
    "drop_ready_vectors",
    "drop_unread_spaces",
    "refresh_features",
    "refresh_ready_vectors",
]

Chosen: TypeAlias = Callable[[str, int], Iterable[int]]
"""Which partitions of a view, given its space and how many there are."""

GRACE = timedelta(minutes=2)
"""How long a space is kept after versions or views changed: requests under way still read it."""


class _Read(msgspec.Struct, frozen=True):
    """What is read from the online store.

    Attributes:
        declared: The applied views, by their space.
        served: Views as versions in service learned from them, where they are declared no more.
        vectors: The feature views of each version in service whose deployment precomputes, by the
            space of their vectors.
        scores: The spaces of batch scores that deployments answer with.
        is_whole: Whether every version in service could be asked what it reads.
    """

    declared: Mapping[str, FeatureView]
    served: Mapping[str, FeatureView]
    vectors: Mapping[str, Sequence[FeatureView]]
    scores: Collection[str]
    is_whole: bool

    def reads(self, space: str) -> bool:
        """Whether anything reads the view of that space."""
        features = (self.declared, self.served, self.vectors)
        return space in self.scores or any(space in found for found in features)


def refresh_features(
    services: Services, source: str, *, locks: Locks | None = None, slots: Chosen | None = None
) -> dict[str, int]:
    """Fold a source's new batches into every view of it, and announce ``features.generated``.

    Its views are those that are applied, and those that a version in service was trained on: the
    versions that a deployment's aliases name, and any that a serving process still answers with.

    Args:
        services: The ports.
        source: Name of the source.
        locks: Gives ``lock_of`` each partition that is refreshed; the leases when left out.
        slots: Which partitions of a view to refresh, given its space and how many there are; all
            when left out.

    Returns:
        Records folded in, by view, and by space for a view that is only read by a version in
        service; empty while nothing of the source has been stored.

    Raises:
        UnavailableError: Another process has been refreshing a view for too long.
    """
    if services.tables.version(f"raw/{source}") is None:
        return {}
    read = _read(services)
    bring = partial(_refresh, services, wanted_partitions(services), locks or services.leases)
    folded: dict[str, int] = {}
    for view in read.declared.values():
        if view.source.name == source:
            folded[view.name] = bring(view, slots)
    for space, view in read.served.items():
        if view.source.name != source:
            continue
        # What is declared now must not wait for what was declared once.
        try:
            folded[space] = bring(view, slots)
        except PenstockError as error:
            _log().warning("a view in service was not refreshed", space=space, error=error.message)
    own = {space for found in (read.declared, read.served) for space, view in found.items()
           if view.source.name == source}  # fmt: skip
    _refresh_vectors(services, read, slots and _among(own, slots))
    return folded


def refresh_ready_vectors(services: Services) -> list[VectorResult]:
    """Write the precomputed vectors that deployments ask for, as far as they no longer hold.

    It is cheap where none has come to its end and no batch has come in. What cannot be written is
    logged: whoever reads takes the views meanwhile.

    Args:
        services: The ports.
    """
    return _refresh_vectors(services, _read(services))


def drop_ready_vectors(services: Services, view: FeatureView) -> None:
    """Remove the vectors that contain a view, before it is built from nothing.

    Args:
        services: The ports.
        view: The view.

    Raises:
        UnavailableError: Another process has been writing them for too long.
    """
    for views in _read(services).vectors.values():
        if view in views:
            drop_vectors(services.online, services.locks, views)


def drop_unread_spaces(services: Services) -> list[str]:
    """Drop the spaces of the online store that nothing reads; returns their names.

    Nothing is dropped within two minutes of a change of the project or of a model's aliases, or
    while it is not known what a version in service reads.

    Args:
        services: The ports.
    """
    # The spaces first: one that appears while the rest is read is not looked at.
    spaces = services.online.spaces()
    read = _read(services)
    unread = [name for name in spaces if not _is_read(services, read, name)]
    dropped: list[str] = []
    for name in unread if _is_settled(services) else ():
        part = part_of(name)
        try:
            with services.leases.hold(lock_of(part.space, part.slot or 0), wait_s=0) as token:
                # Asked again for each: what is read may have changed meanwhile.
                read = _read(services)
                if read.is_whole and not _is_read(services, read, name):
                    services.online.claim(name, token)
                    services.online.drop(name, token=token)
                    dropped.append(name)
        except (UnavailableError, ConflictError):
            continue  # somebody fills it
    if dropped:
        _log().info("dropped spaces that nothing reads", spaces=dropped)
    return dropped


def _log() -> structlog.typing.FilteringBoundLogger:
    logger: structlog.typing.FilteringBoundLogger = structlog.get_logger("penstock.control")
    return logger


def _refresh(
    services: Services, wanted: int, locks: Locks, view: FeatureView, slots: Chosen | None
) -> int:
    """Bring partitions of a view up to date, and say how far all of them are; returns records."""
    result = refresh(
        services.tables, services.online, locks, view,
        partitions=wanted, slots=slots, now_us=services.clock.now_us(),
    )  # fmt: skip
    if result.too_late:
        _log().warning(
            "records came too late for online features",
            view=view.name,
            records=result.too_late,
            of=result.records,
            batch=result.last_batch,
        )
    if result.swept:
        _log().debug("values left the online store", view=view.name, values=result.swept)
    # Whoever brings the last partition to a batch is the one whose event is new.
    if result.last_batch:
        event = Event(
            event_id=f"features.generated:{result.space}:{result.last_batch}",
            kind="features.generated",
            subject=view.name,
            ids={"space": result.space, "batch": str(result.last_batch)},
            at_us=services.clock.now_us(),
        )
        announce(services.log, event)
    return result.records


def _is_read(services: Services, read: _Read, name: str) -> bool:
    """Whether anything reads a space, or is about to when its partition has been built."""
    part = part_of(name)
    if not read.reads(part.space):
        return False
    if part.space in read.scores:
        return True
    if part.space in read.vectors:
        # Where the views lie, and where they are going to.
        views = [space_of(view) for view in read.vectors[part.space]]
        layouts = layouts_of(services.online, views)
        return part.of in {wanted_partitions(services), *(one.partitions for one in layouts)}
    layout = layout_of(services.online, part.space)
    return part.of in {0, layout.partitions, layout.left, wanted_partitions(services)}


def _among(spaces: Collection[str], slots: Chosen) -> Chosen:
    """The same for some views, and no partition of the others."""
    return lambda space, count: slots(space, count) if space in spaces else ()


def _refresh_vectors(
    services: Services, read: _Read, slots: Chosen | None = None
) -> list[VectorResult]:
    found: list[VectorResult] = []
    for space, views in read.vectors.items():
        try:
            found += refresh_vectors(
                services.tables,
                services.online,
                services.locks,
                views,
                services.clock.now_us(),
                slots=slots,
            )
        except PenstockError as error:
            _log().warning("vectors were not written", space=space, error=error.message)
    return found


def _is_settled(services: Services) -> bool:
    applied = services.metadata.read(AppliedProject, "project")
    if applied is None:
        return False
    changed = [applied.applied_at, *(one.changed_at for one in services.metadata.find(Aliases))]
    return max(changed) + GRACE < services.clock.now()


def _read(services: Services) -> _Read:
    catalogue = Catalogue.load(services.metadata)
    declared = {space_of(view): view for view in catalogue.all(FeatureView)}
    served: dict[str, FeatureView] = {}
    vectors: dict[str, Sequence[FeatureView]] = {}
    ready = {
        deployment.model.name for deployment in catalogue.all(Deployment) if deployment.precompute
    }
    is_whole = True
    for model, number in sorted(_in_service(services.metadata, catalogue)):
        try:
            version = get_version(services.metadata, model, number)
            views = base_views(views_of(read_manifest(services.artifacts.path(version.package))))
        except PenstockError as error:
            is_whole = False
            label = f"{model}@{number}"
            _log().warning("features of a version unknown", version=label, error=error.message)
            continue
        served |= {space_of(view): view for view in views}
        if model in ready:
            vectors |= {group.space: group.views for group in groups_of(views)}
    rest = {space: view for space, view in served.items() if space not in declared}
    scores = {one.ready_space for one in catalogue.all(Deployment) if one.ready_space}
    return _Read(declared, rest, vectors, scores, is_whole)


def _in_service(metadata: Metadata, catalogue: Catalogue) -> set[tuple[str, int]]:
    """Model and number of the versions that answer, or may any moment."""
    models = {deployment.model.name for deployment in catalogue.all(Deployment)}
    pointers = [aliases(metadata, model) for model in models]
    named = {(one.model, int(getattr(one, alias))) for one in pointers for alias in ALIASES}
    return {pair for pair in named | set(_answering(metadata)) if pair[1]}


def _answering(metadata: Metadata) -> Iterator[tuple[str, int]]:
    """What serving processes say they have loaded; one may be behind the aliases."""
    for status in metadata.find(ServingStatus):
        for label in status.versions.values():
            model, _, number = label.rpartition("@")
            yield model, int(number)
