"""The wiring: which adapter stands behind which port. The only importer of adapters.

Each adapter is imported and opened when it is first asked for, so that a process loads only the
drivers it works with and ``import penstock.runtime`` loads none.
"""

from __future__ import annotations

import copy
import threading
from importlib.util import find_spec
from typing import TYPE_CHECKING, TypeVar, cast

from penstock.access import system_identity
from penstock.errors import NotSupportedError

from .callers import identify_given, local_caller, local_token, token_given
from .loading import lead_path
from .settings import Settings, load_settings
from .state_folder import check_records, check_state, local_user, unusable

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path
    from types import TracebackType
    from typing import Self

    from penstock.ports import (
        Artifacts,
        Clock,
        EventLog,
        Executor,
        Ids,
        Locks,
        Metadata,
        OnlineStore,
        Tables,
        Workflows,
    )
    from penstock.records import Identity

    from .layout import Layout

__all__ = ["LocalServices", "open_services"]

COMMAND = "cli"
T = TypeVar("T")


class LocalServices:
    """The ports of one project on this machine; implements ``penstock.ports.Services``.

    Safe across threads. A context manager: leaving it closes whatever was opened.

    Args:
        home: The project folder, absolute.
        settings: Its settings.
        kind: What kind of process this is.
        actor: Who acts through it.
    """

    def __init__(self, home: Path, settings: Settings, *, kind: str, actor: str) -> None:
        self.settings = settings
        self.kind = kind
        self._home = home
        self._actor = actor
        self._caller: Identity | None = None
        self._given = ""
        self._layout = settings.layout(home)
        self._lock = threading.RLock()
        self._opened: dict[str, object] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    @property
    def layout(self) -> Layout:
        """Where the state lies on disk."""
        return self._layout

    @property
    def home(self) -> Path:
        """The project folder."""
        return self._home

    @property
    def scratch(self) -> Path:
        """A folder for files in the making; on the same disk as the artifacts."""
        return self._folder(self._layout.scratch)

    @property
    def score_log(self) -> Path:
        """The folder of the write-ahead files of scores."""
        return self._folder(self._layout.scores)

    @property
    def tracking_uri(self) -> str:
        """Where MLflow tracks."""
        return f"sqlite:///{self._layout.tracking}"

    @property
    def features_memory_bytes(self) -> int:
        """About what computing features from the raw tables may take at once."""
        return self.settings.features_memory_mb << 20

    @property
    def features_at_once(self) -> int:
        """How many parts of a computation of features run side by side."""
        return self.settings.features_at_once

    @property
    def actor(self) -> str:
        """Who acts through this object, for the audit table."""
        return self._actor

    @property
    def caller(self) -> Identity:
        """Who asks through this object: the platform itself, unless it is a command or a client."""
        if self._caller is not None:
            return self._caller
        return self._once("caller", self._who)

    @property
    def token(self) -> str:
        """The token to send to other processes: the one given, or the local administrator's.

        Raises:
            StateError: None was given, and that file cannot be read.
        """
        return self._given or local_token(self._layout.token)

    @property
    def executor_id(self) -> str:
        """Name under which this object runs workflows; no other object has it."""
        return self._once("executor_id", lambda: f"{self.kind}-{self.ids.new()}")

    @property
    def clock(self) -> Clock:
        """The time."""
        return self._once("clock", self._open_clock)

    @property
    def ids(self) -> Ids:
        """New identifiers."""
        return self._once("ids", self._open_ids)

    @property
    def metadata(self) -> Metadata:
        """Records."""
        return self._once("metadata", self._open_metadata)

    @property
    def tables(self) -> Tables:
        """Tables."""
        return self._once("tables", self._open_tables)

    @property
    def online(self) -> OnlineStore:
        """Online feature state."""
        return self._once("online", self._open_online)

    @property
    def log(self) -> EventLog:
        """Topics."""
        return self._once("log", self._open_log)

    @property
    def artifacts(self) -> Artifacts:
        """Immutable files."""
        return self._once("artifacts", self._open_artifacts)

    @property
    def locks(self) -> Locks:
        """Locks across processes."""
        return self._once("locks", self._open_locks)

    @property
    def leases(self) -> Locks:
        """Locks that a holder without a sign of life loses: the right to write what is fenced."""
        return self._once("leases", self._open_leases)

    @property
    def stream_partitions(self) -> int:
        """How many partitions the settings want views to have in the online store."""
        return self.settings.stream_partitions

    @property
    def executor(self) -> Executor:
        """Worker processes."""
        return self._once("executor", self._open_executor)

    @property
    def workflows(self) -> Workflows:
        """Durable runs."""
        return self._once("workflows", self._open_workflows)

    def acting(self, caller: Identity, *, token: str = "") -> LocalServices:
        """The same ports for somebody else, whom the audit table then names.

        What it opens belongs to this object too, which closes it.

        Args:
            caller: Who.
            token: Theirs, where other processes are to be asked in their name.
        """
        other = copy.copy(self)
        other._actor, other._caller, other._given = caller.name, caller, token  # noqa: SLF001 - of the same class
        return other

    def close(self) -> None:
        """Close everything that was opened; one that fails does not stop the rest.

        Workflows come first: what is in flight is then unfinished, not failed for want of the
        others. These follow newest first.

        Raises:
            ExceptionGroup: What failed, after everything else was closed.
        """
        with self._lock:
            workflows = self._opened.pop("workflows", None)
            opened = [workflows, *reversed(self._opened.values())]
            self._opened.clear()
        failed: list[Exception] = []
        for value in opened:
            close = getattr(value, "close", None)
            if close is None:
                continue
            try:
                close()
            except Exception as error:  # noqa: BLE001 - the others still have to be closed
                failed.append(error)
        if failed:
            raise ExceptionGroup("Some adapters could not be closed", failed)

    def _who(self) -> Identity:
        if self.kind != COMMAND:
            return system_identity(self.kind)
        return local_caller(self.metadata, self.clock, self._layout.token)

    def _once(self, name: str, open_it: Callable[[], T]) -> T:
        with self._lock:
            if name not in self._opened:
                try:
                    self._opened[name] = open_it()
                except OSError as error:
                    raise unusable(self._layout.state, error) from error
            return cast("T", self._opened[name])

    @staticmethod
    def _folder(path: Path) -> Path:
        try:
            path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise unusable(path, error) from error
        return path

    def _open_clock(self) -> Clock:
        from penstock.adapters.system import SystemClock  # noqa: PLC0415 - loaded on first use

        return SystemClock()

    def _open_ids(self) -> Ids:
        from penstock.adapters.system import UlidIds  # noqa: PLC0415 - loaded on first use

        return UlidIds(self.clock)

    def _open_metadata(self) -> Metadata:
        from penstock.adapters.sqlite import SqliteMetadata  # noqa: PLC0415 - loaded on first use

        check_records(self._layout)
        return SqliteMetadata(self._layout.metadata, self.clock)

    def _open_tables(self) -> Tables:
        from penstock.adapters.delta import DeltaTables  # noqa: PLC0415 - loaded on first use

        return DeltaTables(self._layout.tables)

    def _open_online(self) -> OnlineStore:
        if self.settings.online_url != "lmdb":
            return self._open_redis(self.settings.online_url)
        from penstock.adapters.lmdb import LmdbOnlineStore  # noqa: PLC0415 - loaded on first use

        return LmdbOnlineStore(self._layout.online)

    @staticmethod
    def _open_redis(url: str) -> OnlineStore:
        if find_spec("redis") is None:
            raise NotSupportedError(
                "online_url names a Redis, and the library for it is not installed. Run "
                "'pip install penstock[redis]'.",
                extra="redis",
            )
        from penstock.adapters.redis import RedisOnlineStore  # noqa: PLC0415 - an extra

        return RedisOnlineStore(url)

    def _open_log(self) -> EventLog:
        from penstock.adapters.sqlite import SqliteEventLog  # noqa: PLC0415 - loaded on first use

        return SqliteEventLog(self._layout.events, self.clock)

    def _open_artifacts(self) -> Artifacts:
        from penstock.adapters.files import FileArtifacts  # noqa: PLC0415 - loaded on first use

        return FileArtifacts(self._layout.artifacts)

    def _open_locks(self) -> Locks:
        from penstock.adapters.files import FileLocks  # noqa: PLC0415 - loaded on first use

        return FileLocks(self._layout.locks)

    def _open_leases(self) -> Locks:
        from .leases import Leases  # noqa: PLC0415 - loaded on first use

        return Leases(self)

    def _open_executor(self) -> Executor:
        from penstock.adapters.processes import (  # noqa: PLC0415 - loaded on first use
            ProcessExecutor,
        )

        return ProcessExecutor(self.settings.workers, [str(self._home)])

    def _open_workflows(self) -> Workflows:
        from penstock.adapters.dbos import DbosWorkflows  # noqa: PLC0415 - loaded on first use

        return DbosWorkflows(self._layout.workflows, self.executor_id, self.clock)


