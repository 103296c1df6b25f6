"""What a breach leads to: one incident, and its actions in order, each done once.

The incident is stored before anything is done, and each action's outcome as soon as it is done.
Killed in between, the same report, or the next one that breaches, finds the incident and goes on
with the first action that has no outcome. Each action may then be begun a second time and is done
once: a notification has an id that its topic has had, a retraining is a run that is known, and a
rollback is not done when the version that breached answers no more.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
import structlog

from penstock.deployment import changes_of, rollback
from penstock.errors import PenstockError, RetryableError
from penstock.plan import Catalogue
from penstock.ports import Audit, Put, announce
from penstock.records import Event, Incident, MonitorReport
from penstock.registry import aliases, promote
from penstock.spec import key_of

from .pipelines import submit, train_run

if TYPE_CHECKING:
    from collections.abc import Mapping

    from penstock.ports import Services
    from penstock.records import Check
    from penstock.spec import Action, Monitor

__all__ = ["NOTIFICATIONS_TOPIC", "Notification", "notify", "react"]

NOTIFICATIONS_TOPIC = "notifications"
"""The topic that notifications are published on."""

LOCK_WAIT_S = 120.0  # a rollback waits for the serving processes meanwhile


class Notification(msgspec.Struct, frozen=True, kw_only=True):
    """A message of the topic: somebody has to know.

    Attributes:
        incident_id: What happened: the incident, the report of features that are inconsistent, or
            the run that was given up.
        channel: Whom to tell.
        monitor: Who saw it.
        deployment: What it is about.
        version: ``model@version`` that breached; empty where something else did.
        breaches: What was broken, in words.
        at_us: When, in microseconds since 1970 UTC.
    """

    incident_id: str
    channel: str
    monitor: str
    deployment: str
    version: str
    breaches: tuple[str, ...]
    at_us: int


def react(services: Services, report: MonitorReport) -> Incident | None:
    """Do what a report calls for.

    Incidents of versions that answer no more are closed, and those whose bounds hold again. A
    breach opens an incident, announces ``monitor.breached`` and does the monitor's actions; where
    one is open for the version it only goes on with actions that have no outcome yet. An action
    that fails is recorded with its error and does not keep the next from being done.

    Args:
        services: The ports.
        report: What the monitor saw; stored.

    Returns:
        The open incident of the version, if there is one.

    Raises:
        NotFoundError: The monitor is not declared any more.
        UnavailableError: An action could not be done now; call again.
    """
    monitor = Catalogue.load(services.metadata).monitor(report.monitor)
    with services.locks.hold(f"monitor/{monitor.name}", wait_s=LOCK_WAIT_S):
        found = services.metadata.find(Incident, where={"monitor": monitor.name, "state": "open"})
        remaining = [one for one in found if not _closed(services, one, report)]
        known = next((one for one in remaining if one.version == report.version), None)
        if not report.breaches:
            return known
        incident = known or _open(services, report)
        if incident.state == "closed":
            return None  # an old report again, of what is over
        announce(services.log, _event(incident, services.clock.now_us()))
        for action in monitor.on_breach:
            incident = _done(services, monitor, incident, action)
        return incident


def notify(services: Services, notification: Notification, what: str) -> None:
    """Publish a notification and log it; the topic takes the same one for a channel once.

    Args:
        services: The ports; uses the event log.
        notification: Whom to tell what.
        what: What has happened, in a few words, for the log.
    """
    services.log.publish(
        NOTIFICATIONS_TOPIC,
        [msgspec.json.encode(notification)],
        ids=[f"{notification.incident_id}:{notification.channel}"],
    )
    structlog.get_logger("penstock.control").warning(what, **msgspec.to_builtins(notification))


def _closed(services: Services, incident: Incident, report: MonitorReport) -> bool:
    """Close the incident where the report says that it is over."""
    if report.report_id <= incident.report_id:
        return False  # a run that was killed brings an old report
    if incident.version != report.version:
        reason = f"{report.version} answers now"
    elif _holds_again(services, incident, report):
        reason = "the bounds hold again"
    else:
        return False
    closed = msgspec.structs.replace(incident, state="closed", closed_at=services.clock.now())
    _store(services, incident, closed, "close incident", {"reason": reason})
    return True


def _holds_again(services: Services, incident: Incident, report: MonitorReport) -> bool:
    """Whether nothing is breached, and what was has a verdict again; too few rows are none."""
    opened_by = services.metadata.read(MonitorReport, incident.report_id)
    broken = {(check.name, check.subject) for check in opened_by.breaches} if opened_by else set()
    judged = {(check.name, check.subject) for check in report.checks if check.value is not None}
    return not report.breaches and broken <= judged


def _open(services: Services, report: MonitorReport) -> Incident:
    incident = Incident(
        incident_id=f"incident-{report.report_id}",
        monitor=report.monitor,
        deployment=report.deployment,
        version=report.version,
        report_id=report.report_id,
        breaches=tuple(_words(check) for check in report.breaches),
        state="open",
        opened_at=services.clock.now(),
    )
    known = services.metadata.read(Incident, incident.key)
    if known is None:
        _store(services, None, incident, "open incident", {"breaches": list(incident.breaches)})
    return known or incident


def _words(check: Check) -> str:
    return f"{check.name} of {check.subject}: {check.reason}"


def _event(incident: Incident, at_us: int) -> Event:
    return Event(
        event_id=f"monitor.breached:{incident.incident_id}",
        kind="monitor.breached",
        subject=incident.monitor,
        ids={
            "incident_id": incident.incident_id,
            "report_id": incident.report_id,
            "deployment": incident.deployment,
            "version": incident.version,
        },
        at_us=at_us,
    )


def _done(services: Services, monitor: Monitor, incident: Incident, action: Action) -> Incident:
    """The incident with the outcome of the action, which is done unless it has one already."""
    name = f"notify {action.channel}" if action.kind == "notify" else action.kind
    if name in incident.actions:
        return incident
    try:
        if action.kind == "notify":
            outcome = _notify(services, incident, action.channel)
        elif action.kind == "rollback":
            outcome = _rollback(services, monitor, incident)
        else:
            outcome = _retrain(services, monitor, incident)
    except RetryableError:
        raise
    except PenstockError as error:
        outcome = f"failed: {error.message}"
    after = msgspec.structs.replace(incident, actions={**incident.actions, name: outcome})
    _store(services, incident, after, name, {"outcome": outcome})
    return after


def _notify(services: Services, incident: Incident, channel: str) -> str:
    notification = Notification(
        incident_id=incident.incident_id,
        channel=channel,
        monitor=incident.monitor,
        deployment=incident.deployment,
        version=incident.version,
        breaches=incident.breaches,
        at_us=services.clock.now_us(),
    )
    notify(services, notification, "monitor breached")
    return "told"


def _rollback(services: Services, monitor: Monitor, incident: Incident) -> str:
    """Bring the version before back, unless it has breached itself: then neither is any good.

    A pinned champion stays: whoever pinned it decided so.
    """
    model = monitor.deployment.model.name
    changes = changes_of(services.metadata, monitor.deployment.name)
    pinned = changes.pins.get("champion", 0)
    if pinned:
        return f"not done: the champion is pinned to {model}@{pinned} by {changes.changed_by}"
    now = aliases(services.metadata, model)
    if f"{model}@{now.champion}" != incident.version:
        # A rollback of ours that was killed may not have been announced; promoting who is champion
        # changes nothing and announces it once.
        promote(services, model, now.champion)
        return f"{model}@{now.champion} answers now"
    if not now.previous:
        return "not done: there is no previous version"
    previous = f"{model}@{now.previous}"
    incidents = services.metadata.find(Incident, where={"monitor": monitor.name})
    worse = [one.incident_id for one in incidents if one.version == previous]
    if worse:
        return f"not done: {previous} breached itself ({worse[-1]})"
    rollback(services, monitor.deployment.name, to=now.previous, expected=now.revision)
    return f"{previous} answers now"


def _retrain(services: Services, monitor: Monitor, incident: Incident) -> str:
    model = monitor.deployment.model.name
    # The incident's entry names the run.
    run_id = submit(
        services,
        train_run(
            f"train-{model}-{incident.incident_id}",
            model,
            promote=True,
            asked_by=key_of(monitor),
        ),
    )
    return f"run {run_id}"


def _store(
    services: Services,
    before: Incident | None,
    after: Incident,
    action: str,
    difference: Mapping[str, object],
) -> None:
    audit = Audit(
        actor=services.actor,
        action=action,
        subject=f"incident/{after.incident_id}",
        difference=difference,
    )
    services.metadata.write(Put(after, expected=before), audit=audit)
