"""How suites that start processes open our own adapters, by ``module:function``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from penstock.adapters.dbos import DbosWorkflows
from penstock.adapters.system import SystemClock
from penstock.runtime import open_services

if TYPE_CHECKING:
    from pathlib import Path

    from penstock.ports import Locks, Workflows

__all__ = ["open_dbos", "open_leases"]


def open_dbos(place: Path, executor_id: str) -> Workflows:
    """Workflows by DBOS, in a SQLite database in the folder."""
    return DbosWorkflows(place / "workflows.db", executor_id, SystemClock())


def open_leases(home: Path) -> Locks:
    """The leases of a project folder."""
    return open_services(home).leases
