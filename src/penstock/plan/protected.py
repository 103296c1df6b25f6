"""What protects each feature: the locks on it, and on everything it is computed from."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import msgspec

from penstock.errors import nearest
from penstock.spec import (
    FeatureView,
    OnDemandView,
    Protection,
    all_views,
    base_views,
    columns_of,
)

from .entries import feature_tags, looked_up_features

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator

    from penstock.spec import Declaration, View

__all__ = ["Lock", "Locks", "idle_protections", "locks_of", "protections_in"]


class Lock(msgspec.Struct, frozen=True, order=True):
    """One reason why a feature may not be read by everybody.

    Attributes:
        kind: ``tag`` or ``view``, after what is protected; ``unknown`` where the feature is not
            declared, so that nobody can say.
        name: The tag or the view.
        feature: Full name of the feature that is protected itself: the one that is read, or one it
            is computed from.
        views: Views of which a grant opens the lock: that of the feature, and those on the way from
            it to the one that is read.
    """

    kind: Literal["tag", "view", "unknown"]
    name: str
    feature: str
    views: tuple[str, ...]

    def opened_by(self, granted: Collection[tuple[str, str]]) -> bool:
        """Whether one of the grants, each a kind and a name, opens it."""
        if self.kind == "tag" and ("tag", self.name) in granted:
            return True
        return any(("view", view) in granted for view in self.views)


Locks = frozenset[Lock]


def protections_in(declarations: Iterable[Declaration]) -> tuple[Protection, ...]:
    """The protections among declarations."""
    return tuple(value for value in declarations if isinstance(value, Protection))


def locks_of(views: Iterable[View], protections: Iterable[Protection]) -> dict[str, Locks]:
    """The locks on each feature of some views and of those below them, by its full name.

    A feature computed on demand has the locks of whatever it reads beside its own; so has one of
    columns that are features of another view, looked up. Of two definitions of a view, as of an
    older version of a model and of now, each counts.

    Args:
        views: The views.
        protections: What is protected.
    """
    protections = tuple(protections)
    tags = {tag for one in protections for tag in one.tagged}
    named = {view.name for one in protections for view in one.views}
    found: dict[str, Locks] = {}
    views = list(views)
    looked_up = [one for view in base_views(views) for one in view.source.looks_through]
    for view in (*looked_up, *reversed(list(all_views(views)))):
        for name, its_tags, reads in _columns(view):
            locks = {Lock("tag", tag, name, (view.name,)) for tag in its_tags if tag in tags}
            if view.name in named:
                locks.add(Lock("view", view.name, name, (view.name,)))
            for below in reads:  # a view's own features stand above those that read them
                locks |= {_seen_from(view.name, lock) for lock in found[below]}
            found[name] = found.get(name, frozenset()) | locks
    return found


def idle_protections(declarations: Iterable[Declaration]) -> Iterator[str]:
    """Yield a sentence for each tag that is protected and that no feature has."""
    declarations = tuple(declarations)
    views = [value for value in declarations if isinstance(value, (FeatureView, OnDemandView))]
    known = {tag for view in views for _, tags, _ in _columns(view) for tag in tags}
    for protection in protections_in(declarations):
        for tag in protection.tagged:
            if tag not in known:
                said = f"protection {protection.name}: no feature has the tag {tag!r}."
                yield f"{said} {nearest(tag, known)}".rstrip()


def _seen_from(view: str, lock: Lock) -> Lock:
    """The lock as it is on a feature of a view that reads what has it."""
    if view in lock.views:
        return lock
    return msgspec.structs.replace(lock, views=(*lock.views, view))


def _columns(view: View) -> Iterator[tuple[str, set[str], list[str]]]:
    """Each feature of a view: its full name, its tags, and the full names of what it reads."""
    if isinstance(view, FeatureView):
        for feature in view.features:
            tags = set(feature_tags(view, feature))
            reads = looked_up_features(view, feature)
            for column in feature.names:
                yield f"{view.name}.{column}", tags, list(reads)
        return
    for name, expression in view.expressions.items():
        read = sorted(columns_of(expression) - set(view.request))
        full = [f"{view.name}.{one}" if one in view.features else one for one in read]
        yield f"{view.name}.{name}", {*view.described[name].tags, *view.tags}, full
