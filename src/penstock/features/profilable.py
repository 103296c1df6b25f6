"""Which features have a profile: those that the records of one source say all of.

Stored ones have, and of those on demand the ones that are computed from features of one source
alone. A field of a request is in no table, and where several sources are read, no record has the
keys and the time of all.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from penstock.algebra import compile_view
from penstock.errors import InputError
from penstock.spec import FeatureView, OnDemandView, base_views, columns_of

if TYPE_CHECKING:
    from collections.abc import Iterable

    from penstock.spec import Expression, View

__all__ = ["Profiled", "meaning_of", "profiled", "require_profiled", "unprofiled"]

MEANING_LENGTH = 16


class Profiled(NamedTuple):
    """What of a view is profiled.

    Attributes:
        view: The view, with those of its features that have a profile.
        base: The feature views below it, all of one source.
    """

    view: View
    base: tuple[FeatureView, ...]


def profiled(view: View) -> Profiled | None:
    """What of a view is profiled; None for nothing.

    Args:
        view: The view.
    """
    kept = _without_requests(view)
    if kept is None:
        return None
    base = base_views([kept])
    return Profiled(kept, base) if len(_sources(base)) == 1 else None


def require_profiled(view: View) -> Profiled:
    """What of a view is profiled.

    Raises:
        InputError: Nothing of it; says why.
    """
    found = profiled(view)
    if found is None:
        why = "; ".join(dict.fromkeys(unprofiled(view).values()))
        inner = ", ".join(one.name for one in base_views([view]))
        rest = f" Profile what it is computed from: {inner}." if inner else ""
        raise InputError(f"No feature of {view.name!r} has a profile: {why}.{rest}", name=view.name)
    return found


def unprofiled(view: View) -> dict[str, str]:
    """Why columns of a view have no profile, by their full names; those that have one are left out.

    Args:
        view: The view.
    """
    kept = _without_requests(view)
    pure = set(kept.names) if kept else set[str]()
    asked = "it is computed from fields of the request, which no table has"
    found = {name: asked for name in view.names if name not in pure}
    sources = _sources(base_views([kept] if kept else []))
    if len(sources) > 1:
        several = (
            f"features of {view.name} are of several sources ({', '.join(sources)}), of which no "
            "record has the keys and the time of all"
        )
        found |= dict.fromkeys(pure, several)
    return {name: found[name] for name in view.names if name in found}


def meaning_of(view: View) -> str:
    """A hash of what the features of a view are, through those below it.

    Args:
        view: The view.
    """
    if isinstance(view, FeatureView):
        return compile_view(view).fingerprint.hex()
    own = [[name, msgspec.to_builtins(each)] for name, each in view.expressions.items()]
    text = msgspec.json.encode([own, [[one.name, meaning_of(one)] for one in view.views]])
    return hashlib.sha256(text).hexdigest()[:MEANING_LENGTH]


def _sources(base: Iterable[FeatureView]) -> list[str]:
    return list(dict.fromkeys(view.source.name for view in base))


def _without_requests(view: View) -> View | None:
    """The view with those of its features that read no field of a request; None for none."""
    if isinstance(view, FeatureView):
        return view
    inner = [kept for one in view.views if (kept := _without_requests(one)) is not None]
    known = {name for one in inner for name in one.names}
    features: dict[str, Expression] = {}
    for name, expression in view.expressions.items():
        if columns_of(expression) <= known | set(features):
            features[name] = expression
    if not features:
        return None
    read = {column for each in features.values() for column in columns_of(each)}
    views = [one for one in inner if not read.isdisjoint(one.names)]
    return OnDemandView(name=view.name, views=views, features=features)
