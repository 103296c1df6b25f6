"""The platform about itself: events, audit, identities, processes."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import ClassVar, Literal

import msgspec

from .base import Record

__all__ = [
    "AuditEntry", "Event", "EventKind", "Identity", "Lease", "Partitioning", "Process", "Role",
    "RunProgress", "RunRetries",
]  # fmt: skip

EventKind = Literal[
    "raw.ingested", "raw.deleted", "features.generated", "model.trained", "model.ready",
    "deployment.changed", "scores.ready", "observation.received", "monitor.breached",
    "features.inconsistent", "experiment.ended", "run.failed",
]  # fmt: skip
Role = Literal["admin", "writer", "reader"]


class Event(msgspec.Struct, frozen=True, kw_only=True):
    """Something happened. Carries identifiers, never data; published on the topic ``events``.

    Attributes:
        event_id: Derived from what happened, so that the same thing has the same id.
        kind: What happened.
        subject: To whom: a source, a view, a model, a deployment, a monitor.
        ids: Identifiers of what it is about, such as ``{"batch_id": ...}``.
        at_us: When, in microseconds since 1970 UTC.
    """

    event_id: str
    kind: EventKind
    subject: str
    ids: Mapping[str, str]
    at_us: int


class AuditEntry(msgspec.Struct, frozen=True, kw_only=True):
    """One change of state: who did what to what, chained by hash to the entry before.

    Attributes:
        sequence: 1, 2, 3 ...
        at: When.
        actor: Who.
        action: What, such as ``"apply"`` or ``"promote"``.
        subject: To what.
        difference: What changed.
        previous_hash: Hash of the entry before; empty for the first.
        hash: sha256 (hex) over everything above.
    """

    sequence: int
    at: datetime
    actor: str
    action: str
    subject: str
    difference: Mapping[str, object]
    previous_hash: str
    hash: str


class Identity(Record, frozen=True):
    """Somebody who may call.

    Attributes:
        name: Who.
        role: ``reader`` looks, ``writer`` also sends data and asks for scores, ``admin`` does all.
        token_sha256: Hash (hex) of the token; the token itself is not kept.
        created_at: When.
    """

    KIND: ClassVar[str] = "identity"
    INDEXED: ClassVar[tuple[str, ...]] = ("token_sha256",)

    name: str
    role: Role
    token_sha256: str
    created_at: datetime

    @property
    def key(self) -> str:
        """The name."""
        return self.name


class Process(Record, frozen=True):
    """A process of the platform and its last sign of life.

    Attributes:
        process_id: Operating-system id.
        kind: ``api``, ``worker``, ``stream``, ``serve``, ``up`` or ``cli``.
        executor_id: Name under which it runs workflows; empty when it runs none.
        address: Where it answers; empty when it does not.
        started_at: When it started.
        seen_at: Its last heartbeat.
    """

    KIND: ClassVar[str] = "process"
    INDEXED: ClassVar[tuple[str, ...]] = ("kind",)

    process_id: int
    kind: str
    started_at: datetime
    seen_at: datetime
    executor_id: str = ""
    address: str = ""

    @property
    def key(self) -> str:
        """The process's id."""
        return str(self.process_id)


class RunProgress(Record, frozen=True):
    """What a step at work in a run is doing; gone when the step has ended.

    Attributes:
        run_id: The run.
        step: Its step.
        what: What is being done.
        share: Share of the step that is done, from 0 to 1.
    """

    KIND: ClassVar[str] = "run_progress"

    run_id: str
    step: str
    what: str
    share: float

    @property
    def key(self) -> str:
        """The run's id."""
        return self.run_id


class RunRetries(Record, frozen=True):
    """How often a run that failed was tried again by itself.

    Attributes:
        run_id: The run.
        times: How often.
        at: When it was last, or when it was decided that it is not any more.
        state: ``given up`` when it was tried often enough; ``replaced`` where a later run of the
            same subject took its place.
    """

    KIND: ClassVar[str] = "run_retries"

    run_id: str
    at: datetime
    times: int = 0
    state: Literal["waiting", "given up", "replaced"] = "waiting"

    @property
    def key(self) -> str:
        """The run's id."""
        return self.run_id


class Lease(Record, frozen=True):
    """The right to write something, which its holder has for as long as it shows signs of life.

    Attributes:
        name: What may be written, such as ``online/<space>/2`` for a partition of a view.
        token: Greater with every holder; stays when it is let go.
        holder: Name of who has it; empty while nobody does.
        process_id: Operating-system id of the holder's process.
        started_at: When that process started.
        since: When it was taken or let go.
        group: What stream processes share it out with; empty for one that is held for a moment.
        wanted_by: Name of who asked for it last.
        wanted_until: Until when it is kept for that one; passes when nobody asks again.
    """

    KIND: ClassVar[str] = "lease"

    name: str
    token: int
    holder: str
    process_id: int
    started_at: datetime
    since: datetime
    group: str = ""
    wanted_by: str = ""
    wanted_until: datetime | None = None

    @property
    def key(self) -> str:
        """The name."""
        return self.name

    def is_wanted(self, now: datetime) -> bool:
        """Whether somebody waits for it."""
        return self.wanted_until is not None and now < self.wanted_until


class Partitioning(Record, frozen=True):
    """How many partitions the views of a project are to have in the online store.

    Attributes:
        partitions: The number.
        set_by: Who set it.
        set_at: When.
    """

    KIND: ClassVar[str] = "partitioning"

    partitions: int
    set_by: str
    set_at: datetime

    @property
    def key(self) -> str:
        """There is one."""
        return "online"
