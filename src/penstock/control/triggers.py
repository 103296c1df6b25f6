"""Which runs the schedules and events call for.

Nothing is kept in memory and nothing is remembered beside the runs themselves:

- A cron occasion has the run id of its time. The latest occasion counts, if the declaration is
  older; those missed before it are not made up for.
- New data has the run id of the first batch that asks. Whatever arrives while a run of the same
  subject is queued or running waits for it to end, and all of it is one following run. A batch that
  was stored before a run was submitted is in that run. The events are committed after the run was
  submitted; killed in between, they are read again and found to be in it.
- A monitor has the run id of its interval, and looks at most once in each.
- A check of the features, and a vacuum of those stored, has the run id of its interval too. The
  first interval is the one that begins after the project was applied, and there is none while
  no records, or no features, have been stored.
- So have profiles of features; there is none while no view has new records.
- A rollout that is to be checked, was approved, or has ended its canary, has a run of its own id.

So any number of processes may ask at the same time, and each occasion is one run.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from penstock.features import PROFILE_DAYS, PROFILE_SAMPLE, STORED
from penstock.plan import Catalogue
from penstock.ports import EVENTS_TOPIC
from penstock.records import AppliedDeclaration, MonitorReport, Rollout
from penstock.registry import aliases
from penstock.spec import (
    Cron,
    Deployment,
    FeatureView,
    Monitor,
    NewData,
    Trigger,
    cron_times,
    duration_us,
    key_of,
)

from .pipelines import (
    check_run,
    deploy_run,
    monitor_run,
    profile_run,
    release_run,
    score_run,
    train_run,
    vacuum_run,
)
from .profiling import views_to_profile

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from penstock.ports import Services
    from penstock.spec import Schedule

    from .pipelines import Submission

__all__ = ["CheckSchedule", "ProfileSchedule", "VacuumSchedule", "due"]

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
PAGE = 1_000
NEWEST_RUNS = 200


class _Happened(msgspec.Struct):
    """What triggers read of an event."""

    kind: str
    subject: str
    ids: dict[str, str]


class _Rule(NamedTuple):
    """When a run of a subject is called for.

    Attributes:
        pipeline: The pipeline.
        subject: The model or deployment.
        key: Key of the declaration that says so; also the group of consumers of events.
        occasions: When.
        run: The run of that id and subject.
    """

    pipeline: str
    subject: str
    key: str
    occasions: Sequence[Schedule]
    run: Callable[[str, str], Submission]


class CheckSchedule(NamedTuple):
    """When features are compared with the raw tables by themselves.

    Attributes:
        every_us: How often, in microseconds; 0 for never.
        max_rate: The share of a column's values that may differ before somebody is told.
    """

    every_us: int
    max_rate: float = 0.0


class ProfileSchedule(NamedTuple):
    """When features are profiled by themselves, and how.

    Attributes:
        every_us: How often, in microseconds; 0 for never.
        days: So many days up to the newest record.
        sample: At most so many points of a day.
    """

    every_us: int
    days: int = PROFILE_DAYS
    sample: int = PROFILE_SAMPLE


class VacuumSchedule(NamedTuple):
    """When old versions of stored features are removed by themselves.

    Attributes:
        every_us: How often, in microseconds; 0 for never.
        older_than_h: How many hours they stay.
    """

    every_us: int
    older_than_h: int = 168


NEVER = CheckSchedule(0)
NO_PROFILES = ProfileSchedule(0)
NO_VACUUM = VacuumSchedule(0)


def due(
    services: Services,
    *,
    now_us: int | None = None,
    check: CheckSchedule = NEVER,
    profile: ProfileSchedule = NO_PROFILES,
    vacuum: VacuumSchedule = NO_VACUUM,
) -> list[Submission]:
    """The runs that are called for now; start each with ``start``.

    At most one per subject; what else calls for one is still due when that run has ended.

    Args:
        services: The ports.
        now_us: The time, in microseconds since 1970 UTC; the clock's when left out.
        check: When features are compared with the raw tables.
        profile: When features are profiled.
        vacuum: When old versions of stored features are removed.
    """
    applied = services.metadata.find(AppliedDeclaration)
    asked = _Asked(
        services,
        services.clock.now_us() if now_us is None else now_us,
        {record.key: _us(record.applied_at) for record in applied},
    )
    return list(asked.due(Catalogue.of(applied), check, profile, vacuum))


class _Asked:
    """What is due at one time."""

    def __init__(self, services: Services, now_us: int, applied_us: dict[str, int]) -> None:
        self._services = services
        self._now_us = now_us
        self._applied_us = applied_us
        self._taken: dict[str, set[str]] = {}

    def due(
        self,
        catalogue: Catalogue,
        check: CheckSchedule,
        profile: ProfileSchedule,
        vacuum: VacuumSchedule,
    ) -> Iterator[Submission]:
        for rule in _rules(self._services, catalogue):
            submission = self._by_data(rule) or self._by_time(rule)
            if submission is not None:
                self._taken[rule.pipeline].add(rule.subject)
                yield submission
        for monitor in catalogue.all(Monitor):
            submission = self._by_interval(monitor)
            if submission is not None:
                yield submission
        yield from self._rollouts()
        for submission in (
            self._check(catalogue, check),
            self._profile(catalogue, profile),
            self._vacuum(vacuum),
        ):
            if submission is not None:
                yield submission

    def _busy(self, pipeline: str, subject: str) -> bool:
        """Whether a run of the subject is queued, running, or called for already."""
        if pipeline not in self._taken:
            runs = self._services.workflows.runs
            self._taken[pipeline] = {
                *(run.subject for run in runs(pipeline=pipeline, state="queued")),
                *(run.subject for run in runs(pipeline=pipeline, state="running")),
            }
        return subject in self._taken[pipeline]

    def _by_time(self, rule: _Rule) -> Submission | None:
        crons = [occasion for occasion in rule.occasions if isinstance(occasion, Cron)]
        for cron in crons:
            at_us = cron_times(cron.expression).latest_us(self._now_us)
            if at_us is None or at_us <= self._applied_us[rule.key]:
                continue
            submission = rule.run(f"{rule.pipeline}-{rule.subject}-{_stamp(at_us)}", rule.subject)
            known = self._services.workflows.get(submission.run_id) is not None
            if not known and not self._busy(rule.pipeline, rule.subject):
                return submission
        return None

    def _by_data(self, rule: _Rule) -> Submission | None:
        sources = {one.source.name for one in rule.occasions if isinstance(one, NewData)}
        found, last = self._new(rule.key, sources) if sources else ([], 0)
        if not found or self._busy(rule.pipeline, rule.subject):
            return None
        known_us = max(self._applied_us[rule.key], self._submitted_us(rule))
        fresh = [batch_id for at_us, batch_id in found if at_us > known_us]
        if not fresh:
            self._services.log.commit(EVENTS_TOPIC, rule.key, last)
            return None
        submission = rule.run(f"{rule.pipeline}-{rule.subject}-{fresh[0]}", rule.subject)
        return msgspec.structs.replace(submission, group=rule.key, offset=last)

    def _new(self, group: str, sources: set[str]) -> tuple[list[tuple[int, str]], int]:
        """(when, batch id) of each new batch since the group's offset, and the last offset read."""
        log = self._services.log
        after, end = log.committed(EVENTS_TOPIC, group), log.end(EVENTS_TOPIC)
        found: list[tuple[int, str]] = []
        while after < end:
            page = log.read(EVENTS_TOPIC, after=after, limit=PAGE)
            for entry in page:
                event = msgspec.json.decode(entry.payload, type=_Happened)
                if event.kind == "raw.ingested" and event.subject in sources:
                    found.append((entry.at_us, event.ids["batch_id"]))
            after = page[-1].offset
            if not found:
                log.commit(EVENTS_TOPIC, group, after)
        return found, after

    def _submitted_us(self, rule: _Rule) -> int:
        """When the newest run of the subject was submitted; it has seen what was there then."""
        runs = self._services.workflows.runs(pipeline=rule.pipeline, limit=NEWEST_RUNS)
        return max((_us(run.created_at) for run in runs if run.subject == rule.subject), default=0)

    def _by_interval(self, monitor: Monitor) -> Submission | None:
        every_us = duration_us(monitor.every)
        slot_us = self._now_us // every_us * every_us
        metadata = self._services.metadata
        looked = metadata.find(
            MonitorReport, where={"monitor": monitor.name}, newest_first=True, limit=1
        )
        if looked and looked[0].to_us >= slot_us:
            return None
        if not aliases(metadata, monitor.deployment.model.name).champion:
            return None
        submission = monitor_run(f"monitor-{monitor.name}-{_stamp(slot_us)}", monitor.name)
        known = self._services.workflows.get(submission.run_id) is not None
        return None if known or self._busy("monitor", monitor.name) else submission

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

    def _vacuum(self, vacuum: VacuumSchedule) -> Submission | None:
        slot_us = self._slot_us(vacuum.every_us)
        if slot_us is None:
            return None
        run_id = f"vacuum-features-{_stamp(slot_us)}"
        submission = vacuum_run(run_id, older_than_h=vacuum.older_than_h)
        if self._services.workflows.get(run_id) is not None:
            return None
        stored = self._services.tables.names(STORED)
        return submission if stored and not self._busy("vacuum", submission.subject) else None

    def _check(self, catalogue: Catalogue, check: CheckSchedule) -> Submission | None:
        views = catalogue.all(FeatureView)
        slot_us = self._slot_us(check.every_us)
        if not views or slot_us is None:
            return None
        submission = check_run(f"check-features-{_stamp(slot_us)}", max_rate=check.max_rate)
        if self._services.workflows.get(submission.run_id) is not None:
            return None
        tables = self._services.tables
        stored = any(tables.version(f"raw/{view.source.name}") is not None for view in views)
        return submission if stored and not self._busy("check", submission.subject) else None

    def _profile(self, catalogue: Catalogue, profile: ProfileSchedule) -> Submission | None:
        slot_us = self._slot_us(profile.every_us)
        if slot_us is None:
            return None
        run_id = f"profile-features-{_stamp(slot_us)}"
        submission = profile_run(run_id, days=profile.days, sample=profile.sample)
        known = self._services.workflows.get(run_id) is not None
        if known or self._busy("profile", submission.subject):
            return None
        return submission if views_to_profile(self._services, catalogue) else None

    def _slot_us(self, every_us: int) -> int | None:
        """When the interval of now began; None for never, and if the project was applied in it."""
        if not every_us or not self._applied_us:
            return None
        slot_us = self._now_us // every_us * every_us
        return slot_us if slot_us > max(self._applied_us.values()) else None


def _rules(services: Services, catalogue: Catalogue) -> Iterator[_Rule]:
    for trigger in catalogue.all(Trigger):
        run = partial(train_run, promote=True)
        yield _Rule("train", trigger.model.name, key_of(trigger), trigger.on, run)
    for deployment in catalogue.all(Deployment):
        # Before there is a champion, events are left where they are.
        if deployment.batch and aliases(services.metadata, deployment.model.name).champion:
            on = (deployment.batch.on,)
            yield _Rule("score", deployment.name, key_of(deployment), on, score_run)


def _us(moment: datetime) -> int:
    return (moment - EPOCH) // timedelta(microseconds=1)


def _stamp(at_us: int) -> str:
    """A time as part of a run's id, such as ``20261120T0300``, as fine as it needs."""
    moment = EPOCH + timedelta(microseconds=at_us)
    form = "%H%M%S.%f" if moment.microsecond else "%H%M%S" if moment.second else "%H%M"
    return moment.strftime(f"%Y%m%dT{form}")
