"""Who uses what is deprecated: those that do are warned, those that would begin to are refused.

A user is a dataset, a model that learns from one, a feature service, or a source whose records are
completed with features. From the day of a
deprecation on, a user that did not read the feature when the project was applied last may not begin
to; whoever read it goes on. Deployments are no users of their own, so that no promotion or rollback
is ever refused.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from datetime import date
from typing import TYPE_CHECKING

import msgspec

from penstock.spec import (
    Dataset,
    FeatureService,
    FeatureView,
    Model,
    Source,
    View,
    all_views,
    day_of,
    key_of,
    names_below,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from penstock.spec import Declaration

__all__ = [
    "Deprecated",
    "Users",
    "deprecated_in",
    "deprecation_of",
    "refused_uses",
    "users_of",
    "warnings_of",
]

Reads = tuple[Sequence[View], Collection[str]]
"""Views, and the full names of those of their columns that are read."""

Users = Mapping[str, Reads]
"""Each user by its key, with what it reads."""


class Deprecated(msgspec.Struct, frozen=True, kw_only=True, order=True):
    """A feature or a whole view that nothing new may use from a day on.

    Attributes:
        name: ``view.feature``, or the view's name.
        since: The day.
        instead: What to use in its place; empty where nothing is named.
    """

    name: str
    since: date
    instead: str = ""

    def is_over(self, today: date) -> bool:
        """Whether the day has come."""
        return self.since <= today

    def warning(self, users: Collection[str], today: date) -> str:
        """What those who read it are told.

        Args:
            users: Their keys.
            today: The day it is told.
        """
        rest = f" Use {self.instead} instead." if self.instead else ""
        who = ", ".join(_words(user) for user in sorted(users))
        if self.is_over(today):
            head = f"{self.name} has been deprecated since {self.since}: nothing new may use it."
            return f"{head}{rest} Still read by {who}."
        head = f"{self.name} is deprecated: nothing new may use it from {self.since} on."
        return f"{head}{rest} Read by {who}."

    def fault(self, user: str) -> str:
        """Why somebody may not begin to read it."""
        rest = f"use {self.instead} instead" if self.instead else "leave it out"
        return (
            f"{user} would begin to read {self.name}, which has been deprecated since "
            f"{self.since}; {rest}"
        )


def deprecation_of(view: View, feature: str = "") -> Deprecated | None:
    """The deprecation of a view, or of one of its features; None where it is there to stay.

    Args:
        view: The view.
        feature: Name of the feature.
    """
    day = day_of(view.deprecated)
    if day is not None:
        return Deprecated(name=view.name, since=day, instead=view.instead)
    one = view.described.get(feature)
    own = day_of(one.deprecated) if one else None
    if one is None or own is None:
        return None
    near = one.instead and "." not in one.instead
    instead = f"{view.name}.{one.instead}" if near else one.instead
    return Deprecated(name=f"{view.name}.{feature}", since=own, instead=instead)


def deprecated_in(views: Sequence[View], names: Collection[str]) -> tuple[Deprecated, ...]:
    """What is deprecated of the features that are read, whether its day has come or not.

    Args:
        views: The views they come from.
        names: Full names of their columns, as ``selected_names`` gives those of a dataset.
    """
    found: dict[Deprecated, None] = {}
    for view, feature in _read(views, names):
        one = deprecation_of(view, feature)
        if one is not None:
            found[one] = None
    return tuple(sorted(found))


def users_of(
    declarations: Iterable[Declaration], kept: Mapping[str, Collection[str]]
) -> dict[str, Reads]:
    """The users among declarations, each with what it reads.

    Args:
        declarations: The declarations.
        kept: Full names of the columns that each selection of features kept, by its id; a dataset
            whose selection is not there is taken to read everything.
    """
    found: dict[str, Reads] = {}
    for value in declarations:
        if isinstance(value, (Dataset, Model)):
            dataset = value if isinstance(value, Dataset) else value.dataset
            found[key_of(value)] = (
                dataset.views,
                kept.get(dataset.select, dataset.feature_names),
            )
        elif isinstance(value, FeatureService):
            found[key_of(value)] = (value.views, value.names)
        elif isinstance(value, Source) and (completed := _completed_with(value)):
            found[key_of(value)] = completed
    return found


def _completed_with(source: Source) -> Reads | None:
    """The views and the features that a source's records are completed with; None for none."""
    taken = [(one.lookup.view, one.column) for one in source.captured.values()]
    named = [(view, f"{view.name}.{column}") for view, column in taken if view is not None]
    views = {view.name: view for view, _ in named}
    return (tuple(views.values()), [name for _, name in named]) if named else None


def warnings_of(users: Users, today: date) -> tuple[str, ...]:
    """What the users of deprecated features are told, a sentence for each feature.

    Args:
        users: As ``users_of`` gives them.
        today: The day it is told.
    """
    readers: dict[Deprecated, list[str]] = {}
    for user, (views, names) in users.items():
        for one in deprecated_in(views, names):
            readers.setdefault(one, []).append(user)
    return tuple(one.warning(readers[one], today) for one in sorted(readers))


def refused_uses(
    users: Users,
    before: Users,
    today: date,
) -> Iterator[str]:
    """Yield a fault for each user that would begin to read what may not be used any more.

    Args:
        users: The users as they are declared, as ``users_of`` gives them.
        before: The users as they were applied.
        today: The day.
    """
    for user, (views, names) in users.items():
        known = _names(*before[user]) if user in before else set()
        for one in deprecated_in(views, names):
            if one.is_over(today) and one.name not in known:
                yield one.fault(user)


def _read(views: Sequence[View], names: Collection[str]) -> Iterator[tuple[View, str]]:
    """Each feature of which a column is read, by itself or on demand, with its view."""
    read = names_below(views, names)
    for view in {view.name: view for view in all_views(views)}.values():
        for name, columns in _columns(view):
            if not read.isdisjoint(f"{view.name}.{column}" for column in columns):
                yield view, name


def _columns(view: View) -> Iterator[tuple[str, Sequence[str]]]:
    """Each feature of a view with its columns, by their names within the view."""
    if isinstance(view, FeatureView):
        yield from ((feature.name, feature.names) for feature in view.features)
    else:
        yield from ((name, (name,)) for name in view.features)


def _names(views: Sequence[View], names: Collection[str]) -> set[str]:
    """Full names of the features that are read, and of their views."""
    read = list(_read(views, names))
    return {view.name for view, _ in read} | {f"{view.name}.{name}" for view, name in read}


def _words(key: str) -> str:
    kind, _, name = key.partition("/")
    return f"{kind.replace('_', ' ')} {name}"
