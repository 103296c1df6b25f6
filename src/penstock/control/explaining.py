"""Why a score is what it is: what each feature added, explained from what was logged."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from penstock.access import require_features
from penstock.errors import NotSupportedError
from penstock.registry import get_version, read_manifest, views_of
from penstock.scoring import Explanation, explain_in_worker, explain_rows, find_score

from .pruning import missing_score

if TYPE_CHECKING:
    from penstock.ports import Services

__all__ = ["ScoreExplanation", "explain"]


class ScoreExplanation(msgspec.Struct, frozen=True, kw_only=True):
    """An explained score.

    Attributes:
        prediction_id: The score.
        deployment: Where it was asked for.
        version: ``model@version`` that answered.
        entity: The key that was scored; empty for features without one.
        logged: What was answered.
        explanation: What the features that were logged add up to, by that version.
    """

    prediction_id: str
    deployment: str
    version: str
    entity: str
    logged: float
    explanation: Explanation


def explain(services: Services, prediction_id: str, *, in_worker: bool = False) -> ScoreExplanation:
    """Explain a score by the version that answered, from the features that were logged.

    Args:
        services: The ports; the executor for ``in_worker``.
        prediction_id: The score.
        in_worker: Whether a worker process computes, for a process that must not load the libraries
            that models were trained with.

    Raises:
        NotFoundError: There is no such score, or its version is gone.
        NotSupportedError: A constant answered, or a library is not installed.
        AccessError: The caller may not read all of the features: contributions tell of values.
        StateError: The version's package is damaged, or the score was logged with other features.
        InputError: The version has no finite prediction for them.
    """
    score = find_score(services, prediction_id)
    if score is None:
        raise missing_score(services.tables, prediction_id)
    if not score.version:
        raise NotSupportedError(
            f"{prediction_id} was answered by the constant that {score.deployment!r} falls back "
            f"to, which looks at no feature: {score.reason}."
        )
    version = get_version(services.metadata, score.model, score.version)
    folder = services.artifacts.path(version.package)
    manifest = read_manifest(folder)
    subject = f"deployment/{score.deployment}"
    require_features(services, manifest.features, subject=subject, views=views_of(manifest))
    if in_worker:
        found = explain_in_worker(services.executor, folder, [score.features])
    else:
        found = explain_rows(folder, manifest, [score.features])
    return ScoreExplanation(
        prediction_id=prediction_id,
        deployment=score.deployment,
        version=version.label,
        entity=score.entity,
        logged=score.prediction,
        explanation=found[0],
    )
