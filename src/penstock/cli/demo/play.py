"""The demonstration itself: every step of the loop, each of which asserts what it says."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from penstock.control import ingest_run, lineage, monitor_run, replay, start
from penstock.features import OnlineReader, point_in_time
from penstock.plan import Catalogue
from penstock.plan import apply as apply_project
from penstock.records import Batch, Incident, ModelVersion, MonitorReport
from penstock.registry import aliases
from penstock.runtime import living_processes, load_project

from .market import SPANS, write_files
from .stages import StepFailedError
from .world import Asked, auc

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from penstock.control import Link
    from penstock.ports import RunInfo
    from penstock.runtime import LocalServices

    from .home import Processes
    from .market import BadRecords, Market
    from .stages import Stages
    from .world import World

__all__ = ["COUNTS", "Play"]

SOURCE, VIEW, MODEL, DEPLOYMENT, MONITOR = (
    "candles",
    "momentum",
    "psystock-direction",
    "psystock",
    "psystock",
)
COUNTS = ("read", "stored", "quarantined", "duplicates")
EVERY_H = 12
RUN_WAIT_S = 900.0  # a slow machine is no failure
SAME = 1e-9
LEAST_CANDIDATES = 3
KINDS = frozenset({"api", "worker", "stream", "serve"})


class Play:
    """The steps, in order, and what they found.

    Args:
        stages: Shows them.
        services: The project.
        market: The candles.

    Attributes:
        asked: Predictions by part of the story: ``quiet``, ``changed``, ``after``.
        first: Versions of the first training.
        second: Versions of the retraining.
        report: What the monitor saw when it opened the incident.
        incident: The incident.
    """

    def __init__(self, stages: Stages, services: LocalServices, market: Market) -> None:
        self.stages = stages
        self.services = services
        self.market = market
        self.asked: dict[str, list[Asked]] = {}
        self.first: list[ModelVersion] = []
        self.second: list[ModelVersion] = []
        self.report: MonitorReport | None = None
        self.incident: Incident | None = None

    def declare(self) -> BadRecords:
        """Write the files and apply the project."""
        with self.stages.stage("candles") as stage:
            bad = write_files(self.market, self.services.home / "data")
            rows = sum(frame.height for frame in self.market.history.values())
            stage.detail = (
                f"{self.market.origin}: {rows:,} in files, {self.market.live.height:,} held back "
                f"as live events, {bad.quarantined} bad ones put in"
            )
        with self.stages.stage("plan and apply") as stage:
            project = load_project(self.services.home)
            metadata, now = self.services.metadata, self.services.clock.now()
            actor = self.services.actor
            done = apply_project(metadata, project, actor=actor, now=now)
            again = apply_project(metadata, project, actor=actor, now=now)
            stage.expect(again.is_empty, "applying twice changes nothing")
            stage.detail = f"{len(done.steps)} declarations; applying again changes nothing"
        return bad

    def processes_start(self, processes: Processes, world: World) -> None:
        """Wait until all processes are ready."""
        with self.stages.stage("processes") as stage:

            def ready() -> bool:
                processes.check()
                return {one.kind for one in living_processes(self.services)} >= KINDS

            world.wait_for(ready, "api, worker, stream and serve to start")
            world.wait_for(world.answers, "api and serve to answer")
            stage.detail = "api, worker, stream, serve are up"

    def ingest(self, bad: BadRecords) -> None:
        """Ingest the files; see that features are the same online and recomputed."""
        with self.stages.stage("ingest") as stage:
            self._run(start(self.services, ingest_run(f"ingest-{self.services.ids.new()}", SOURCE)))
            counts = self.counts()
            stage.detail = _sum(counts)
            stage.expect(_adds_up(counts), "read = stored + quarantined + duplicates")
            enough = (
                counts["quarantined"] >= bad.quarantined and counts["duplicates"] >= bad.duplicates
            )
            exact = counts["quarantined"] == bad.quarantined
            stage.expect(enough and (exact or not self.market.simulated), "bad records are found")
        with self.stages.stage("features") as stage:
            compared = self._compare_features()
            stage.expect(compared > 0, "online features equal recomputed ones")
            stage.detail = f"{compared} values read online equal those recomputed from raw data"

    def train(self, world: World) -> None:
        """Train, pass the gates, deploy."""
        with self.stages.stage("train 3 candidates") as stage:
            run = self._run(str(world.post(f"/v1/models/{MODEL}/train")["run_id"]))
            self.first = self._versions(run.run_id)
            stage.expect(len(self.first) >= LEAST_CANDIDATES, "three candidates are trained")
            stage.detail = ", ".join(
                f"{one.candidate} {one.metrics['test.roc_auc']:.3f}" for one in self.first
            )
        with self.stages.stage("gates and deployment") as stage:
            ready = [one for one in self.first if one.ready]
            stage.expect(bool(ready), f"a candidate passes the gates: {_refusals(self.first)}")
            self._answering(world, ready[0].version)
            champion = self._version(ready[0].version)
            passed = ", ".join(verdict.gate for verdict in champion.verdicts)
            stage.detail = f"{champion.label} answers ({champion.engine}); passed {passed}"

    def live(self, world: World) -> None:
        """Let the market go on, quietly; on simulated candles the monitor must see nothing."""
        self._trade(world, "quiet", SPANS.quiet, "live, as before")
        if self.market.simulated:
            with self.stages.stage("monitor") as stage:
                report = self._look()
                said = "; ".join(check.reason for check in report.breaches)
                stage.expect(not report.breaches, f"nothing is breached yet ({said})")
                drift = max(c.value or 0 for c in report.checks if c.name == "drift")
                stage.detail = f"all quiet: greatest PSI {drift:.2f}"

    def change(self, world: World) -> None:
        """Let the market change, and see that the monitor notices."""
        with self.stages.stage("live events") as stage:
            until = world.send(SOURCE, SPANS.bulk)
            self._folded(world, until)
            days = SPANS.bulk // 24
            stage.detail = f"{days} days of candles over HTTP, into raw table and online features"
        self._trade(world, "changed", SPANS.changed, "live, changed market")
        with self.stages.stage("drift detected") as stage:
            self.report = self._look()
            drifted = [check for check in self.report.breaches if check.name == "drift"]
            stage.expect(bool(drifted), "the monitor sees the drift")
            self.incident = self._incident(self.report)
            stage.expect(self.incident is not None, "an incident is open")
            worst = max(drifted, key=lambda check: check.value or 0)
            others = [f"{c.name} {c.value:.2f}" for c in self.report.breaches if c.name != "drift"]
            stage.detail = f"PSI {worst.value:.2f} of {worst.subject}; " + "; ".join(
                [f"{len(drifted)} features drifted", *others, "incident opened"]
            )

    def recover(self, world: World) -> None:
        """Retrain, as the incident asks for; promote where the gates let it."""
        with self.stages.stage("retrain") as stage:
            run_id = self._retraining()
            self._run(run_id)
            self.second = self._versions(run_id)
            stage.expect(len(self.second) >= LEAST_CANDIDATES, "three candidates are trained")
            stage.detail = ", ".join(
                f"{one.candidate} {one.metrics['test.roc_auc']:.3f}" for one in self.second
            )
        with self.stages.stage("promote or keep") as stage:
            ready = [one for one in self.second if one.ready]
            stage.expect(bool(ready) or not self.market.simulated, _refusals(self.second))
            if ready:
                self._answering(world, ready[0].version)
                reason = next(v.reason for v in ready[0].verdicts if "champion" in v.gate)
                stage.detail = f"{ready[0].label} answers now: {reason}"
            else:
                stage.expect(bool(_refusals(self.second)), "the gates say why nobody is ready")
                stage.detail = f"the champion stays: {_refusals(self.second)}"
        self._trade(world, "after", SPANS.after, "live, after")
        with self.stages.stage("monitor again") as stage:
            report = self._look()
            found = (
                self.services.metadata.read(Incident, self.incident.key) if self.incident else None
            )
            closed = found is not None and found.state == "closed"
            promoted = report.version != (self.report.version if self.report else "")
            stage.expect(closed or not promoted, "the incident is closed")
            self.incident = found
            stage.detail = (
                f"incident {'closed' if closed else 'stays open'}; {report.version} answers"
            )

    def look_back(self) -> None:
        """Lineage and replay of one score; the audit chain; the counts of everything."""
        one = self.asked["changed"][0]
        with self.stages.stage("lineage of a score") as stage:
            kinds = Counter(_kinds(lineage(self.services, one.prediction_id).comes_from))
            stage.expect({"version", "dataset", "batch", "file"} <= set(kinds), "it is whole")
            found = ", ".join(f"{number} {kind}" for kind, number in sorted(kinds.items()))
            stage.detail = f"{one.prediction_id} comes from {found}"
        with self.stages.stage("replay of a score") as stage:
            again = replay(self.services, one.prediction_id)
            stage.expect(again.same, "the score is the same again")
            stage.detail = f"{one.prediction:.6f} again, from stored features and from raw data"
        with self.stages.stage("counts and audit") as stage:
            counts = self.counts()
            stage.expect(_adds_up(counts), "read = stored + quarantined + duplicates")
            rows = {
                name: self.services.tables.scan(f"{name}/{SOURCE}")
                .select(pl.len())
                .collect()
                .item()
                for name in ("raw", "quarantine")
            }
            stage.expect(rows["raw"] == counts["stored"], "the raw table has what was stored")
            stage.expect(rows["quarantine"] == counts["quarantined"], "so has the quarantine")
            entries = self.services.metadata.verify_audit()
            stage.detail = f"{_sum(counts)}; {entries} audit entries, unbroken"

    def counts(self) -> dict[str, int]:
        """What has been read so far, from files and events, and where it went."""
        batches = self.services.metadata.find(Batch, where={"source": SOURCE})
        return {name: sum(int(getattr(batch, name)) for batch in batches) for name in COUNTS}

    def _trade(self, world: World, part: str, hours: int, name: str) -> None:
        """Send candles, ask for predictions every half day, and tell what came true."""
        with self.stages.stage(name) as stage:
            asked: list[Asked] = []
            for _ in range(0, hours, EVERY_H):
                at_us = world.send(SOURCE, EVERY_H)
                self._folded(world, at_us)
                fresh = world.ask(DEPLOYMENT, self.market.symbols, at_us)
                world.observe(DEPLOYMENT, fresh)
                asked += fresh
            self.asked[part] = asked
            area = auc(asked)
            stage.expect(area is not None, "predictions can be compared with what came true")
            stage.detail = (
                f"{len(asked)} predictions over HTTP while {hours // 24} days go by; "
                f"ROC AUC {area:.3f}"
            )

    def _folded(self, world: World, until_us: int) -> None:
        """Wait until every symbol's online features know the time."""
        view = Catalogue.load(self.services.metadata).view(VIEW)
        reader = OnlineReader(self.services.online, [view])
        symbols = self.market.symbols
        world.wait_for(
            lambda: bool((reader.read(symbols, 0)[1] >= until_us).all()),
            "the stream process to take the events in",
        )

    def _compare_features(self) -> int:
        """How many online values were compared with recomputed ones; 0 when one differs."""
        view = Catalogue.load(self.services.metadata).view(VIEW)
        symbols = self.market.symbols
        values, as_of_us = OnlineReader(self.services.online, [view]).read(symbols, 0)
        stamps = pl.Series("at", as_of_us).cast(pl.Datetime("us", "UTC"))
        spine = pl.DataFrame({"symbol": symbols, "at": stamps})
        again = point_in_time(self.services.tables, [view], spine).select(
            pl.col(name).cast(pl.Float64) for name in view.names
        )
        same = np.allclose(values, again.fill_null(float("nan")).to_numpy(), SAME, SAME, True)
        return values.size if same else 0

    def _look(self) -> MonitorReport:
        run = self._run(
            start(self.services, monitor_run(f"monitor-{self.services.ids.new()}", MONITOR))
        )
        seen = next(step.output for step in run.steps if step.name == "look") or {}
        report = self.services.metadata.read(MonitorReport, str(seen.get("report_id", "")))
        if report is None:
            raise StepFailedError(f"The monitor saw nothing: {seen.get('message', '')}")
        return report

    def _incident(self, report: MonitorReport) -> Incident | None:
        found = self.services.metadata.find(Incident, where={"monitor": report.monitor})
        return next((one for one in found if one.version == report.version), None)

    def _retraining(self) -> str:
        """The run that the incident started."""
        outcome = self.incident.actions.get("retrain", "") if self.incident else ""
        if not outcome.startswith("run "):
            raise StepFailedError(
                f"The incident did not start a retraining: {outcome or 'nothing'}"
            )
        return outcome.removeprefix("run ")

    def _run(self, run_id: str) -> RunInfo:
        run = self.services.workflows.wait(run_id, timeout_s=RUN_WAIT_S)
        if run.state != "succeeded":
            raise StepFailedError(f"Run {run_id} {run.state}: {run.error}")
        return run

    def _versions(self, run_id: str) -> list[ModelVersion]:
        return self.services.metadata.find(ModelVersion, where={"model": MODEL, "run_id": run_id})

    def _version(self, number: int) -> ModelVersion:
        where: Mapping[str, str | int] = {"model": MODEL, "version": number}
        return self.services.metadata.find(ModelVersion, where=where)[0]

    def _answering(self, world: World, number: int) -> None:
        """See that the version is champion, and wait until the serving process answers with it."""
        champion = aliases(self.services.metadata, MODEL).champion
        if champion != number:
            raise StepFailedError(f"Version {champion} is champion, not {number}.")
        route = f"{MODEL}@{number}"
        world.wait_for(
            lambda: route in world.serve.get("/v1/deployments").text, f"{route} to be served"
        )


def _kinds(links: Iterable[Link]) -> Iterator[str]:
    """Kinds of everything that a score comes from, at any distance."""
    for link in links:
        yield link.kind
        yield from _kinds(link.links)


def _adds_up(counts: Mapping[str, int]) -> bool:
    return counts["read"] == counts["stored"] + counts["quarantined"] + counts["duplicates"] > 0


def _sum(counts: Mapping[str, int]) -> str:
    return (
        f"{counts['read']:,} read = {counts['stored']:,} stored + "
        f"{counts['quarantined']:,} quarantined + {counts['duplicates']:,} duplicates"
    )


def _refusals(versions: list[ModelVersion]) -> str:
    return "; ".join(v.reason for one in versions for v in one.verdicts if not v.passed)
