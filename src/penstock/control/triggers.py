"""Which runs the schedules and events call for.

Nothing is remembered beside the runs themselves, and nothing is kept in memory but what is applied:

- A cron occasion has the run id of its time. The latest occasion counts, if the declaration is
  older; those missed before it are not made up for.
- New data has the run id of the first batch that asks. Whatever arrives while a run of the same
  subject is queued or running waits for it to end, and all of it is one following run. A batch that
  was stored before a run was submitted is in that run. The events are committed after the run was
  submitted; killed in between, they are read again and found to be in it.
- A graph whose models have moved on has the run id of the versions it would be pinned to and of its
  newest version, so one that its gates refuse is not made again until something changes.
- A monitor has the run id of its interval, and looks at most once in each.
- So has what is done in each interval whatever happens; see ``upkeep``.
- So has an experiment: its beginning and each look at it; and a bandit each time it sets shares.
- A run that failed has used up its occasion; it is tried again itself: see ``retrying``.
- A rollout that is to be checked, was approved, or has ended its canary, has a run of its own id.

So any number of processes may ask at the same time, and each occasion is one run.
"""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from penstock.records import Aliases, MonitorReport, Rollout
from penstock.registry import aliases, versions
from penstock.spec import (
    Cron,
    Deployment,
    Graph,
    Monitor,
    NewData,
    NewPins,
    Trigger,
    cron_times,
    duration_us,
    key_of,
)

