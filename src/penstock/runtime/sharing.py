"""How several stream processes share out what there is to do."""

from __future__ import annotations

import math
import os
import threading
import time
from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING

import structlog

from penstock.errors import UnavailableError
from penstock.features import lock_of
from penstock.ports import Locks
from penstock.records import Lease, Process

from .heartbeat import is_alive
from .leases import LEASE, Leases

if TYPE_CHECKING:
    from collections.abc import Generator

    from .services import LocalServices

__all__ = ["Share"]

LOOK_S = 0.25
SHY = timedelta(seconds=2)
SINGLE = "single"


class Share(Locks):
    """What this process has of the leases that all stream processes share.

    They are shared out evenly, the partitions of each view among themselves, and what is one of its
    kind (the intake of a source, a view in one partition) among its like. A process that has
    more than its share lets go; one that has less takes what is free, and what a dead or silent one
    has lost. Safe across threads; what is let go here is nothing that the asking thread is using,
    since a thread asks for what it alone uses.

    As ``Locks`` it gives the tokens of what this process has, and refuses the rest.

    Args:
        services: The project.
        holder: Name of this process; no other has it.
    """

    def __init__(self, services: LocalServices, *, holder: str = "") -> None:
        self._services = services
        self._holder = holder or services.executor_id
        self._leases = Leases(services)
        self._lock = threading.Lock()
        self._known: dict[str, Lease] = {}
        self._lost: set[str] = set()
        self._others: set[int] = set()
        self._looked_s = -math.inf
        self._log = structlog.get_logger("penstock.stream")

    def has(self, name: str) -> bool:
        """Whether something of which there is one is this process's to do now."""
        with self._lock:
            return self._keeps(name, SINGLE, 0)

    def slots(self, space: str, count: int) -> list[int]:
        """Which partitions of a view are this process's to refresh now.

        Args:
            space: The view's space.
            count: How many partitions there are.
        """
        group = SINGLE if count == 1 else space
        with self._lock:
            return [n for n in range(count) if self._keeps(lock_of(space, n), group, count)]

    @contextmanager
    def hold(self, name: str, *, wait_s: float = 0.0) -> Generator[int]:
        """Use a lease that this process has, and give its token; nothing is waited for.

        Raises:
            UnavailableError: It is another's now.
        """
        del wait_s
        with self._lock:
            self._look()
            lease = self._known.get(name)
        if lease is None or lease.holder != self._holder:
            message = f"The lease {name!r} is another process's now. It goes on from here."
            raise UnavailableError(message, lock=name)
        yield lease.token

    def close(self) -> None:
        """Let go of everything, so that others take it at once."""
        with self._lock:
            for lease in self._services.metadata.find(Lease):
                if lease.holder == self._holder:
                    self._known[lease.name] = self._leases.release(lease)

    def _keeps(self, name: str, group: str, count: int) -> bool:
        """Whether this process has a lease, after it took it or let it go if that was due."""
        self._look()
        lease, now = self._known.get(name), self._services.clock.now()
        if lease is not None and lease.holder == self._holder:
            if not lease.is_wanted(now) and not self._has_too_many(group, count):
                return True
            self._known[name] = self._leases.release(lease)
            return False
        if not self._may_take(lease, group):
            return False
        taken = self._leases.take(name, self._holder, group=group)
        if taken is None:
            return False
        if lease is not None and lease.holder:
            self._log.info("took over from a process that is gone", lease=name,
                           process=lease.process_id)  # fmt: skip
        self._known[name] = taken
        self._lost.discard(name)
        return True

    def _may_take(self, lease: Lease | None, group: str) -> bool:
        """Whether a lease that this process has not is there to be taken, and by this process."""
        if lease is None:
            return True
        now = self._services.clock.now()
        if lease.is_wanted(now):
            return False
        if lease.holder:
            return lease.name in self._lost
        # What a process let go for another to take is left to that one, for a while.
        return lease.since + SHY <= now or self._load(group) <= self._least(group)

    def _look(self) -> None:
        now_s = time.monotonic()
        if now_s - self._looked_s < LOOK_S:
            return
        metadata, now = self._services.metadata, self._services.clock.now()
        processes = {one.process_id: one for one in metadata.find(Process)}
        self._known = {one.name: one for one in metadata.find(Lease)}
        self._lost = {
            name
            for name, one in self._known.items()
            if one.holder not in {"", self._holder} and self._leases.is_lost(one, processes)
        }
        self._others = {
            one.process_id
            for one in processes.values()
            if one.kind == "stream" and one.process_id != os.getpid()
            and is_alive(one, now, silent_after=LEASE)
        }  # fmt: skip
        self._looked_s = now_s

    def _has_too_many(self, group: str, count: int) -> bool:
        loads, mine = self._other_loads(group), self._load(group)
        if not loads:
            return False
        size = max(count, sum(1 for one in self._known.values() if one.group == group))
        if mine > math.ceil(size / (len(loads) + 1)):
            return True
        # As many as its share, and still another has two less: shares that do not come out even.
        free = any(one.group == group and not one.holder for one in self._known.values())
        return mine - min(loads) >= 2 and not free  # noqa: PLR2004 - one less is as even as it gets

    def _load(self, group: str) -> int:
        held = (one for one in self._known.values() if one.holder == self._holder)
        return sum(1 for one in held if one.group == group)

    def _least(self, group: str) -> int:
        return min(self._other_loads(group), default=self._load(group))

    def _other_loads(self, group: str) -> list[int]:
        """How many leases of a group each other living stream process has."""
        loads = dict.fromkeys(map(str, self._others), 0)
        for name, one in self._known.items():
            if one.holder in {"", self._holder} or name in self._lost or one.group != group:
                continue
            other = str(one.process_id) if one.process_id in self._others else one.holder
            loads[other] = loads.get(other, 0) + 1
        return list(loads.values())
