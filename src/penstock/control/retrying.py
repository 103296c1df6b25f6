"""Runs that were begun by themselves and failed: tried again some time later, then given up aloud.

A run says who asked for it (``asked_by``); that declaration says how often it is tried again. Each
try goes on from the run's last finished step, under the same id. It is begun first and counted
after: killed in between, a run may be tried once more than was said, and never less often. A run of
the same subject that was asked for later takes its place. What people start or cancel is theirs.

Giving up is an entry of the audit table, an event, and a notification for each channel that
monitors of the model or deployment tell. It is stored last: killed before, it is told again under
the same ids, and so once.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Literal, NamedTuple

import msgspec
import structlog

from penstock.errors import ConflictError, UnavailableError
from penstock.plan import Catalogue
from penstock.ports import Audit, Put, announce
from penstock.records import Event, RunRetries
from penstock.spec import Deployment, Monitor, Retry, Trigger, key_of

from .actions import Notification, notify
from .hiding import plain_words
from .pipelines import retry

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from penstock.ports import RunInfo, Services

__all__ = ["NextTry", "Retried", "next_try", "retry_failed"]

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
NEWEST = 1_000
LOCK = "runs/retries"


class NextTry(NamedTuple):
    """What becomes of a run that failed.

    Attributes:
        tried: How often it was tried again.
        times: How often it is tried again at most.
        at: When the next time is; none where there is none.
    """

    tried: int
    times: int
    at: datetime | None


class Retried(NamedTuple):
    """What was done with a run that had failed.

    Attributes:
        run_id: The run.
        became: ``queued`` again, or ``given up``.
    """

    run_id: str
    became: Literal["queued", "given up"]


def retry_failed(services: Services, *, now_us: int | None = None) -> list[Retried]:
    """Try again what failed and is to be, and give up what was tried often enough.

    One process at a time does it; others find nothing to do meanwhile.

    Args:
        services: The ports; uses metadata, workflows, locks and the event log.
        now_us: The time, in microseconds since 1970 UTC; the clock's when left out.
    """
    now = services.clock.now() if now_us is None else EPOCH + timedelta(microseconds=now_us)
    failed = [run for run in services.workflows.runs(state="failed", limit=NEWEST) if _asker(run)]
    # Runs that failed stay for ever: most of them have long been settled, and cost nothing more.
    known = {one.run_id: one.state for one in services.metadata.find(RunRetries)} if failed else {}
    failed = [run for run in failed if known.get(run.run_id, "waiting") == "waiting"]
    if not failed:
        return []
    try:
        with services.locks.hold(LOCK, wait_s=0):
            return list(_Failed(services, now).settled(failed))
    except UnavailableError:
        return []


def next_try(services: Services, run: RunInfo) -> NextTry | None:
    """What becomes of a run; none where it did not fail or nobody tries it again.

    Args:
        services: The ports; uses metadata.
        run: The run.
    """
    policy = _policies(Catalogue.load(services.metadata)).get(_asker(run))
    if run.state != "failed" or policy is None:
        return None
    known = services.metadata.read(RunRetries, run.run_id)
    tried = known.times if known else 0
    over = tried >= policy.times or (known is not None and known.state != "waiting")
    return NextTry(tried, policy.times, None if over else _when(run, policy, known))


class _Failed:
    """The runs that failed, at one time."""

    def __init__(self, services: Services, now: datetime) -> None:
        self._services = services
        self._now = now
        self._catalogue = Catalogue.load(services.metadata)
        self._policies = _policies(self._catalogue)
        self._known = {one.run_id: one for one in services.metadata.find(RunRetries)}
        self._newest: dict[str, dict[str, datetime]] = {}

    def settled(self, failed: list[RunInfo]) -> Iterator[Retried]:
        for run in failed:
            known, policy = self._known.get(run.run_id), self._policies.get(_asker(run))
            if policy is None or (known is not None and known.state != "waiting"):
                continue
            if self._replaced(run):
                self._keep(run, known, state="replaced")
            elif (known.times if known else 0) >= policy.times:
                self._give_up(run, known)
                yield Retried(run.run_id, "given up")
            elif self._now >= _when(run, policy, known) and self._again(run, known):
                yield Retried(run.run_id, "queued")

    def _replaced(self, run: RunInfo) -> bool:
        """Whether a run of the same subject was asked for later."""
        if run.pipeline not in self._newest:
            runs = self._services.workflows.runs(pipeline=run.pipeline, limit=NEWEST)
            newest: dict[str, datetime] = {}
            for one in reversed(runs):
                newest[one.subject] = one.created_at
            self._newest[run.pipeline] = newest
        return self._newest[run.pipeline].get(run.subject, run.created_at) > run.created_at

    def _again(self, run: RunInfo, known: RunRetries | None) -> bool:
        try:
            retry(self._services, run.run_id)
        except ConflictError:
            return False  # somebody was faster
        self._keep(run, known, times=(known.times if known else 0) + 1)
        return True

    def _give_up(self, run: RunInfo, known: RunRetries | None) -> None:
        times = known.times if known else 0
        error = plain_words(self._services, run.error)
        structlog.get_logger("penstock.control").error(
            "gave a run up", run=run.run_id, retries=times, error=error
        )
        announce(self._services.log, _event(run, self._services.clock.now_us()))
        words = (
            f"run {run.run_id} failed and is not tried again: {error.splitlines()[0]}; "
            f"'penstock runs retry {run.run_id}' goes on with it"
        )
        for notification in self._notifications(run, words):
            notify(self._services, notification, "a run was given up")
        difference = {"retries": times, "error": error}
        self._keep(run, known, state="given up", audit=difference)

    def _notifications(self, run: RunInfo, words: str) -> Iterator[Notification]:
        """One for each channel that is told of the model or the deployment."""
        told: set[str] = set()
        for monitor in self._catalogue.all(Monitor):
            if run.subject not in {monitor.deployment.name, monitor.deployment.model.name}:
                continue
            for action in monitor.on_breach:
                if action.kind == "notify" and action.channel not in told:
                    told.add(action.channel)
                    yield Notification(
                        incident_id=run.run_id,
                        channel=action.channel,
                        monitor=monitor.name,
                        deployment=monitor.deployment.name,
                        version="",
                        breaches=(words,),
                        at_us=self._services.clock.now_us(),
                    )

    def _keep(
        self,
        run: RunInfo,
        known: RunRetries | None,
        *,
        audit: Mapping[str, object] | None = None,
        **changed: object,
    ) -> None:
        before = known or RunRetries(run_id=run.run_id, at=self._now)
        after = msgspec.structs.replace(before, at=self._now, **changed)
        entry = None
        if audit is not None:
            entry = Audit(
                actor=self._services.actor,
                action="give up",
                subject=f"run/{run.run_id}",
                difference=audit,
            )
        self._services.metadata.write(Put(after, expected=known), audit=entry)


def _asker(run: RunInfo) -> str:
    """Key of the declaration that asked for a run; empty where somebody did."""
    return str(run.parameters.get("asked_by", ""))


def _policies(catalogue: Catalogue) -> dict[str, Retry]:
    """What becomes of failed runs, by who asks for them."""
    batches = [one for one in catalogue.all(Deployment) if one.batch is not None]
    return {
        **{key_of(one): one.retry for one in catalogue.all(Trigger)},
        **{key_of(one): one.batch.retry for one in batches if one.batch is not None},
        **{key_of(one): Retry() for one in catalogue.all(Monitor)},
    }


def _when(run: RunInfo, policy: Retry, known: RunRetries | None) -> datetime:
    """When a failed run is tried again."""
    failed_at = run.ended_at or run.created_at
    if known is not None:  # the end of a run is known to a second only
        failed_at = max(failed_at, known.at)
    return failed_at + timedelta(microseconds=policy.wait_us(known.times if known else 0))


def _event(run: RunInfo, at_us: int) -> Event:
    return Event(
        event_id=f"run.failed:{run.run_id}",
        kind="run.failed",
        subject=run.subject,
        ids={"run_id": run.run_id, "pipeline": run.pipeline},
        at_us=at_us,
    )