from .experiment_steps import bandits_to_share, experiments_to_look_at
from .graphs import pins_now
from .known import Arrivals, Arrived, Known, micros
from .pipelines import (
    bandit_run,
    deploy_run,
    experiment_run,
    monitor_run,
    release_run,
    score_run,
    train_run,
)
from .upkeep import (
    CheckSchedule,
    ProfileSchedule,
    PruneSchedule,
    Upkeep,
    VacuumSchedule,
    interval_us,
    stamp,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from penstock.plan import Catalogue
    from penstock.ports import Services
    from penstock.spec import Schedule

    from .pipelines import Submission

__all__ = ["due"]

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
NEWEST_RUNS = 2_000
ALL_RUNS = 1_000_000


class _Rule(NamedTuple):
    """When a run of a subject is called for.

    Attributes:
        pipeline: The pipeline.
        subject: The model or deployment.
        key: Key of the declaration that says so; also the group of consumers of events.
        occasions: When.
        run: The run of that id and subject.
        graph: The subject, where it is a graph.
    """

    pipeline: str
    subject: str
    key: str
    occasions: Sequence[Schedule]
    run: Callable[[str, str], Submission]
    graph: Graph | None = None


NEVER = CheckSchedule(0)
NO_PROFILES = ProfileSchedule(0)
NO_VACUUM = VacuumSchedule(0)
NO_PRUNE = PruneSchedule(0)


def due(  # noqa: PLR0913 - a schedule for each kind of run
    services: Services,
    *,
    known: Known | None = None,
    now_us: int | None = None,
    check: CheckSchedule = NEVER,
    profile: ProfileSchedule = NO_PROFILES,
    vacuum: VacuumSchedule = NO_VACUUM,
    prune: PruneSchedule = NO_PRUNE,
) -> list[Submission]:
    """The runs that are called for now; start each with ``start``.

    At most one per subject; what else calls for one is still due when that run has ended.

    Args:
        services: The ports.
        known: What is applied, of whoever looks again and again; read anew when left out.
        now_us: The time, in microseconds since 1970 UTC; the clock's when left out.
        check: When features are compared with the raw tables.
        profile: When features are profiled.
        vacuum: When old versions of stored features and raw tables are removed.
        prune: When scores are removed that have been kept long enough.
    """
    known = known or Known()
    catalogue, applied_us = known.look(services.metadata)
    now_us = services.clock.now_us() if now_us is None else now_us
    asked = _Asked(services, known, now_us, applied_us)
    found = list(asked.due(catalogue))
    upkeep = Upkeep(
        services,
        catalogue,
        now_us=asked.now_us,
        applied_us=max(asked.applied_us.values(), default=None),
        busy=asked.busy,
    )
    regular = (
        upkeep.check(check), upkeep.profile(profile), upkeep.vacuum(vacuum), upkeep.prune(prune),
    )  # fmt: skip
    return [*found, *filter(None, regular)]


class _Asked:
    """What is due at one time."""

    def __init__(
        self, services: Services, known: Known, now_us: int, applied_us: dict[str, int]
    ) -> None:
        self._services = services
        self._known = known
        self._arrivals = Arrivals(services.log)
        self.now_us = now_us
        self.applied_us = applied_us
        self._taken: dict[str, set[str]] = {}
        self._submitted: dict[str, dict[str, int]] = {}

    def due(self, catalogue: Catalogue) -> Iterator[Submission]:
        """What data, times, monitors and rollouts call for."""
        for rule in _rules(self._services, catalogue):
            submission = self._by_data(rule) or self._by_time(rule) or self._by_pins(rule)
            if submission is not None:
                self._taken[rule.pipeline].add(rule.subject)
                yield submission
        for monitor in catalogue.all(Monitor):
            submission = self._by_interval(monitor)
            if submission is not None:
                yield submission
        yield from self._rollouts()
        experiments = experiments_to_look_at(self._services, catalogue)
        yield from self._looks("experiment", experiments, experiment_run)
        bandits = bandits_to_share(self._services, catalogue)
        yield from self._looks("bandit", bandits, bandit_run)

    def busy(self, pipeline: str, subject: str) -> bool:
        """Whether a run of the subject is queued, running, or called for already."""
        if pipeline not in self._taken:
            runs = partial(self._services.workflows.runs, pipeline=pipeline, limit=ALL_RUNS)
            self._taken[pipeline] = {
                *(run.subject for run in runs(state="queued")),
                *(run.subject for run in runs(state="running")),
            }
        return subject in self._taken[pipeline]

    def _by_time(self, rule: _Rule) -> Submission | None:
        crons = [occasion for occasion in rule.occasions if isinstance(occasion, Cron)]
        for cron in crons:
            at_us = cron_times(cron.expression).latest_us(self.now_us)
            if at_us is None or at_us <= self.applied_us[rule.key]:
                continue
            submission = rule.run(f"{rule.pipeline}-{rule.subject}-{stamp(at_us)}", rule.subject)
            known = self._was_submitted(f"{rule.key} {cron.expression}", submission)
            if not known and not self.busy(rule.pipeline, rule.subject):
                return submission
        return None

    def _was_submitted(self, occasion: str, submission: Submission) -> bool:
        return self._known.was_submitted(self._services.workflows, occasion, submission.run_id)

    def _by_pins(self, rule: _Rule) -> Submission | None:
        asked = any(isinstance(occasion, NewPins) for occasion in rule.occasions)
        if rule.graph is None or not asked:
            return None
        metadata = self._services.metadata
        pins = pins_now(metadata, rule.graph)
        known = versions(metadata, rule.subject)
        newest = known[-1] if known else None
        if pins is None or (newest is not None and dict(newest.params) == pins):
            return None
        told = hashlib.sha256(repr(sorted(pins.items())).encode()).hexdigest()[:12]
        after = newest.version if newest else 0
        submission = rule.run(f"{rule.pipeline}-{rule.subject}-{after}-{told}", rule.subject)
        again = self._was_submitted(f"{rule.key} pins", submission)
        return None if again or self.busy(rule.pipeline, rule.subject) else submission

    def _by_data(self, rule: _Rule) -> Submission | None:
        sources = {one.source.name for one in rule.occasions if isinstance(one, NewData)}
        log, known, group = self._services.log, self._known, rule.key
        if not sources or known.passed(log, group) >= self._arrivals.end:
            return None
        if self.busy(rule.pipeline, rule.subject):
            return None
        last, found = known.passed(log, group), list[Arrived]()
        while last < self._arrivals.end:
            more, last = self._arrivals.after(last, sources)
            found += more
            if not found:
                known.passes(log, group, last)
        if not found:
            return None
        known_us = max(self.applied_us[rule.key], self._submitted_us(rule))
        fresh = [one.batch_id for one in found if one.at_us > known_us]
        if not fresh:
            known.passes(log, group, last, durably=True)
            return None
        submission = rule.run(f"{rule.pipeline}-{rule.subject}-{fresh[0]}", rule.subject)
        return msgspec.structs.replace(submission, group=rule.key, offset=last)

    def _submitted_us(self, rule: _Rule) -> int:
        """When the newest run of the subject was submitted; it has seen what was there then."""
        if rule.pipeline not in self._submitted:
            runs = self._services.workflows.runs(pipeline=rule.pipeline, limit=NEWEST_RUNS)
            # The newest come first, and so are put in last.
            newest = {run.subject: micros(run.created_at) for run in reversed(runs)}
            self._submitted[rule.pipeline] = newest
        return self._submitted[rule.pipeline].get(rule.subject, 0)

    def _by_interval(self, monitor: Monitor) -> Submission | None:
        slot_us = interval_us(self.now_us, duration_us(monitor.every))
        submission = monitor_run(f"monitor-{monitor.name}-{stamp(slot_us)}", monitor.name)
        if self._known.remembers(key_of(monitor), submission.run_id):
            return None
        metadata = self._services.metadata
        looked = metadata.find(
            MonitorReport, where={"monitor": monitor.name}, newest_first=True, limit=1
        )
        if looked and looked[0].to_us >= slot_us:
            return None
        if not aliases(metadata, monitor.deployment.model.name).champion:
            return None
        again = self._was_submitted(key_of(monitor), submission)
        return None if again or self.busy("monitor", monitor.name) else submission

    def _rollouts(self) -> Iterator[Submission]:
        """The runs of rollouts that somebody began or approved and was killed before he asked."""
        known, find = self._services.workflows.get, self._services.metadata.find
        for one in find(Rollout, where={"state": "checking"}):
            if known(one.run_id) is None:
                yield deploy_run(one.rollout_id, one.deployment)
        for one in find(Rollout, where={"state": "approved"}):
            submission = release_run(one.rollout_id, one.deployment)
            if known(submission.run_id) is None:
                yield submission
        for one in find(Rollout, where={"state": "promoting"}):
            submission = release_run(one.rollout_id, one.deployment, after="canary")
            if one.canary and known(submission.run_id) is None:
                yield submission

    def _looks(
        self, pipeline: str, every_us: Mapping[str, int], run: Callable[[str, str], Submission]
    ) -> Iterator[Submission]:
        """A look in each interval of a deployment's own, by deployment."""
        for name, length_us in every_us.items():
            slot_us = interval_us(self.now_us, length_us)
            submission = run(f"{pipeline}-{name}-{stamp(slot_us)}", name)
            known = self._was_submitted(f"{pipeline} {name}", submission)
            if not known and not self.busy(pipeline, name):
                yield submission


def _rules(services: Services, catalogue: Catalogue) -> Iterator[_Rule]:
    for trigger in catalogue.all(Trigger):
        run = partial(train_run, promote=True, asked_by=key_of(trigger))
        graph = trigger.model if isinstance(trigger.model, Graph) else None
        yield _Rule("train", trigger.model.name, key_of(trigger), trigger.on, run, graph)
    batches = [one for one in catalogue.all(Deployment) if one.batch is not None]
    pointed = services.metadata.find(Aliases) if batches else []
    answering = {one.model for one in pointed if one.champion}
    for deployment in batches:
        # Before there is a champion, events are left where they are.
        if deployment.batch is not None and deployment.model.name in answering:
            on, key = (deployment.batch.on,), key_of(deployment)
            run = partial(score_run, asked_by=key)
            yield _Rule("score", deployment.name, key, on, run)
