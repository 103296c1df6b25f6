"""How old what is online is, and what is said when it is too old."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import msgspec
import numpy as np

from penstock.errors import StaleError
from penstock.records import Batch
from penstock.spec import base_views, duration_text

from .spaces import built_to, space_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from penstock.algebra import IntArray
    from penstock.ports import Metadata, OnlineStore
    from penstock.spec import FeatureView, View

__all__ = ["Freshness", "ViewAge", "require_fresh", "view_ages"]

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
SECOND_US = 1_000_000
MINUTE_US = 60 * SECOND_US


class ViewAge(msgspec.Struct, frozen=True, kw_only=True):
    """How old a view's online features are.

    Attributes:
        view: The view.
        source: Where its records come from.
        batch: Number of the last raw batch that is online.
        waiting: How many newer ones are stored and not online yet.
        arrived_us: When that batch arrived, in microseconds since 1970 UTC.
        allowed_us: How long ago that may be; 0 for any time.
    """

    view: str
    source: str
    batch: int
    waiting: int
    arrived_us: int
    allowed_us: int

    @property
    def fresh_until_us(self) -> int | None:
        """Until when the features are fresh; none for ever."""
        return self.arrived_us + self.allowed_us if self.allowed_us else None

    def is_stale(self, at_us: int) -> bool:
        """Whether they are older than the view allows."""
        until_us = self.fresh_until_us
        return until_us is not None and at_us > until_us

    def error(self, at_us: int) -> StaleError:
        """The error of a read that wants fresh features: how old, what is allowed, what to do."""
        age_us = at_us - self.arrived_us
        todo = (
            f"{self.waiting} newer are stored: run 'penstock features build {self.view}'"
            if self.waiting
            else f"No newer one is stored: run 'penstock ingest {self.source}', or see that "
            "'penstock stream' runs and that events come in"
        )
        return StaleError(
            f"The online features of view {self.view!r} are stale: the newest batch in them, "
            f"{self.batch} of {self.source!r}, arrived {_length(age_us)} ago, and freshness allows "
            f"{duration_text(self.allowed_us)}. {todo}.",
            view=self.view,
            age_s=age_us / SECOND_US,
            allowed_s=self.allowed_us / SECOND_US,
            waiting=self.waiting,
        )


class Freshness:
    """Until when the online features of some views are fresh, as seen by the last look.

    A look reads records; what it saw is told without any. Safe across threads.

    Args:
        views: The views; of those without a bound nothing is ever read.
    """

    def __init__(self, views: Iterable[View]) -> None:
        self._bounded = [view for view in base_views(views) if view.freshness_us]
        self._until_us: Mapping[str, int] = {}
        self._looked_us: int | None = None

    def look(
        self, metadata: Metadata, online: OnlineStore, seen: dict[str, Sequence[ViewAge]]
    ) -> None:
        """See how old the views are now.

        Args:
            metadata: Where the batches are known.
            online: The online store.
            seen: What was found of views just now, by their space; added to.
        """
        until_us: dict[str, int] = {}
        for view in self._bounded:
            space = space_of(view)
            if space not in seen:
                seen[space] = view_ages(metadata, online, [view])
            until_us |= {age.view: age.arrived_us + view.freshness_us for age in seen[space]}
        self._until_us = until_us

    def look_again(self, metadata: Metadata, online: OnlineStore, now_us: int) -> None:
        """See how old the views are now, where the last such look is a second ago or more.

        Args:
            metadata: Where the batches are known.
            online: The online store.
            now_us: The time, in microseconds since 1970 UTC.
        """
        looked_us = self._looked_us
        if self._bounded and (looked_us is None or abs(now_us - looked_us) >= SECOND_US):
            self._looked_us = now_us
            self.look(metadata, online, {})

    def stale(self, at_us: int | IntArray) -> Mapping[str, int]:
        """Until when each view was fresh that is stale at a time; most often of none.

        Args:
            at_us: The time the features are wanted at, in microseconds since 1970 UTC; of several
                the last counts.
        """
        if not self._until_us:
            return self._until_us
        last_us = at_us if isinstance(at_us, int) else int(np.max(at_us, initial=0))
        return {name: until for name, until in self._until_us.items() if last_us > until}


def view_ages(
    metadata: Metadata, online: OnlineStore, views: Sequence[FeatureView]
) -> tuple[ViewAge, ...]:
    """Say how old what is online of each view is; views that are not built are left out.

    Args:
        metadata: Where the batches are known.
        online: The online store.
        views: The views.
    """
    found: list[ViewAge] = []
    for view in views:
        number = built_to(online, space_of(view))
        arrived_us = _arrived_us(metadata, view.source.name, number)
        if number is None or arrived_us is None:
            continue
        age = ViewAge(
            view=view.name,
            source=view.source.name,
            batch=number,
            waiting=max(0, _newest(metadata, view.source.name) - number),
            arrived_us=arrived_us,
            allowed_us=view.freshness_us,
        )
        found.append(age)
    return tuple(found)


def require_fresh(ages: Iterable[ViewAge], at_us: int) -> None:
    """See that no view is older than it allows.

    Args:
        ages: What ``view_ages`` says.
        at_us: The time, in microseconds since 1970 UTC.

    Raises:
        StaleError: One is; the oldest beyond what is allowed.
    """
    stale = [age for age in ages if age.is_stale(at_us)]
    if stale:
        raise min(stale, key=lambda age: age.fresh_until_us or 0).error(at_us)


def _arrived_us(metadata: Metadata, source: str, number: int | None) -> int | None:
    if number is None:
        return None
    batch = metadata.read(Batch, Batch.key_of(source, number))
    while batch is not None and batch.deletion is not None:  # brings nothing new
        batch = metadata.read(Batch, Batch.key_of(source, batch.number - 1))
    return None if batch is None else (batch.arrived_at - EPOCH) // timedelta(microseconds=1)


def _newest(metadata: Metadata, source: str) -> int:
    where = {"source": source, "state": "stored"}
    newest = metadata.find(Batch, where=where, newest_first=True, limit=1)
    return newest[0].number if newest else 0


def _length(length_us: int) -> str:
    """A length of time in its two largest units, such as ``3h12m``."""
    unit_us = MINUTE_US if length_us >= MINUTE_US else SECOND_US
    whole_us = max(length_us // unit_us * unit_us, unit_us)
    days, rest_us = divmod(whole_us, 24 * 60 * MINUTE_US)
    hours, rest_us = divmod(rest_us, 60 * MINUTE_US)
    minutes, rest_us = divmod(rest_us, MINUTE_US)
    parts = zip((days, hours, minutes, rest_us // SECOND_US), "dhms", strict=True)
    return "".join([f"{number}{unit}" for number, unit in parts if number][:2])
