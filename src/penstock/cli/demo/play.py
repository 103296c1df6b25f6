"""The demonstration itself: every step of the loop, each of which asserts what it says."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from penstock.control import lineage, replay
from penstock.plan import apply as apply_project
from penstock.records import Incident, ModelVersion, MonitorReport
from penstock.runtime import living_processes, load_project

from .inside import DEPLOYMENT, MODEL, SOURCE, Inside
from .market import SPANS, write_files
from .stages import StepFailedError
from .world import Asked, auc

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from penstock.control import Link
    from penstock.runtime import LocalServices

    from .home import Processes
    from .market import BadRecords, Market
    from .stages import Stage, Stages
    from .world import World

__all__ = ["Play"]

EVERY_H = 12
LEAST_CANDIDATES = 3
KINDS = frozenset({"api", "worker", "stream", "serve"})
SCORE_ORIGINS = frozenset({"version", "dataset", "batch", "file"})


class Play:
    """The steps, in order, and what they found.

    Args:
        stages: Shows them.
        services: The project.
        market: The candles.

    Attributes:
        inside: The project from the inside.
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
        self.inside = Inside(services)
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
            self.inside.ingest()
            counts = self.inside.counts()
            stage.detail = _sum(counts)
            stage.expect(_adds_up(counts), "read = stored + quarantined + duplicates")
            found = (counts["quarantined"], counts["duplicates"])
            put_in = (bad.quarantined, bad.duplicates)
            if self.market.simulated:
                stage.expect(found == put_in, "exactly the bad records are found")
            stage.expect(
                found[0] >= put_in[0] and found[1] >= put_in[1], "the bad records are found"
            )
        with self.stages.stage("features") as stage:
            compared = self.inside.compared_features(self.market.symbols)
            stage.expect(compared > 0, "online features equal recomputed ones")
            stage.detail = f"{compared} values read online equal those recomputed from raw data"

    def train(self, world: World) -> None:
        """Train, pass the gates, deploy."""
        with self.stages.stage("train 3 candidates") as stage:
            run = self.inside.run(str(world.post(f"/v1/models/{MODEL}/train")["run_id"]))
            self.first = self._trained(stage, run.run_id)
        with self.stages.stage("gates and deployment") as stage:
            ready = [one for one in self.first if one.ready]
            stage.expect(bool(ready), f"a candidate passes the gates: {_refusals(self.first)}")
            self._answering(world, ready[0].version)
            champion = self.inside.version(ready[0].version)
            passed = ", ".join(verdict.gate for verdict in champion.verdicts)
            stage.detail = f"{champion.label} answers ({champion.engine}); passed {passed}"

    def live(self, world: World) -> None:
        """Let the market go on, quietly; on simulated candles the monitor must see nothing."""
        self._trade(world, "quiet", SPANS.quiet, "live, as before")
        if self.market.simulated:
            with self.stages.stage("monitor") as stage:
                report = self.inside.look()
                said = "; ".join(check.reason for check in report.breaches)
                stage.expect(not report.breaches, f"nothing is breached yet ({said})")
                drift = max(c.value or 0 for c in report.checks if c.name == "drift")
                stage.detail = f"all quiet: greatest PSI {drift:.2f}"

    def change(self, world: World) -> None:
        """Let the market change, and see that the monitor notices."""
        with self.stages.stage("live events") as stage:
            self._known(world, world.send(SOURCE, SPANS.bulk))
            days = SPANS.bulk // 24
            stage.detail = f"{days} days of candles over HTTP, into raw table and online features"
        self._trade(world, "changed", SPANS.changed, "live, changed market")
        with self.stages.stage("drift detected") as stage:
            self.report = self.inside.look()
            drifted = [check for check in self.report.breaches if check.name == "drift"]
            stage.expect(bool(drifted), "the monitor sees the drift")
            self.incident = self.inside.incident(self.report)
            stage.expect(self.incident is not None, "an incident is open")
            worst = max(drifted, key=lambda check: check.value or 0)
            found = [f"PSI {worst.value:.2f} of {worst.subject}"]
            found += [f"{len(drifted)} features drifted"]
            found += [c.reason for c in self.report.breaches if c.name != "drift"]
            stage.detail = "; ".join([*found, "incident opened"])

    def recover(self, world: World) -> None:
        """Retrain, as the incident asks for; promote where the gates let it."""
        with self.stages.stage("retrain") as stage:
            run = self.inside.run(self._retraining())
            self.second = self._trained(stage, run.run_id)
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
            report = self.inside.look()
            key = self.incident.key if self.incident else ""
            self.incident = self.services.metadata.read(Incident, key)
            state = self.incident.state if self.incident else "gone"
            promoted = self.report is not None and report.version != self.report.version
            stage.expect(state == "closed" or not promoted, "the incident is closed")
            stage.detail = f"the incident is {state}; {report.version} answers"

    def look_back(self) -> None:
        """Lineage and replay of one score; the audit chain; the counts of everything."""
        one = self.asked["changed"][0]
        with self.stages.stage("lineage of a score") as stage:
            kinds = Counter(_kinds(lineage(self.services, one.prediction_id).comes_from))
            stage.expect(set(kinds) >= SCORE_ORIGINS, f"its origin is whole: {sorted(kinds)}")
            found = ", ".join(f"{number} {kind}" for kind, number in sorted(kinds.items()))
            stage.detail = f"{one.prediction_id} comes from {found}"
        with self.stages.stage("replay of a score") as stage:
            again = replay(self.services, one.prediction_id)
            stage.expect(again.same, f"the score is the same again: {again.causes}")
            stage.detail = f"{one.prediction:.6f} again, from stored features and from raw data"
        with self.stages.stage("counts and audit") as stage:
            counts = self.inside.counts()
            stage.expect(_adds_up(counts), "read = stored + quarantined + duplicates")
            for kind, name in (("raw", "stored"), ("quarantine", "quarantined")):
                stage.expect(self.inside.rows(kind) == counts[name], f"{kind} has what was {name}")
            entries = self.services.metadata.verify_audit()
            stage.detail = f"{_sum(counts)}; {entries} audit entries, unbroken"

    def _trade(self, world: World, part: str, hours: int, name: str) -> None:
        """Send candles, ask for predictions every half day, and tell what came true."""
        with self.stages.stage(name) as stage:
            asked: list[Asked] = []
            for _ in range(0, hours, EVERY_H):
                at_us = world.send(SOURCE, EVERY_H)
                self._known(world, at_us)
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

    def _known(self, world: World, until_us: int) -> None:
        """Wait until every symbol's online features know the time."""
        symbols = self.market.symbols
        world.wait_for(
            lambda: self.inside.known_until_us(symbols) >= until_us,
            "the stream process to take the events in",
        )

    def _trained(self, stage: Stage, run_id: str) -> list[ModelVersion]:
        found = self.inside.versions(run_id)
        stage.expect(
            len(found) >= LEAST_CANDIDATES,
            f"{LEAST_CANDIDATES} candidates are trained ({[one.candidate for one in found]})",
        )
        told = (f"{one.candidate} {one.metrics['test.roc_auc']:.3f}" for one in found)
        stage.detail = f"test ROC AUC: {', '.join(told)}"
        return found

    def _retraining(self) -> str:
        """The run that the incident started."""
        outcome = self.incident.actions.get("retrain", "") if self.incident else ""
        if not outcome.startswith("run "):
            said = outcome or "nothing"
            raise StepFailedError(f"The incident did not start a retraining: {said}")
        return outcome.removeprefix("run ")

    def _answering(self, world: World, number: int) -> None:
        """See that the version is champion, and wait until the serving process answers with it."""
        champion = self.inside.champion()
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
