"""What of a score is stored beside what explains it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

from .base import Value, tag_faults

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["ScoreLog"]


class ScoreLog(Value, frozen=True, omit_defaults=True):
    """What the score log of a deployment stores of the features that a model saw.

    Everything else of a score is always stored: its id, what answered and why, the entity, times,
    the prediction, and the raw batches behind its features.

    Attributes:
        payload: Of which scores the features are stored: ``all``, ``none``, or a share between 0
            and 1, by hash of the prediction id: the same scores in every process.
        redact: Tags such as ``pii``: features with one of them, by their own tags or those of
            their view or source, or computed from such features, are never stored as they are;
            nor are the request fields of on-demand views among these.
        by: ``null`` stores nothing in their place; ``hash`` a number that is the same for equal
            values, made with a key of the project.
    """

    payload: Literal["all", "none"] | float = "all"
    redact: Sequence[str] = ()
    by: Literal["null", "hash"] = "null"

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
        for fault in tag_faults(self.redact):
            yield fault.replace("tags=", "redact=")
