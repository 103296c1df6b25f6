"""The project from the inside: what is looked up to see that a step did what it says."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from penstock.control import ingest_run, monitor_run, start
from penstock.features import OnlineReader, point_in_time
from penstock.plan import Catalogue
from penstock.records import Batch, Incident, ModelVersion, MonitorReport
from penstock.registry import aliases

from .stages import StepFailedError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from penstock.ports import RunInfo
    from penstock.runtime import LocalServices

__all__ = ["COUNTS", "DEPLOYMENT", "MODEL", "SOURCE", "Inside"]

SOURCE, VIEW, MODEL = "candles", "momentum", "psystock-direction"
DEPLOYMENT = MONITOR = "psystock"
COUNTS = ("read", "stored", "quarantined", "duplicates")
RUN_WAIT_S = 900.0  # a slow machine is no failure
SAME = 1e-9


class Inside:
    """What there is in the project, and runs of its pipelines.

    Args:
        services: The project.
    """

    def __init__(self, services: LocalServices) -> None:
        self.services = services

    def run(self, run_id: str) -> RunInfo:
        """Wait for a run that was submitted.

        Raises:
            StepFailedError: It did not succeed.
        """
        run = self.services.workflows.wait(run_id, timeout_s=RUN_WAIT_S)
        if run.state != "succeeded":
            raise StepFailedError(f"Run {run_id} {run.state}: {run.error}")
        return run

    def ingest(self) -> None:
        """Ingest the source's files, by the worker."""
        self.run(start(self.services, ingest_run(f"ingest-{self.services.ids.new()}", SOURCE)))

    def look(self) -> MonitorReport:
        """Let the monitor look, by the worker; returns what it saw.

        Raises:
            StepFailedError: It saw nothing.
        """
        run_id = f"monitor-{self.services.ids.new()}"
        run = self.run(start(self.services, monitor_run(run_id, MONITOR)))
        seen = next(step.output for step in run.steps if step.name == "look") or {}
        report = self.services.metadata.read(MonitorReport, str(seen.get("report_id", "")))
        if report is None:
            raise StepFailedError(f"The monitor saw nothing: {seen.get('message', '')}")
        return report

    def incident(self, report: MonitorReport) -> Incident | None:
        """The incident that is open for the version that was looked at."""
        found = self.services.metadata.find(Incident, where={"monitor": report.monitor})
        return next((one for one in found if one.version == report.version), None)

    def counts(self) -> dict[str, int]:
        """What has been read so far, from files and events, and where it went."""
        batches = self.services.metadata.find(Batch, where={"source": SOURCE})
        return {name: sum(int(getattr(batch, name)) for batch in batches) for name in COUNTS}

    def rows(self, kind: str) -> int:
        """Rows of the source's ``raw`` or ``quarantine`` table."""
        found: int = self.services.tables.scan(f"{kind}/{SOURCE}").select(pl.len()).collect().item()
        return found

    def versions(self, run_id: str) -> list[ModelVersion]:
        """The versions that a training made."""
        return self.services.metadata.find(ModelVersion, where={"model": MODEL, "run_id": run_id})

    def version(self, number: int) -> ModelVersion:
        """A version as it is now."""
        where: Mapping[str, str | int] = {"model": MODEL, "version": number}
        return self.services.metadata.find(ModelVersion, where=where)[0]

    def champion(self) -> int:
        """The version that answers by default."""
        return aliases(self.services.metadata, MODEL).champion

    def known_until_us(self, symbols: Sequence[str]) -> int:
        """Time until which the online features of every symbol know the events."""
        _, as_of_us = self._reader.read(list(symbols), 0)
        return int(as_of_us.min())

    def compared_features(self, symbols: Sequence[str]) -> int:
        """How many online values were compared with recomputed ones; 0 when one differs."""
        reader = self._reader
        values, as_of_us = reader.read(list(symbols), 0)
        stamps = pl.Series("at", as_of_us).cast(pl.Datetime("us", "UTC"))
        spine = pl.DataFrame({"symbol": symbols, "at": stamps})
        view = Catalogue.load(self.services.metadata).view(VIEW)
        again = point_in_time(
            self.services.tables,
            [view],
            spine,
            memory_bytes=self.services.features_memory_bytes,
        ).select(pl.col(name).cast(pl.Float64) for name in reader.names)
        recomputed = again.fill_null(float("nan")).to_numpy()
        same = np.allclose(values, recomputed, rtol=SAME, atol=SAME, equal_nan=True)
        return values.size if same else 0

    @cached_property
    def _reader(self) -> OnlineReader:
        view = Catalogue.load(self.services.metadata).view(VIEW)
        return OnlineReader(self.services.online, [view])
