"""How long what is read of a packed value stays the same while nothing new is folded in.

A window moves with the clock, but what it gives changes only where its tail passes a tile: between
two such times it is the same, to the last bit, since it is read from the same tiles.
"""

from __future__ import annotations

from bisect import bisect_left
from typing import TYPE_CHECKING, NamedTuple

from .layout import COUNTS_AT, check, header_of, newest_one
from .windows import first_tile, is_expired

if TYPE_CHECKING:
    from .program import Program

__all__ = ["ALWAYS", "Span", "span_of"]


class Span(NamedTuple):
    """A span of time, in microseconds since 1970 UTC.

    Attributes:
        from_us: The first moment in it.
        until_us: The first moment after it.
    """

    from_us: int
    until_us: int

    def within(self, other: Span) -> Span:
        """The part of this span that is in the other one too."""
        return Span(max(self.from_us, other.from_us), min(self.until_us, other.until_us))


ALWAYS = Span(-(1 << 63), (1 << 63) - 1)


def span_of(program: Program, value: bytes | None, as_of_us: int) -> Span:
    """The times at which a value reads as it does at one of them.

    Args:
        program: The compiled view.
        value: The packed value, None for an entity without events.
        as_of_us: The time, not before the value's newest event.

    Raises:
        StateError: The value is not one of this program.
    """
    if value is None:
        return ALWAYS
    counts = check(program, value, header_of(program))
    newest_us, ttl_us = newest_one(value), program.view.ttl_us
    if ttl_us and is_expired(newest_us, as_of_us, ttl_us):
        return Span(newest_us + ttl_us, ALWAYS.until_us)
    span = Span(newest_us, newest_us + ttl_us if ttl_us else ALWAYS.until_us)
    ints = memoryview(value).cast("q")
    place = COUNTS_AT + len(counts)
    for group, tiles in zip(program.groups, counts, strict=True):
        for window in group.windows if group.hop_us else ():
            wanted = first_tile(as_of_us, window.over_us, group.hop_us)
            low = bisect_left(ints, wanted, place, place + tiles)
            # A tile is in the window until the window begins at the tile's end.
            left, right = span
            if low > place:
                left = window.over_us + (ints[low - 1] + 1) * group.hop_us
            if low < place + tiles:
                right = window.over_us + (ints[low] + 1) * group.hop_us
            span = span.within(Span(left, right))
        place += (1 + group.width) * tiles
    return span
