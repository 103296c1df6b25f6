"""Model versions: kept for ever, found by number."""

from __future__ import annotations

from typing import TYPE_CHECKING

from penstock.errors import NotFoundError, NotReadyError
from penstock.records import ModelVersion

if TYPE_CHECKING:
    from penstock.ports import Metadata

__all__ = ["get_version", "versions"]


def versions(metadata: Metadata, model: str) -> list[ModelVersion]:
    """Every version of a model, oldest first; none for a model without any."""
    return metadata.find(ModelVersion, where={"model": model})


def get_version(metadata: Metadata, model: str, version: int) -> ModelVersion:
    """One version of a model.

    Raises:
        NotReadyError: The model has no version yet.
        NotFoundError: It has no such version.
    """
    found = metadata.find(ModelVersion, where={"model": model, "version": version})
    if found:
        return found[0]
    known = [str(one.version) for one in versions(metadata, model)]
    if not known:
        raise NotReadyError(
            f"The model {model!r} has no version yet. Run 'penstock train {model}' first.",
            model=model,
        )
    raise NotFoundError.of("version", f"{model}@{version}", [f"{model}@{one}" for one in known])
