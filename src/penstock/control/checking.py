"""The check of features that is made now and then: online, as scores saw them, and as answered.

All are compared with the raw tables. A report is stored for each view, deployment and feature
service that there is anything of; one with more mismatches than allowed is announced, as
``features.inconsistent``, and told to the channels that the monitors of the deployments tell. A
check that is made again for the same time replaces its reports, and announces and tells nothing
twice.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import structlog

from penstock.errors import DeclarationError, NotReadyError, PenstockError, UserCodeError
from penstock.features import check_online
from penstock.plan import Catalogue
from penstock.ports import Put, announce
from penstock.records import Event, FeatureReport
from penstock.spec import Deployment, FeatureService, FeatureView, Monitor

from .actions import Notification, notify
from .feature_reports import SAMPLE, report_of
from .read_checks import check_reads, forget_reads
from .served import check_served

if TYPE_CHECKING:
    from collections.abc import Iterator

    from penstock.ports import Services
    from penstock.records import CheckOrigin, FeatureCheck

__all__ = ["check_features", "check_scores", "check_view", "report_inconsistent"]

LONGEST_US = 24 * 3_600_000_000


def check_features(services: Services, *, to_us: int) -> list[FeatureReport]:
    """Compare the online features of every view, and what scores and clients got since last time.

    Views that are not built, and deployments without new scores, have no report; one that cannot be
    computed has one that says so, and keeps no other from being checked. One look goes back a day
    at most.

    Args:
        services: The ports.
        to_us: When it is looked, in microseconds since 1970 UTC.

    Raises:
        StateError: The online store is damaged.
    """
    catalogue = Catalogue.load(services.metadata)
    found: list[FeatureReport] = []
    for view in catalogue.all(FeatureView):
        try:
            found.append(check_view(services, view, at_us=to_us))
        except NotReadyError:
            continue
        except (DeclarationError, UserCodeError) as error:
            found.append(_unchecked(services, view, error, at_us=to_us))
    for deployment in catalogue.all(Deployment):
        from_us = _looked_until(services, "served", deployment.name, to_us)
        report = check_scores(services, deployment.name, from_us=from_us, to_us=to_us)
        found += [] if report is None else [report]
    for service in catalogue.all(FeatureService):
        from_us = _looked_until(services, "read", service.name, to_us)
        report = check_reads(services, service, from_us=from_us, to_us=to_us)
        found += [] if report is None else [report]
    forget_reads(services, to_us=to_us)
    return found


def _unchecked(
    services: Services, view: FeatureView, error: PenstockError, *, at_us: int
) -> FeatureReport:
    """The report of a view that cannot be computed now, stored."""
    log = structlog.get_logger("penstock.control")
    log.warning("a view was not checked", view=view.name, error=error.message)
    # Reports are read by all: no words of a user's function go into them.
    skipped = {view.name: error.plain}
    report = report_of(services, "online", view.name, from_us=at_us, to_us=at_us, skipped=skipped)
    services.metadata.write(Put(report))
    return report


def check_view(
    services: Services, view: FeatureView, *, at_us: int, sample: int = SAMPLE, seed: int = 0
) -> FeatureReport:
    """Compare a sample of a view's online features with the raw table, and store the report.

    Args:
        services: The ports.
        view: The view.
        at_us: When it is looked, in microseconds since 1970 UTC.
        sample: Number of entities.
        seed: Which ones.

    Raises:
        NotReadyError: The source has no records yet, or the view has not been built.
        StateError: The online store is damaged.
    """
    checks = check_online(
        services.tables,
        services.online,
        view,
        at_us=at_us,
        sample=sample,
        seed=seed,
        memory_bytes=services.features_memory_bytes,
    )
    report = report_of(services, "online", view.name, from_us=at_us, to_us=at_us, checks=checks)
    services.metadata.write(Put(report))
    return report


def check_scores(  # noqa: PLR0913 - what to look at, and how much of it
    services: Services,
    deployment: str,
    *,
    from_us: int,
    to_us: int,
    sample: int = SAMPLE,
    seed: int = 0,
) -> FeatureReport | None:
    """Compare what a sample of scores saw with the raw tables, and store the report.

    Args:
        services: The ports.
        deployment: Name of the deployment.
        from_us: Scores computed after this, in microseconds since 1970 UTC.
        to_us: Scores computed until this.
        sample: How many scores.
        seed: Which ones.

    Returns:
        The report; none where no features were looked up in that time.
    """
    report = check_served(
        services, deployment, from_us=from_us, to_us=to_us, sample=sample, seed=seed
    )
    if not report.checks and not report.skipped:
        return None
    services.metadata.write(Put(report))
    return report


def report_inconsistent(services: Services, report: FeatureReport, *, max_rate: float) -> bool:
    """Announce a report with more mismatches than allowed, and tell whoever is to know.

    Told are the channels that monitors tell, of the deployment, or of the deployments that read the
    view. Done again for the same report, nothing is announced or told twice.

    Args:
        services: The ports; uses metadata and the event log.
        report: What was found.
        max_rate: The share of a column's values that may differ.

    Returns:
        Whether there are more.
    """
    above = report.above(max_rate)
    if not above:
        return False
    announce(
        services.log,
        Event(
            event_id=f"features.inconsistent:{report.report_id}",
            kind="features.inconsistent",
            subject=report.subject,
            ids={"report_id": report.report_id, "origin": report.origin},
            at_us=report.to_us,
        ),
    )
    for notification in _notifications(services, report, [_words(check) for check in above]):
        notify(services, notification, "features are inconsistent")
    return True


def _notifications(
    services: Services, report: FeatureReport, words: list[str]
) -> Iterator[Notification]:
    """One for each channel."""
    told: set[str] = set()
    for monitor in Catalogue.load(services.metadata).all(Monitor):
        if not _concerns(monitor.deployment, report):
            continue
        for action in monitor.on_breach:
            if action.kind == "notify" and action.channel not in told:
                told.add(action.channel)
                yield Notification(
                    incident_id=report.report_id,
                    channel=action.channel,
                    monitor=monitor.name,
                    deployment=monitor.deployment.name,
                    version="",
                    breaches=tuple(words),
                    at_us=report.to_us,
                )


def _concerns(deployment: Deployment, report: FeatureReport) -> bool:
    if report.origin == "served":
        return deployment.name == report.subject
    if report.origin == "read":
        service = deployment.model.dataset.service
        return service is not None and service.name == report.subject
    return report.subject in {view.name for view in deployment.model.dataset.base_views}


def _words(check: FeatureCheck) -> str:
    return f"{check.feature}: {check.mismatches} of {check.compared} values are not the raw table's"


def _looked_until(services: Services, origin: CheckOrigin, subject: str, to_us: int) -> int:
    """Until when scores or answers have been looked at, before that time; a day before at most."""
    where = {"origin": origin, "subject": subject}
    newest = services.metadata.find(FeatureReport, where=where, newest_first=True, limit=2)
    looked_us = max((report.to_us for report in newest if report.to_us < to_us), default=0)
    return max(looked_us, to_us - LONGEST_US)
