"""Scores that are there already and answer at once: the last one given, or a batch run's."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .ready import READY_SHARE

if TYPE_CHECKING:
    from penstock.records import Score
    from penstock.spec import Deployment

    from .ask import Ask, Writer
    from .counts import Counters
    from .ready import PrecomputedScores
    from .substitutes import Substitutes

__all__ = ["AtOnce"]


class AtOnce:
    """Answers with scores that are there, where the routes have it. Used from one event loop.

    Args:
        declared: The deployment.
        substitutes: What answers without a version.
        writer: Where its scores go.
        counters: What it has done so far.
        ready: The scores of batch runs, where its routes answer with those.
        wait_us: How long an answer may take before something falls back.

    Attributes:
        again_us: How old the last score may be; 0 where no route answers with it.
        is_on: Whether a route answers with either.
    """

    def __init__(  # noqa: PLR0913 - what a deployment is made of
        self,
        declared: Deployment,
        substitutes: Substitutes,
        writer: Writer,
        counters: Counters,
        *,
        ready: PrecomputedScores | None,
        wait_us: int,
    ) -> None:
        ages = [route.max_age_us for route in declared.routes if route.role == "cached"]
        self.again_us = ages[0] if ages else 0
        self.is_on = bool(self.again_us) or ready is not None
        self._substitutes = substitutes
        self._writer = writer
        self._counters = counters
        self._ready = ready
        self._wait_us = wait_us // READY_SHARE

    async def answer(self, ask: Ask, version: int, *, is_champion: bool) -> Score | None:
        """The score that answers a row; none where none does.

        Args:
            ask: The row.
            version: The version that would answer.
            is_champion: Whether it is the champion: batch scores are its alone.
        """
        score = self._again(ask, version) if self.again_us else None
        if score is None and is_champion and self._ready is not None:
            score = await self._precomputed(ask, version, self._ready)
        if score is not None:
            self._counters.answer(score)
        return score

    def _again(self, ask: Ask, version: int) -> Score | None:
        """The last score of the same request by the same version, while it is young enough."""
        return self._substitutes.again(ask, max_age_us=self.again_us, version=version)

    async def _precomputed(self, ask: Ask, version: int, ready: PrecomputedScores) -> Score | None:
        """The newest batch score of what is asked, where the version gave it and it is young."""
        now_us = self._writer.clock.now_us()
        found = await ready.newest(ask, now_us=now_us, version=version, wait_us=self._wait_us)
        if found is None:
            return None
        return self._substitutes.repeat(ask, found, "", now_us, route="precomputed")
