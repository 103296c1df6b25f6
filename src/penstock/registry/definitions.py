"""The definitions a version carries in its manifest, as declarations again."""

from __future__ import annotations

from typing import TYPE_CHECKING

from penstock.errors import StateError
from penstock.plan import DECLARED_CLASSES
from penstock.spec import Declared, FeatureView, OnDemandView, from_document

if TYPE_CHECKING:
    from collections.abc import Iterator

    from penstock.records import Manifest
    from penstock.spec import View

__all__ = ["views_of"]

REF = "ref"


def views_of(manifest: Manifest) -> tuple[View, ...]:
    """The views a version was trained on, in the order of its features.

    They are rebuilt from the manifest, not from what is applied now: a version goes on reading the
    features it learned from, also after the declarations have moved on.

    Raises:
        StateError: The manifest lacks a definition, or one cannot be read.
    """
    known: dict[str, Declared] = {}
    names = dict.fromkeys(feature.partition(".")[0] for feature in manifest.features)
    kinds = [(name, f"on_demand_view/{name}") for name in names]
    keys = [key if key in manifest.definitions else f"feature_view/{name}" for name, key in kinds]
    found = [_rebuild(key, manifest, known) for key in keys]
    return tuple(view for view in found if isinstance(view, (FeatureView, OnDemandView)))


def _rebuild(key: str, manifest: Manifest, known: dict[str, Declared]) -> Declared:
    if key in known:
        return known[key]
    document = manifest.definitions.get(key)
    kind = key.partition("/")[0]
    if not isinstance(document, dict) or kind not in DECLARED_CLASSES:
        raise StateError(
            f"The manifest of {manifest.model}@{manifest.version} has no definition of {key!r}, "
            f"which its features come from. Train the model again: 'penstock train "
            f"{manifest.model}'.",
            key=key,
        )
    for other in _references(document):
        _rebuild(other, manifest, known)
    known[key] = from_document(DECLARED_CLASSES[kind], document, known)
    return known[key]


def _references(value: object) -> Iterator[str]:
    if isinstance(value, dict):
        if set(value) == {REF}:
            yield str(value[REF])
            return
        for item in value.values():
            yield from _references(item)
    elif isinstance(value, list):
        for item in value:
            yield from _references(item)
