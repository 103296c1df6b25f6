"""How many partitions views are to have in the online store, and how each of them stands."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from penstock.features import (
    layout_of,
    lock_of,
    marks_of,
    partition_spaces,
    space_of,
    swept_counts,
)
from penstock.plan import Catalogue
from penstock.ports import Audit, Put
from penstock.records import Lease, Partitioning
from penstock.spec import FeatureView

if TYPE_CHECKING:
    from collections.abc import Iterator

    from penstock.ports import Services

__all__ = ["PartitionState", "partition_states", "want_partitions", "wanted_partitions"]


class PartitionState(msgspec.Struct, frozen=True, kw_only=True):
    """How a partition of a view stands.

    Attributes:
        view: The view.
        slot: Number of the partition, from 0.
        of: How many there are.
        process_id: Of the process that keeps it up to date; 0 for none.
        batch: Number of the last raw batch in it; none while it has not been built.
        waiting: How many newer batches the raw table has.
        swept: How many values have left it since it was built.
        is_read: Whether it is read; else it is being built, to be read when all are.
    """

    view: str
    slot: int
    of: int
    process_id: int
    batch: int | None
    waiting: int
    swept: int
    is_read: bool


def wanted_partitions(services: Services) -> int:
    """How many partitions views are to have: as whoever set it last said, else the settings.

    Args:
        services: The ports.
    """
    found = services.metadata.read(Partitioning, "online")
    return services.stream_partitions if found is None else found.partitions


def want_partitions(services: Services, partitions: int) -> None:
    """Set how many partitions views are to have; processes that run already follow.

    So that two processes with other settings do not each undo what the other does, it is the one
    that started last that is followed.

    Args:
        services: The ports.
        partitions: The number.
    """
    found = services.metadata.read(Partitioning, "online")
    if found is not None and found.partitions == partitions:
        return
    record = Partitioning(
        partitions=partitions, set_by=services.actor, set_at=services.clock.now()
    )  # fmt: skip
    difference = {"partitions": [found.partitions if found else None, partitions]}
    audit = Audit(
        actor=services.actor, action="partition", subject="online", difference=difference
    )  # fmt: skip
    services.metadata.write(Put(record), audit=audit)


def partition_states(services: Services) -> Iterator[PartitionState]:
    """How each partition of the declared views stands, those being built too.

    Args:
        services: The ports; uses metadata, tables and the online store.
    """
    wanted = wanted_partitions(services)
    leases = {lease.name: lease for lease in services.metadata.find(Lease)}
    for view in Catalogue.load(services.metadata).all(FeatureView):
        space, table = space_of(view), f"raw/{view.source.name}"
        newest = services.tables.applied(table, table)
        layout = layout_of(services.online, space)
        for count in dict.fromkeys((layout.partitions, wanted)):
            marks = marks_of(services.online, space, count)
            swept = swept_counts(services.online, partition_spaces(space, count))
            for slot, batch in enumerate(marks):
                lease = leases.get(lock_of(space, slot))
                yield PartitionState(
                    view=view.name,
                    slot=slot,
                    of=count,
                    process_id=lease.process_id if lease is not None and lease.holder else 0,
                    batch=batch,
                    waiting=max(0, newest - (batch or 0)),
                    swept=swept[slot],
                    is_read=count == layout.partitions,
                )
