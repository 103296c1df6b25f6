"""The definitions a version carries in its manifest, as declarations again."""

from __future__ import annotations

from typing import TYPE_CHECKING

from penstock.errors import StateError
from penstock.plan import DECLARED_CLASSES
from penstock.spec import Declared, Explain, FeatureView, OnDemandView, from_document

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from penstock.records import Manifest
    from penstock.spec import View

__all__ = ["explainers_in", "rebuild", "views_of"]

REF = "ref"
EXPLAIN = str(Explain.__struct_config__.tag)


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
    owner = f"{manifest.model}@{manifest.version}"
    found = [rebuild(key, manifest.definitions, known, owner=owner) for key in keys]
    return tuple(view for view in found if isinstance(view, (FeatureView, OnDemandView)))


def explainers_in(manifest: Manifest) -> tuple[str, ...]:
    """Names of the steps that explain others; none for a version of what is no graph."""
    document = manifest.definitions.get(f"graph/{manifest.model}")
    steps = document.get("steps", {}) if isinstance(document, dict) else {}
    return tuple(name for name, step in steps.items() if step.get("type") == EXPLAIN)


def rebuild(
    key: str, definitions: Mapping[str, object], known: dict[str, Declared], *, owner: str
) -> Declared:
    """A declaration out of stored documents.

    Args:
        key: Its key.
        definitions: The documents of it and of everything it refers to, by key.
        known: Those that were rebuilt already; this one is added, with what it refers to.
        owner: ``model@version`` that the documents are of, for errors.

    Raises:
        StateError: A document is missing, or cannot be read.
    """
    if key in known:
        return known[key]
    document = definitions.get(key)
    kind = key.partition("/")[0]
    if not isinstance(document, dict) or kind not in DECLARED_CLASSES:
        raise StateError(
            f"The manifest of {owner} has no definition of {key!r}, which it is made of. Train "
            f"the model again: 'penstock train {owner.partition('@')[0]}'.",
            key=key,
        )
    for other in _references(document):
        rebuild(other, definitions, known, owner=owner)
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
