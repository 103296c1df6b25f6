"""The feature services as they are served: each with its compiled reader and its schema."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
import structlog

from penstock.errors import PenstockError
from penstock.features import GatheredReads, ServiceReader
from penstock.plan import Catalogue
from penstock.spec import FeatureService

from .serve_feature_schema import FeatureSchema
from .serve_metrics import FeatureCounters

if TYPE_CHECKING:
    from collections.abc import Mapping

    from penstock.ports import Services

__all__ = ["FeatureDoor", "open_doors"]


class FeatureDoor(msgspec.Struct, frozen=True):
    """A feature service as it is served.

    Attributes:
        schema: What it takes and gives.
        reads: Reads the features.
        counters: What it has been asked so far; carried over when the service changes.
    """

    schema: FeatureSchema
    reads: GatheredReads
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
        doors[service.name] = FeatureDoor(schema, reads, counters)
    return doors
