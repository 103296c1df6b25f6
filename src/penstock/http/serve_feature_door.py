"""The feature services as they are served: each with its compiled reader and its schema."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

import msgspec
import structlog

from penstock.errors import PenstockError
from penstock.features import Freshness, GatheredReads, ServiceReader
from penstock.plan import Catalogue
from penstock.ports import Put
from penstock.spec import FeatureService

from .serve_feature_samples import Taken, samples_of
from .serve_feature_schema import FeatureSchema
from .serve_metrics import FeatureCounters

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from penstock.features import ViewAge
    from penstock.ports import Services

__all__ = ["FeatureDoor", "look_at_doors", "open_doors", "write_samples"]


class FeatureDoor(msgspec.Struct, frozen=True):
    """A feature service as it is served.

    Attributes:
        schema: What it takes and gives.
        reads: Reads the features.
        freshness: Until when they are fresh.
        counters: What it has been asked so far; carried over when the service changes.
        taken: A few of the rows that were answered.
    """

    schema: FeatureSchema
    reads: GatheredReads
    freshness: Freshness
    counters: FeatureCounters
    taken: Taken


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
        door = FeatureDoor(schema, reads, Freshness(service.views), counters, Taken())
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


def write_samples(
    services: Services, doors: Iterable[FeatureDoor], process: str, *, last: bool = False
) -> None:
    """Write what was taken of services, where it is time to.

    Args:
        services: The ports; uses metadata and the clock.
        doors: The services.
        process: Who answered.
        last: Whether the process ends.
    """
    now_us = services.clock.now_us()
    for door in doors:
        schema = door.schema
        samples = samples_of(
            door.taken, schema.service, schema.service_id, process, now_us=now_us, last=last
        )
        if samples is not None:
            services.metadata.write(Put(samples))
