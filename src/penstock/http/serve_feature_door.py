"""The feature services as they are served: each with its compiled reader and its schema."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

import msgspec
import structlog

from penstock.errors import PenstockError
from penstock.features import Freshness, GatheredReads, ServiceReader
from penstock.plan import Catalogue
from penstock.spec import FeatureService

from .serve_feature_schema import FeatureSchema
from .serve_metrics import FeatureCounters

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from penstock.features import ViewAge
    from penstock.ports import Services

__all__ = ["FeatureDoor", "look_at_doors", "open_doors"]


class FeatureDoor(msgspec.Struct, frozen=True):
    """A feature service as it is served.

    Attributes:
        schema: What it takes and gives.
        reads: Reads the features.
        freshness: Until when they are fresh.
        counters: What it has been asked so far; carried over when the service changes.
    """

    schema: FeatureSchema
    reads: GatheredReads
    freshness: Freshness
    counters: FeatureCounters


def open_doors(services: Services, current: Mapping[str, FeatureDoor]) -> dict[str, FeatureDoor]:
    """Compile every service that is applied; those that did not change are carried over.

    One that cannot be compiled keeps the door it had, and the log says why.

    Args:
        services: The project's ports.
        current: What is served now.
    """
    doors: dict[str, FeatureDoor] = {}
    for service in Catalogue.load(services.metadata).all(FeatureService):
        before = current.get(service.name)
        if before is not None and before.schema.service == service:
            doors[service.name] = before
            continue
        try:
            reader = ServiceReader(services.online, service)
            schema = FeatureSchema(service)
        except PenstockError as error:
            log = structlog.get_logger("penstock.serve")
            log.warning("a feature service cannot be read", name=service.name, error=error.message)
            if before is not None:
                doors[service.name] = before
            continue
        reads = GatheredReads(reader, services.clock)
        counters = before.counters if before else FeatureCounters()
        door = FeatureDoor(schema, reads, Freshness(service.views), counters)
        with suppress(PenstockError):  # it is looked at again in a second
            look_at_doors(services, [door])
        doors[service.name] = door
    return doors


def look_at_doors(services: Services, doors: Iterable[FeatureDoor]) -> None:
    """See how old the features of services are, so that no request has to.

    Args:
        services: The project's ports.
        doors: The services.
    """
    seen: dict[str, Sequence[ViewAge]] = {}
    for door in doors:
        door.freshness.look(services.metadata, services.online, seen)
