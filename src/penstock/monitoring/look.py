"""One look of a monitor at the version that answers now."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import polars as pl

from penstock.algebra import compute_metric
from penstock.deployment import champion_behind, changes_of
from penstock.errors import NotReadyError
from penstock.ports import Put
from penstock.records import ALL_WITHHELD, ModelVersion, MonitorReport
from penstock.registry import aliases, read_manifest
from penstock.spec import duration_us

from .measures import accuracy_check, drift_checks, latency_check
from .outcomes import latest_outcomes

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from penstock.ports import Services, Tables
    from penstock.records import Aliases, Check
    from penstock.spec import Monitor

__all__ = ["look", "measure_version"]

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
NO_SCORES: Mapping[str, pl.DataType] = {
    "prediction_id": pl.String(),
    "prediction": pl.Float64(),
    "features": pl.List(pl.Float64()),
    "withheld": pl.String(),
    "duration_us": pl.Int64(),
    "scored_at_us": pl.Int64(),
    "at_us": pl.Int64(),
    "route": pl.String(),
    "model": pl.String(),
    "version": pl.Int64(),
}
FOR_EVER_US = 1 << 62
BATCH = pl.col("route") == "batch"
ANSWERED = pl.col("route").is_in(["champion", "challenger"])


def look(services: Services, monitor: Monitor, *, now_us: int | None = None) -> MonitorReport:
    """Measure a deployment against the monitor's bounds, and store the report.

    Looks at the scores of the version that the champion's route leads to, by when they were scored.
    A row of a batch counts when it is about the window too: scoring history again is no news.
    Latency is that of online answers, and of the fallback's that stood in since the aliases changed
    last.

    Args:
        services: The ports.
        monitor: The monitor.
        now_us: End of the window, in microseconds since 1970 UTC; the clock's when left out. The
            same end replaces the report, so a look that was killed is simply repeated.

    Raises:
        NotReadyError: No version answers yet.
    """
    to_us = services.clock.now_us() if now_us is None else now_us
    pointers = aliases(services.metadata, monitor.deployment.model.name)
    version = _champion(services, monitor)
    checks = tuple(_checks(services, monitor, version, pointers, to_us))
    bounds = (monitor.drift, monitor.accuracy, monitor.latency)
    longest_us = max(duration_us(bound.over) for bound in bounds if bound is not None)
    report = MonitorReport(
        report_id=f"{to_us:016d}-{monitor.name}",
        monitor=monitor.name,
        deployment=monitor.deployment.name,
        version=version.label,
        from_us=to_us - longest_us,
        to_us=to_us,
        checks=checks,
        created_at=services.clock.now(),
    )
    services.metadata.write(Put(report))
    return report


def measure_version(  # noqa: PLR0913, PLR0917 - which answers, of whom, and how they are measured
    tables: Tables, deployment: str, model: str, version: int, metric: str, from_us: int
) -> tuple[float | None, int]:
    """How right a version's online answers were, where outcomes have come.

    Args:
        tables: The tables.
        deployment: Name of the deployment.
        model: Name of the model.
        version: The version.
        metric: The metric.
        from_us: Answers after this time, in microseconds since 1970 UTC.

    Returns:
        The metric, none where the outcomes do not define it, and the number of outcomes.
    """
    of_version = (pl.col("model") == model) & (pl.col("version") == version) & ANSWERED
    scores = _scores(tables, deployment, from_us, FOR_EVER_US, of_version)
    observed = _observed(tables, deployment, scores)
    if not observed.height:
        return None, 0
    return compute_metric(metric, observed["value"], observed["prediction"]), observed.height


def _champion(services: Services, monitor: Monitor) -> ModelVersion:
    declared = monitor.deployment
    model = declared.model.name
    # Where the champion is pinned, the alias may point to a version that nobody is answered by.
    number = champion_behind(services, declared, changes_of(services.metadata, declared.name))
    versions = services.metadata.find(ModelVersion, where={"model": model, "version": number})
    if not number or not versions:
        raise NotReadyError(
            f"Monitor {monitor.name!r} has nothing to look at: no version of model {model!r} "
            f"answers yet. Run 'penstock train {model}' and 'penstock deploy "
            f"{monitor.deployment.name}' first.",
            monitor=monitor.name,
            model=model,
        )
    return versions[0]


def _checks(
    services: Services, monitor: Monitor, version: ModelVersion, pointers: Aliases, to_us: int
) -> Iterator[Check]:
    tables, name = services.tables, monitor.deployment.name
    of_version = (pl.col("model") == version.model) & (pl.col("version") == version.version)
    if monitor.drift is not None:
        from_us = to_us - duration_us(monitor.drift.over)
        scores = _scores(tables, name, from_us, to_us, of_version & _about(from_us))
        manifest = read_manifest(services.artifacts.path(version.package))
        # Of what is not stored nobody knows how it lies.
        withheld = pl.col("withheld").fill_null("")
        whole = scores.filter(withheld != ALL_WITHHELD).select("features", withheld).collect()
        yield from drift_checks(whole, manifest, monitor.drift)
    if monitor.accuracy is not None:
        from_us = to_us - duration_us(monitor.accuracy.over)
        scores = _scores(tables, name, from_us, to_us, of_version & _about(from_us))
        yield accuracy_check(_observed(tables, name, scores), monitor.accuracy)
    if monitor.latency is not None:
        from_us = to_us - duration_us(monitor.latency.over)
        changed_us = (pointers.changed_at - EPOCH) // timedelta(microseconds=1)
        stood_in = (pl.col("route") == "fallback") & (pl.col("scored_at_us") >= changed_us)
        answers = _scores(tables, name, from_us, to_us, (of_version & ANSWERED) | stood_in)
        yield latency_check(answers.select("duration_us").collect()["duration_us"], monitor.latency)


def _about(from_us: int) -> pl.Expr:
    """Rows that the version answered, and rows of a batch that are of the window."""
    return ANSWERED | (BATCH & (pl.col("at_us") > from_us))


def _scores(
    tables: Tables, deployment: str, from_us: int, to_us: int, which: pl.Expr
) -> pl.LazyFrame:
    table = f"scores/{deployment}"
    if tables.version(table) is None:
        return pl.LazyFrame(schema=pl.Schema(NO_SCORES))
    scored = pl.col("scored_at_us")
    tables.widen(table, {"withheld": pl.String()})
    return tables.scan(table).filter((scored > from_us) & (scored <= to_us) & which)


def _observed(tables: Tables, deployment: str, scores: pl.LazyFrame) -> pl.DataFrame:
    """Predictions beside what came true; of several outcomes of one, the latest counts."""
    predicted = scores.select("prediction_id", "prediction")
    return (
        predicted.filter(pl.col("prediction").is_finite())
        .join(latest_outcomes(tables, deployment, predicted), on="prediction_id")
        .select("prediction", "value")
        .collect()
    )
