"""Leases: the right to write something, lost by whoever gives no sign of life."""

from __future__ import annotations

import os
import time
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import msgspec
import psutil

from penstock.errors import ConflictError, UnavailableError
from penstock.ports import Locks, Put
from penstock.records import Lease, Process

from .heartbeat import Actor, Heartbeat, is_alive, runs_since

if TYPE_CHECKING:
    from collections.abc import Generator, Mapping

__all__ = ["LEASE", "Leases"]

LEASE = timedelta(seconds=6)
"""A holder without a sign of life for so long has lost what it held."""
ASKED_FOR = timedelta(seconds=3)
ASK_AGAIN_S = 1.0
PAUSE_S = 0.02


class Leases(Locks):
    """Locks kept as records, with the token that goes with each.

    A holder that has died has lost them at once, by the process table; one that lives and gives no
    sign of life, such as one that was stopped, after six seconds. It may not have noticed when it
    goes on: what it writes with its token is refused by a store that has seen the next holder's.

    The stream processes hold theirs for as long as they run. Who wants one of them asks for it, in
    its record; the holder gives it up between two things it does.

    Args:
        services: The project.
    """

    def __init__(self, services: Actor) -> None:
        self._services = services
        self._started = datetime.fromtimestamp(psutil.Process().create_time(), tz=UTC)

    @contextmanager
    def hold(self, name: str, *, wait_s: float = 30.0) -> Generator[int]:
        """Hold a lease while the context is open, and give its token.

        Args:
            name: What is to be written.
            wait_s: How long to wait for it; 0 to try once.

        Raises:
            UnavailableError: It was held by another all the time; says by whom.
        """
        holder = f"{self._services.kind}-{self._services.ids.new()}"
        with ExitStack() as stack:
            if self._services.metadata.read(Process, str(os.getpid())) is None:
                stack.enter_context(Heartbeat(self._services))
            try:
                yield self._wait(name, holder, wait_s).token
            finally:
                # Read again: it may have been taken a moment before an interrupt, or asked for.
                found = self._services.metadata.read(Lease, name)
                if found is not None and found.holder == holder:
                    self.release(found)

    def take(self, name: str, holder: str, *, group: str = "") -> Lease | None:
        """Take a lease that is free or whose holder has lost it; none while another has it.

        Args:
            name: What is to be written.
            holder: Who takes it; what it has already it keeps.
            group: What it is shared out with.
        """
        found = self._services.metadata.read(Lease, name)
        if found is not None and found.holder:
            if found.holder == holder:
                return found
            if not self.is_lost(found):
                return None
        now = self._services.clock.now()
        # From the clock, so that tokens rise when the records are lost and the store is not.
        last = found.token if found else 0
        lease = Lease(
            name=name,
            token=max(last + 1, self._services.clock.now_us()),
            holder=holder,
            process_id=os.getpid(),
            started_at=self._started,
            since=now,
            group=group,
        )
        return lease if self._replace(found, lease) else None

    def release(self, lease: Lease) -> Lease:
        """Let go of a lease, unless it is another's by now; returns it as it is then."""
        found: Lease | None = lease
        while found is not None and found.token == lease.token and found.holder:
            free = msgspec.structs.replace(found, holder="", since=self._services.clock.now())
            if self._replace(found, free):
                return free
            found = self._services.metadata.read(Lease, lease.name)
        return found or lease

    def is_lost(self, lease: Lease, processes: Mapping[int, Process] | None = None) -> bool:
        """Whether the holder has died, or has given no sign of life for too long.

        Args:
            lease: The lease.
            processes: The records of processes, by their id; read when left out.
        """
        if processes is None:
            beat = self._services.metadata.read(Process, str(lease.process_id))
        else:
            beat = processes.get(lease.process_id)
        if beat is None:
            return not runs_since(lease.process_id, lease.started_at)
        return not is_alive(beat, self._services.clock.now(), silent_after=LEASE) or not runs_since(
            lease.process_id, lease.started_at
        )

    def _wait(self, name: str, holder: str, wait_s: float) -> Lease:
        end_s, ask_s = time.monotonic() + wait_s, 0.0
        while (lease := self.take(name, holder)) is None:
            now_s = time.monotonic()
            if now_s >= end_s:
                raise self._busy(name, wait_s)
            if now_s >= ask_s:
                self._ask(name, holder)
                ask_s = now_s + ASK_AGAIN_S
            time.sleep(min(PAUSE_S, end_s - now_s))
        return lease

    def _ask(self, name: str, holder: str) -> None:
        """Say in the record who waits; of several who wait, the first goes first."""
        found, now = self._services.metadata.read(Lease, name), self._services.clock.now()
        if found is None or (found.is_wanted(now) and found.wanted_by != holder):
            return
        asked = msgspec.structs.replace(found, wanted_by=holder, wanted_until=now + ASKED_FOR)
        self._replace(found, asked)

    def _replace(self, found: Lease | None, lease: Lease) -> bool:
        try:
            self._services.metadata.write(Put(lease, expected=found))
        except ConflictError:
            return False
        return True

    def _busy(self, name: str, wait_s: float) -> UnavailableError:
        found = self._services.metadata.read(Lease, name)
        holder = f"process {found.process_id}" if found and found.holder else "another process"
        message = (
            f"The lease {name!r} is held by {holder} and was not let go within {wait_s:g} s. "
            "Wait until that has ended, or stop it, then try again."
        )
        return UnavailableError(message, lock=name, holder=holder, wait_s=wait_s)
