"""Whether the features that scores saw are those of the raw tables."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

import msgspec
import numpy as np
import polars as pl

from penstock.errors import PenstockError, StateError
from penstock.features import compare_columns
from penstock.records import FeatureCheck, Given
from penstock.registry import get_version, read_manifest
from penstock.scoring import SCORE_SCHEMA, score_spine

from .feature_reports import report_of
from .recomputing import expected_from_raw, keys_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from penstock.ports import Services
    from penstock.records import FeatureReport

    Seen: TypeAlias = tuple[list[FeatureCheck], str]

__all__ = ["check_served"]

COLUMNS = ("prediction_id", "model", "version", "entity", "at_us", "features", "progress", "given")
PROGRESS = msgspec.json.Decoder(dict[str, int])
GIVEN = msgspec.json.Decoder(dict[str, Given])


def check_served(  # noqa: PLR0913 - what to look at, and how much of it
    services: Services,
    deployment: str,
    *,
    from_us: int,
    to_us: int,
    sample: int = 1_000,
    seed: int = 0,
) -> FeatureReport:
    """Compute a sample of the features that a deployment looked up again from the raw tables.

    Scores are those in the table ``scores/<deployment>`` whose features were looked up online; each
    is computed as of its time, out of the raw batches it had seen. Scores of which the log does not
    store all features are left out. Nothing is stored.

    Args:
        services: The ports; uses tables, metadata, artifacts and the clock.
        deployment: Name of the deployment.
        from_us: Scores computed after this, in microseconds since 1970 UTC.
        to_us: Scores computed until this.
        sample: How many scores at most.
        seed: Which ones.

    Returns:
        The report. A version whose features cannot be computed any more is named in ``skipped``.
    """
    scores = _sample(services, deployment, (from_us, to_us), sample, seed)
    checks: dict[str, FeatureCheck] = {}
    skipped: dict[str, str] = {}
    for (model, version), own in scores.group_by("model", "version", maintain_order=True):
        label = f"{model}@{version}"
        try:
            found = _check(services, str(model), int(str(version)), own)
        except PenstockError as error:
            # Reports are read by all: no words of a user's function go into them.
            skipped[label] = error.plain
            continue
        for check in found:
            known = checks.get(check.feature)
            checks[check.feature] = _joined(known, check) if known else check
    return report_of(
        services, "served", deployment,
        from_us=from_us, to_us=to_us, checks=checks.values(), skipped=skipped,
    )  # fmt: skip


def _sample(
    services: Services, deployment: str, window_us: tuple[int, int], sample: int, seed: int
) -> pl.DataFrame:
    """Scores of the window, at random; only those that may be drawn are read whole."""
    table = f"scores/{deployment}"
    services.tables.widen(table, SCORE_SCHEMA)
    version = services.tables.version(table)
    if version is None:
        return pl.DataFrame(schema=dict.fromkeys(COLUMNS, pl.String))
    scored = pl.col("scored_at_us")
    looked_up = (pl.col("origin") == "online") & (pl.col("version") > 0)
    looked_up &= pl.col("withheld").fill_null("") == ""
    within = (scored > window_us[0]) & (scored <= window_us[1]) & looked_up
    scores = services.tables.scan(table, version=version).filter(within)
    number: int = scores.select(pl.len()).collect().item()
    drawn = pl.col("prediction_id").hash(seed) % max(1, number // (2 * sample)) == 0
    own = scores.filter(drawn).select(COLUMNS).collect().sort("prediction_id")
    return own.sample(min(sample, own.height), seed=seed)


def _check(
    services: Services, model: str, number: int, scores: pl.DataFrame
) -> Sequence[FeatureCheck]:
    record = get_version(services.metadata, model, number)
    manifest = read_manifest(services.artifacts.path(record.package))
    entities = scores["entity"].to_list()
    progress: Sequence[Mapping[str, int]] = [PROGRESS.decode(text) for text in scores["progress"]]
    given = [GIVEN.decode(text or "{}") for text in scores["given"]]
    spine = score_spine(manifest, entities, scores["at_us"].to_list(), given)
    expected = expected_from_raw(services, manifest, spine, progress)
    width = len(manifest.features)
    if (scores["features"].list.len() != width).any():
        raise StateError(
            f"Scores of {record.label} have another number of features than the {width} of its "
            "manifest; the scores table was altered.",
            expected=width,
        )
    return compare_columns(
        manifest.features,
        np.array(scores["features"].to_list(), dtype=np.float64),  # None becomes NaN
        expected,
        keys_of(manifest, entities),
        ids=scores["prediction_id"].to_list(),
    )


def _joined(one: FeatureCheck, other: FeatureCheck) -> FeatureCheck:
    """What was found of a column of two versions; the place is that of the worse."""
    first, second = (_size(check) for check in (one, other))
    worse = one if first >= second else other
    return msgspec.structs.replace(
        worse,
        compared=one.compared + other.compared,
        mismatches=one.mismatches + other.mismatches,
    )


def _size(check: FeatureCheck) -> tuple[bool, float]:
    return check.mismatches > 0, float("inf") if check.worst is None else check.worst
