"""The newest stored requests of a deployment, asked again of another version."""

from __future__ import annotations

from collections import Counter
from contextlib import suppress
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from penstock.deployment import Replayed, load_engine
from penstock.errors import PenstockError
from penstock.registry import get_version, read_manifest, views_of
from penstock.scoring import drain_scores, score_spine, scores_in, table_of
from penstock.spec import base_views

from .recomputing import features_from_raw

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from penstock.deployment import Engine
    from penstock.ports import Services
    from penstock.records import Manifest, ModelVersion, Score

    Floats = NDArray[np.float64]

__all__ = ["replay_stored"]

NO_FEATURES = "were stored without their features"
EVERY_BATCH = 1 << 62
MISSING = "lack features that the version takes"


def replay_stored(
    services: Services, deployment: str, version: ModelVersion, *, most: int, champion: int
) -> Replayed:
    """Ask a version the newest requests that were stored, with the features of then.

    The champion's answers count where it has given any, else whoever's. Features that the
    version takes and the one that answered did not are computed from the raw tables as of the
    score, out of no other batches than it had seen; not for requests that brought their features.

    Args:
        services: The ports; uses the score log, tables, artifacts and metadata.
        deployment: Name of the deployment.
        version: The version, packaged.
        most: At most so many requests.
        champion: The version whose answers count; 0 for anybody's.
    """
    drain_scores(services, deployment)
    manifest = read_manifest(services.artifacts.path(version.package))
    scores = _newest(services, deployment, version.model, most, champion)
    skipped: Counter[str] = Counter()
    kept, rows = _rows(services, manifest, scores, skipped)
    x = np.array(rows, dtype=np.float64).reshape(len(kept), len(manifest.features))
    after = np.empty(0)
    if kept:
        engine = load_engine(services.artifacts.path(version.package), manifest)
        after = _predicted(engine, x)
    return Replayed(
        ids=[score.prediction_id for score in kept],
        before=np.array([score.prediction for score in kept], dtype=np.float64),
        after=after,
        against=[f"{score.model}@{score.version}" for score in kept],
        skipped=skipped,
        classifies=manifest.task == "classification",
    )


def _newest(
    services: Services, deployment: str, model: str, most: int, champion: int
) -> list[Score]:
    """The newest answers, oldest first; of the champion where there are any of it."""
    table = table_of(deployment)
    if not most or services.tables.version(table) is None:
        return []
    answered = (pl.col("model") == model) & (pl.col("version") > 0) & (pl.col("route") != "shadow")
    for which in ([answered & (pl.col("version") == champion)] if champion else []) + [answered]:
        # First the times alone, so that of a large table only the newest parts are read whole.
        scan = services.tables.scan(table).filter(which)
        times = scan.select(pl.col("scored_at_us").top_k(most)).collect()["scored_at_us"]
        if len(times):
            newest = scan.filter(pl.col("scored_at_us") >= times.min())
            frame = newest.collect().sort("scored_at_us", "prediction_id")
            return scores_in(frame.tail(most))
    return []


def _rows(
    services: Services, manifest: Manifest, scores: Sequence[Score], skipped: Counter[str]
) -> tuple[list[Score], list[list[float]]]:
    """The scores that can be asked again, and for each the features the version takes."""
    kept: list[Score] = []
    rows: list[list[float]] = []
    lacking: list[Score] = []
    names: dict[int, tuple[str, ...]] = {}
    for score in scores:
        if score.version not in names:
            names[score.version] = _features_of(services, score)
        known = names[score.version]
        if not known or len(known) != len(score.features):
            skipped[NO_FEATURES] += 1
        elif set(manifest.features) <= set(known):
            values = dict(zip(known, score.features, strict=True))
            kept.append(score)
            rows.append([_number(values[name]) for name in manifest.features])
        elif score.origin == "request":
            skipped[MISSING] += 1
        else:
            lacking.append(score)
    found, computed = _computed(services, manifest, lacking, skipped)
    return [*kept, *found], [*rows, *computed]


def _features_of(services: Services, score: Score) -> tuple[str, ...]:
    try:
        answered = get_version(services.metadata, score.model, score.version)
        return read_manifest(services.artifacts.path(answered.package)).features
    except PenstockError:
        return ()  # its package is gone: nobody knows what its values were of


def _computed(
    services: Services, manifest: Manifest, scores: Sequence[Score], skipped: Counter[str]
) -> tuple[Sequence[Score], list[list[float]]]:
    if not scores:
        return (), []
    try:
        spine = score_spine(
            manifest,
            [score.entity for score in scores],
            [score.at_us for score in scores],
            [score.given for score in scores],
        )
        # Of a view that no score knew of, every batch may be read; the time bounds it all the same.
        all_of = dict.fromkeys((view.name for view in base_views(views_of(manifest))), EVERY_BATCH)
        progress = [{**all_of, **one.progress} for one in scores]
        frame = features_from_raw(services, manifest, spine, progress)
    except PenstockError as error:
        skipped[f"{MISSING}, and these cannot be computed: {error.message}"] += len(scores)
        return (), []
    return scores, frame.fill_null(float("nan")).to_numpy().tolist()


def _number(value: float | None) -> float:
    return float("nan") if value is None else value


def _predicted(engine: Engine, x: Floats) -> Floats:
    """The predictions; a row that the model refuses has none, and the others have theirs."""
    try:
        return engine.predict(x)
    except (ValueError, PenstockError):
        found = np.full(len(x), np.nan)
        for place in range(len(x)):
            with suppress(ValueError, PenstockError):
                found[place] = engine.predict(x[place : place + 1])[0]
        return found
