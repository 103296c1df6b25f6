"""The last score of each request, kept in the process to answer again."""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Hashable

    from penstock.records import Score

    from .ask import Ask

__all__ = ["KeptScores"]

MOST = 100_000


class KeptScores:
    """The scores given last, by what was asked: the entity and all the request says beside it.

    A request that hands in features, or names a time, is none of those. Used from one event loop.

    Args:
        most: How many are kept; the one used longest ago goes first.
    """

    def __init__(self, most: int = MOST) -> None:
        self._most = most
        self._scores: OrderedDict[Hashable, Score] = OrderedDict()

    def keep(self, ask: Ask, score: Score) -> None:
        """Keep a score that a version gave."""
        asked = _asked(ask)
        if asked is None:
            return
        self._scores[asked] = score
        self._scores.move_to_end(asked)
        if len(self._scores) > self._most:
            self._scores.popitem(last=False)

    def find(
        self, ask: Ask, *, now_us: int, max_age_us: int | None, version: int = 0
    ) -> Score | None:
        """The last score of what is asked.

        Args:
            ask: The request.
            now_us: The time.
            max_age_us: How old it may be; none for any age.
            version: The version that gave it; 0 for any.
        """
        score = self._scores.get(_asked(ask))
        if score is None or (version and score.version != version):
            return None
        old = max_age_us is not None and now_us - score.scored_at_us > max_age_us
        return None if old else score


def _asked(ask: Ask) -> Hashable:
    if ask.key is None or ask.values is not None or ask.at_us:
        return None
    return (ask.key, *sorted(ask.given.items())) if ask.given else ask.key
