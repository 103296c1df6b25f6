"""What of a score is stored beside what explains it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

from .base import Value, tag_faults
from .durations import DAY_US, duration_us

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["ScoreLog"]


class ScoreLog(Value, frozen=True, omit_defaults=True):
    """What the score log of a deployment stores of the features that a model saw, and how long.

    Everything else of a score is always stored: its id, what answered and why, the entity, times,
    the prediction, and the raw batches behind its features.

    Attributes:
        payload: Of which scores the features are stored: ``all``, ``none``, or a share between 0
            and 1, by hash of the prediction id: the same scores in every process.
        redact: Tags such as ``pii``: features with one of them, by their own tags or those of
            their view or source, or computed from such features, are never stored as they are;
            nor are the request fields of on-demand views among these. Where features are withheld
            of a score of a graph, so is what its steps gave.
        by: ``null`` stores nothing in their place; ``hash`` a number that is the same for equal
            values, made with a key of the project.
        keep: How long scores are kept, such as ``"90d"``, at least a day; then the worker removes
            them, and their ids alone are left. For ever when left out.
        unwritable: What becomes of requests while the log cannot be written, as on a full disk:
            ``refuse`` answers nothing that is not logged; ``answer`` answers, and counts the
            scores that are lost: these can be neither explained nor joined to what came true.
    """

    payload: Literal["all", "none"] | float = "all"
    redact: Sequence[str] = ()
    by: Literal["null", "hash"] = "null"
    keep: str = ""
    unwritable: Literal["refuse", "answer"] = "refuse"

    @property
    def keep_us(self) -> int:
        """How long scores are kept, in microseconds; only where it is said."""
        return duration_us(self.keep)

    @property
    def is_whole(self) -> bool:
        """Whether all features of all scores are stored as they are."""
        return self.share >= 1 and not self.redact

    @property
    def share(self) -> float:
        """The share of scores whose features are stored."""
        if isinstance(self.payload, str):
            return 1.0 if self.payload == "all" else 0.0
        return self.payload

    def _faults(self) -> Iterator[str]:
        if isinstance(self.payload, bool) or (
            not 0 <= self.payload <= 1
            if isinstance(self.payload, (int, float))
            else self.payload not in {"all", "none"}
        ):
            yield f"payload={self.payload!r}; give 'all', 'none' or a share between 0 and 1"
        if self.by not in {"null", "hash"}:
            yield f"by={self.by!r}; give 'null' or 'hash'"
        if self.unwritable not in {"refuse", "answer"}:
            yield f"unwritable={self.unwritable!r}; give 'refuse' or 'answer'"
        if self.keep:
            yield from self._keep_faults()
        for fault in tag_faults(self.redact):
            yield fault.replace("tags=", "redact=")

    def _keep_faults(self) -> Iterator[str]:
        try:
            kept_us = self.keep_us
        except ValueError as error:
            yield f"keep: {error}"
        else:
            if kept_us < DAY_US:
                yield f"keep={self.keep!r} is less than a day; the worker looks once a day"
