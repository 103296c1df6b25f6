"""The lanes of a deployment: which may answer for which, and how long they are waited for."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from penstock.errors import InputError

from .patience import watch

if TYPE_CHECKING:
    from collections.abc import Mapping

    from penstock.features import ViewAge
    from penstock.records import Manifest, Score

    from .ask import Ask
    from .lane import Lane
    from .served import ServedVersion

__all__ = [
    "PREVIOUS",
    "Absent",
    "Lanes",
    "answer_within",
    "is_rows_fault",
    "is_stale",
    "stale_ages",
]

PREVIOUS = "previous"


class Absent(NamedTuple):
    """A champion that cannot be loaded.

    Attributes:
        version: Its number.
        manifest: By which requests are read: its own, or where that cannot be read the manifest
            of the version before.
    """

    version: int
    manifest: Manifest


class Lanes:
    """The lanes of a deployment, and what each needs of a request that was made for the champion.

    Args:
        by_role: The lanes by role: ``champion``, challengers, shadows, ``previous``.
        reads: By which requests are read: the champion's manifest. None before there is one.

    Attributes:
        by_role: See above.
        champion: The lane that answers by default; none before the first deployment.
        shadows: Those whose scores nobody waits for.
    """

    def __init__(self, by_role: Mapping[str, Lane], reads: Manifest | None) -> None:
        self.by_role = by_role
        self.champion = by_role.get("champion")
        self.shadows = [lane for role, lane in by_role.items() if role.startswith("shadow")]
        self._orders = {
            lane.version.label: _order(reads, lane.version) if reads else None
            for lane in by_role.values()
        }
        takes = {**reads.keys, **reads.request} if reads else {}
        self._askable = {
            lane.version.label
            for lane in by_role.values()
            if reads and lane.version.takes.items() <= takes.items()
        }

    @property
    def versions(self) -> dict[int, Lane]:
        """The lanes that may answer, by the number of their version; shadows may not."""
        answering = [one for role, one in self.by_role.items() if not role.startswith("shadow")]
        # Where a version has two roles, the first declared speaks for it.
        return {lane.version.manifest.version: lane for lane in reversed(answering)}

    def usable(self, ask: Ask, lane: Lane) -> bool:
        """Whether a request made for the champion says what the lane's version needs."""
        label = lane.version.label
        return label in self._askable if ask.values is None else self._orders[label] is not None

    def fitted(self, ask: Ask, lane: Lane) -> Ask:
        """The row as the lane's version wants it."""
        if ask.values is None or lane is self.champion:
            return ask
        order = self._orders[lane.version.label]
        if order is None:
            return ask
        values = ask.values
        return ask.again(values=tuple([values[place] for place in order]), reason=ask.reason)

    def before(self, lane: Lane | None) -> Lane | None:
        """What answers for a lane, if any version: the champion for a challenger, else previous.

        Args:
            lane: The lane; none for a champion that cannot be loaded.
        """
        before = self.by_role.get(PREVIOUS) if lane is self.champion else self.champion
        return None if before is lane else before


async def answer_within(lane: Lane, ask: Ask, wait_us: int) -> Score:
    """Ask a lane; ``TimeoutError`` when it is late.

    A version that computes in the event loop is either done in time or has held up the clock as
    well, so only those in threads are watched.
    """
    future = lane.submit(ask)
    if not lane.slow:
        return await future
    timer = watch(future, wait_us)
    try:
        return await future
    finally:
        timer.cancel()


def is_stale(ask: Ask, lane: Lane, now_us: int) -> bool:
    """Whether features are to be looked up that are older than their views allow."""
    return ask.values is None and (ask.at_us or now_us) > lane.version.fresh_until_us


def stale_ages(ask: Ask, lane: Lane, now_us: int) -> list[ViewAge]:
    """The ages of the views that are older than they allow at the time asked."""
    return [age for age in lane.version.ages if age.is_stale(ask.at_us or now_us)]


def is_rows_fault(error: Exception) -> bool:
    """Whether it is the row that cannot be scored, by whatever version."""
    return isinstance(error, InputError) and "no_value" not in error.facts


def _order(champion: Manifest, other: ServedVersion) -> list[int] | None:
    """Places of a version's features among the champion's; none when some are missing there."""
    place = {name: index for index, name in enumerate(champion.features)}
    if any(name not in place for name in other.features):
        return None
    return [place[name] for name in other.features]
