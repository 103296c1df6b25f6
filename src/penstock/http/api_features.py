"""Metrics of features: how far what is online, and what scores saw, is what raw tables say."""

from __future__ import annotations

from typing import TYPE_CHECKING

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

from penstock.control import partition_states
from penstock.errors import PenstockError
from penstock.features import view_ages
from penstock.plan import Catalogue
from penstock.records import FeatureReport
from penstock.spec import Deployment, FeatureService, FeatureView

if TYPE_CHECKING:
    from collections.abc import Iterator

    from penstock.ports import Metadata, Services

__all__ = ["FeatureMetrics"]

LABELS = ("origin", "subject", "feature")


class FeatureMetrics(Collector):
    """The newest report on each view and each deployment, read when metrics are asked for.

    Args:
        services: The ports; uses metadata.
    """

    def __init__(self, services: Services) -> None:
        self._services = services

    def collect(self) -> Iterator[CounterMetricFamily | GaugeMetricFamily]:
        """The metrics; none of what has not been looked at."""
        rate = GaugeMetricFamily(
            "penstock_feature_mismatch_rate",
            "Share of the compared values that are not what the raw tables say.",
            labels=LABELS,
        )
        compared = GaugeMetricFamily(
            "penstock_feature_values_compared", "Values compared by the last look.", labels=LABELS
        )
        looked = GaugeMetricFamily(
            "penstock_feature_check_timestamp_seconds", "When it was looked.", labels=LABELS[:2]
        )
        for report in _newest(self._services.metadata):
            subject = (report.origin, report.subject)
            looked.add_metric(subject, report.to_us / 1e6)
            for check in report.checks:
                rate.add_metric((*subject, check.feature), check.rate)
                compared.add_metric((*subject, check.feature), check.compared)
        yield from (rate, compared, looked, self._ages(), *self._partitions())

    def _ages(self) -> GaugeMetricFamily:
        """How old what is online of each view is; none while the store cannot be read."""
        family = GaugeMetricFamily(
            "penstock_view_age_seconds",
            "Since the newest batch of a view's online features arrived.",
            labels=["view"],
        )
        services = self._services
        views = Catalogue.load(services.metadata).all(FeatureView)
        try:
            ages = view_ages(services.metadata, services.online, views)
        except PenstockError:
            return family
        for age in ages:
            family.add_metric([age.view], (services.clock.now_us() - age.arrived_us) / 1e6)
        return family

    def _partitions(self) -> Iterator[CounterMetricFamily | GaugeMetricFamily]:
        """How each partition of each view stands; none while the store cannot be read."""
        labels = ["view", "partition", "of"]
        batch = GaugeMetricFamily(
            "penstock_partition_batch", "Number of the last raw batch in it.", labels=labels
        )
        waiting = GaugeMetricFamily(
            "penstock_partition_waiting_batches",
            "How many newer raw batches wait for it.",
            labels=labels,
        )
        kept = GaugeMetricFamily(
            "penstock_partition_process",
            "Id of the process that keeps it up to date; 0 for none.",
            labels=labels,
        )
        swept = CounterMetricFamily(
            "penstock_partition_swept",
            "Values that have left it, since nobody could ask for them.",
            labels=labels,
        )
        try:
            states = list(partition_states(self._services))
        except PenstockError:
            states = []
        for one in states:
            where = [one.view, str(one.slot + 1), str(one.of)]
            if one.batch is not None:
                batch.add_metric(where, one.batch)
            waiting.add_metric(where, one.waiting)
            kept.add_metric(where, one.process_id)
            swept.add_metric(where, one.swept)
        yield from (batch, waiting, kept, swept)

    def describe(self) -> Iterator[GaugeMetricFamily]:
        """Nothing: what there is depends on what is declared."""
        yield from ()


def _newest(metadata: Metadata) -> Iterator[FeatureReport]:
    catalogue = Catalogue.load(metadata)
    subjects = [
        *(("online", view.name) for view in catalogue.all(FeatureView)),
        *(("served", deployment.name) for deployment in catalogue.all(Deployment)),
        *(("read", service.name) for service in catalogue.all(FeatureService)),
    ]
    for origin, subject in subjects:
        where = {"origin": origin, "subject": subject}
        yield from metadata.find(FeatureReport, where=where, newest_first=True, limit=1)
