"""What becomes of a run that was begun by itself and failed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .base import Value
from .durations import duration_us

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["Retry"]

MOST = 20


class Retry(Value, frozen=True, omit_defaults=True):
    """How often a run that failed is tried again by itself, from its last finished step.

    A run of the same model or deployment that was asked for later takes its place: it is then not
    tried again. After the last try somebody is told.

    Attributes:
        times: How often, at most; 0 for not at all.
        after: How long after its failure the first time; each later one waits twice as long.
    """

    times: int = 2
    after: str = "5m"

    def wait_us(self, tried: int) -> int:
        """How long after a failure it is tried again, in microseconds.

        Args:
            tried: How often it was tried again before.
        """
        return int(duration_us(self.after) * 2**tried)

    def _faults(self) -> Iterator[str]:
        if isinstance(self.times, bool) or not 0 <= self.times <= MOST:
            yield f"times={self.times!r}; give a whole number from 0 to {MOST}"
        try:
            length_us = duration_us(self.after)
        except ValueError as error:
            yield f"after: {error}"
        else:
            if not length_us:
                yield "after is zero; a cause that passes needs time to, so give it some"