def open_services(
    home: Path,
    *,
    kind: str = COMMAND,
    actor: str | None = None,
    settings: Settings | None = None,
    token: str | None = None,
) -> LocalServices:
    """Open a project folder.

    The folder also goes to the front of ``sys.path``, where the user's functions are found again
    by their module and name.

    Args:
        home: The project folder.
        kind: ``api``, ``worker``, ``stream``, ``serve``, ``up`` or ``cli``; as the last it acts for
            a caller, as any other for the platform itself.
        actor: Who acts through it; the user of this machine for ``cli``, else the kind.
        settings: Settings that were read already; else they are read here.
        token: Whose, for ``cli``: that user then calls and acts. The environment's
            ``PENSTOCK_TOKEN`` when left out; empty for whoever works on this machine.

    Raises:
        NotReadyError: The folder has not been initialised.
        SettingsError: A setting is wrong.
        StateError: The state folder cannot be written to, or the disk is full.
        AccessError: Nobody has that token.
    """
    home = home.absolute()
    chosen = settings or load_settings(home)
    check_state(home, chosen.layout(home).state)
    lead_path(home)
    who = actor or (local_user() if kind == COMMAND else kind)
    opened = LocalServices(home, chosen, kind=kind, actor=who)
    given = token_given(token) if kind == COMMAND else ""
    if not given:
        return opened
    try:
        return opened.acting(identify_given(opened.metadata, given), token=given)
    except BaseException:
        opened.close()
        raise
