"""Everything a stage may need, opened when it is first used."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from pathlib import Path

    from penstock.records import Identity

    from .artifacts import Artifacts
    from .clock import Clock, Ids
    from .event_log import EventLog
    from .executor import Executor
    from .locks import Locks
    from .metadata import Metadata
    from .online_store import OnlineStore
    from .tables import Tables
    from .workflows import Workflows

__all__ = ["Services"]


class Services(Protocol):
    """The ports of one project, as ``penstock.runtime`` wires them.

    Each is opened on first use, so a process loads only the drivers it works with. A function that
    needs one or two ports takes those; one that orchestrates takes this.
    """

    @property
    def home(self) -> Path:
        """The project folder."""
        ...

    @property
    def scratch(self) -> Path:
        """A folder for files in the making; on the same disk as the artifacts."""
        ...

    @property
    def score_log(self) -> Path:
        """The folder of the write-ahead files of scores."""
        ...

    @property
    def tracking_uri(self) -> str:
        """Where MLflow tracks."""
        ...

    @property
    def features_memory_bytes(self) -> int:
        """About what computing features from the raw tables may take at once."""
        ...

    @property
    def features_at_once(self) -> int:
        """How many parts of a computation of features run side by side."""
        ...

    @property
    def actor(self) -> str:
        """Who acts through this object, for the audit table."""
        ...

    @property
    def caller(self) -> Identity:
        """Who asks through this object; what they may read is decided by it."""
        ...

    @property
    def clock(self) -> Clock:
        """The time."""
        ...

    @property
    def ids(self) -> Ids:
        """New identifiers."""
        ...

    @property
    def metadata(self) -> Metadata:
        """Records."""
        ...

    @property
    def tables(self) -> Tables:
        """Tables."""
        ...

    @property
    def online(self) -> OnlineStore:
        """Online feature state."""
        ...

    @property
    def log(self) -> EventLog:
        """Topics."""
        ...

    @property
    def artifacts(self) -> Artifacts:
        """Immutable files."""
        ...

    @property
    def locks(self) -> Locks:
        """Locks across processes."""
        ...

    @property
    def leases(self) -> Locks:
        """Locks that a holder without a sign of life loses: the right to write what is fenced."""
        ...

    @property
    def stream_partitions(self) -> int:
        """How many partitions the settings want views to have in the online store."""
        ...

    @property
    def executor(self) -> Executor:
        """Worker processes."""
        ...

    @property
    def workflows(self) -> Workflows:
        """Durable runs."""
        ...
