"""What answers without a model: a score that was given before, or a constant."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from penstock.records import Score

from .lanes import PREVIOUS

if TYPE_CHECKING:
    from penstock.spec import Deployment, FallbackStep

    from .ask import Ask, Writer
    from .kept import KeptScores

__all__ = ["CACHED", "Substitutes"]

CACHED: FallbackStep = "cached"


class Substitutes:
    """Answers for a deployment with what needs no version. Used from one event loop.

    Args:
        declared: The deployment.
        writer: Where scores go.
        kept: The scores given last.
    """

    def __init__(self, declared: Deployment, writer: Writer, kept: KeptScores) -> None:
        self._declared = declared
        self._writer = writer
        self._kept = kept

    def step(self, ask: Ask, step: FallbackStep, why: str) -> Score | None:
        """What a step of the fallback answers; none for nothing, and for one that asks a version.

        Args:
            ask: The row.
            step: The step.
            why: Why it is asked, for the score.
        """
        fallback = self._declared.fallback
        if fallback is None:
            return None
        if step == "constant":
            return None if fallback.value is None else self._constant(ask, fallback.value, why)
        return None if step == PREVIOUS else self.last(ask, why)

    def last(self, ask: Ask, why: str, *, version: int = 0) -> Score | None:
        """The last score of the same request, where a step of the fallback answers with that.

        Args:
            ask: The row.
            why: Why it is asked, for the score.
            version: The version that has given it; 0 for any.
        """
        fallback = self._declared.fallback
        if fallback is None or CACHED not in fallback.steps:
            return None
        now_us = self._writer.clock.now_us()
        max_age_us = fallback.max_age_us
        found = self._kept.find(ask, now_us=now_us, max_age_us=max_age_us, version=version)
        return None if found is None else self.repeat(ask, found, f"{why}; ", now_us)

    def again(self, ask: Ask, *, max_age_us: int, version: int) -> Score | None:
        """The last score of the same request by a version, while it is young enough.

        Args:
            ask: The row.
            max_age_us: How old it may be.
            version: The version.
        """
        now_us = self._writer.clock.now_us()
        found = self._kept.find(ask, now_us=now_us, max_age_us=max_age_us, version=version)
        return None if found is None else self.repeat(ask, found, "", now_us)

    def repeat(
        self, ask: Ask, score: Score, why: str, now_us: int, *, route: str = "cached"
    ) -> Score:
        """Answer with a score that was given before, under an id of its own.

        Args:
            ask: The row.
            score: The score.
            why: Why it answers, as the beginning of a sentence.
            now_us: The time.
            route: What to call it.
        """
        age_us = now_us - score.scored_at_us
        again: Score = msgspec.structs.replace(
            score,
            prediction_id=self._writer.ids.new(),
            route=route,
            scored_at_us=now_us,
            duration_us=now_us - ask.arrived_us,
            reason=f"{why}score {score.prediction_id} of {age_us / 1e6:.3g} s before",
            request_id=ask.request_id,
            trace_id=ask.trace_id,
        )
        return self._given(ask, again)

    def _constant(self, ask: Ask, value: float, why: str) -> Score:
        now_us = self._writer.clock.now_us()
        score = Score(
            prediction_id=self._writer.ids.new(),
            deployment=self._declared.name,
            model=self._declared.model.name,
            version=0,
            route="fallback",
            engine="constant",
            entity="" if ask.key is None else str(ask.key),
            at_us=ask.at_us or now_us,
            features=ask.values or (),
            prediction=value,
            scored_at_us=now_us,
            duration_us=now_us - ask.arrived_us,
            origin="online" if ask.values is None else "request",
            reason=why,
            request_id=ask.request_id,
            given=ask.given if ask.values is None else {},
            trace_id=ask.trace_id,
        )
        return self._given(ask, score)

    def _given(self, ask: Ask, score: Score) -> Score:
        """Log a score that no version computed, and note it where the request is traced."""
        self._writer.log.append([score])
        if ask.trace is not None:
            ask.trace.note(score)
        return score
