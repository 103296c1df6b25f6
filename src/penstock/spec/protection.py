"""Protection: which features only those who were granted them may read."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from .base import Named, tag_faults, unique_faults
from .on_demand import View

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["Protection"]


class Protection(Named, frozen=True, kw_only=True, tag="protection"):
    """Features that only those who were granted them may read.

    Protected are the features that have one of the tags, by themselves, through their view or
    source, or through what a column of theirs was looked up in; all features of the views; and
    whatever is computed from any of these, on demand or where they were looked up. A grant is given
    with ``penstock access grant``.

    Attributes:
        tagged: The tags, such as ``["pii", "financial"]``.
        views: The views.
    """

    tagged: Sequence[str] = ()
    views: Sequence[View] = ()

    def _faults(self) -> Iterator[str]:
        yield from super()._faults()
        if not self.tagged and not self.views:
            yield "it protects nothing; give tagged=[...], views=[...] or both"
        yield from (fault.replace("tags=", "tagged=") for fault in tag_faults(self.tagged))
        yield from unique_faults("view", [view.name for view in self.views])
