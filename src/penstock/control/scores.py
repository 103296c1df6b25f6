"""A score, by its id, as far as whoever asks may see it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from penstock.errors import PenstockError
from penstock.registry import get_version, read_manifest
from penstock.scoring import find_score

from .hiding import shown_parts, shown_values
from .pruning import missing_score

if TYPE_CHECKING:
    from penstock.ports import Services
    from penstock.records import Manifest, Score

__all__ = ["shown_score"]


def shown_score(services: Services, prediction_id: str) -> dict[str, object]:
    """Everything that is kept of a score, online or of a batch, as soon as it has been answered.

    Args:
        services: The ports.
        prediction_id: Its id.

    Returns:
        Its fields, with the features and the steps of a graph by name; a value that whoever asks
        may not read is ``protected``.

    Raises:
        NotFoundError: There is no such score.
    """
    score = find_score(services, prediction_id)
    if score is None:
        raise missing_score(services.tables, prediction_id)
    manifest = _manifest(services, score)
    values = shown_values(services, manifest, score)
    if manifest is not None and len(manifest.features) == len(values):
        features: object = dict(zip(manifest.features, values, strict=True))
    else:
        features = values
    told: dict[str, object] = {
        name: getattr(score, name) for name in msgspec.structs.asdict(score) if name != "features"
    }
    return told | {"features": features, "parts": shown_parts(services, manifest, score)}


def _manifest(services: Services, score: Score) -> Manifest | None:
    """Of the version that answered; none for a constant, and where it is gone."""
    if not score.version:
        return None
    try:
        record = get_version(services.metadata, score.model, score.version)
        return read_manifest(services.artifacts.path(record.package))
    except PenstockError:
        return None
