"""When events count, and what windows hold. The one place where this is written.

- Times are int64 microseconds since 1970-01-01 UTC. The time of an event is when it is known:
  its timestamp plus the source's ``known_after``.
- A window of length ``over`` and hop ``hop``, asked at the time ``at``, holds the events with
  ``floor(at - over, hop) < time <= at``; the floor goes down to a multiple of ``hop`` since the
  epoch, for negative times too. So its head is exact and its tail moves in steps of ``hop``.
  A declared hop of zero is a hop of one microsecond, which rounds nothing: the window is exact.
  Without ``over`` it holds every event with ``time <= at``.
- Tile ``k`` of hop ``hop`` holds the events with ``k * hop < time <= (k + 1) * hop``. A window
  asked no earlier than the newest event is a run of whole tiles: what the online store keeps.
- Nulls are skipped. ``where`` that is null counts as false. Of two events at one time, the one that
  arrived later, by (``_batch``, ``_row``) of the raw table, is the newer.
- Online, a value is exact at ``as_of``: the time asked for, or the newest event of the entity that
  the store knows, whichever is later. Tiles that no query from then on can reach are dropped; an
  event that arrives for one of them changes no window any more. Where values may leave the store
  (``leaving``), ``as_of`` of one that is not there is no earlier than the store's horizon.
- Under a time-to-live an entity is only known at ``at`` while its newest event until then has
  ``time > at - ttl``; else every feature of the view is null.
- A record looks into another source at its own time: it finds the newest record of the key with
  ``time <= at``, and under ``within`` only one with ``time > at - within``; or the features of the
  key at ``at``, over what the other source had stored by then.

The whole past is the window of hop 0: one tile, index 0, that every query reaches.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from .arrays import BoolArray, IntArray

__all__ = ["first_tile", "is_expired", "tile_of", "window_start"]

Times = TypeVar("Times", int, "IntArray")


def is_expired(newest: Times, at: Times, ttl_us: int) -> bool | BoolArray:
    """Whether what is known of an entity is no longer true.

    Args:
        newest: Time of its newest event until then; ``NEVER_US`` for none.
        at: The time of the query.
        ttl_us: How long it stays true.
    """
    return newest <= at - ttl_us


def tile_of(time: Times, hop_us: int) -> Times:
    """Index of the tile that holds an event of this time.

    Args:
        time: When the event is known.
        hop_us: Length of a tile; 0 for the whole past.
    """
    return (time - 1) // hop_us if hop_us else time * 0


def first_tile(at: Times, over_us: int, hop_us: int) -> Times:
    """Index of the oldest tile that the window asked at ``at`` reaches.

    Args:
        at: The time of the query.
        over_us: Length of the window.
        hop_us: Length of a tile; 0 for the whole past.
    """
    return (at - over_us) // hop_us if hop_us else at * 0


def window_start(at: Times, over_us: int, hop_us: int) -> Times:
    """The time after which events are in the window asked at ``at``; it is not in it itself.

    Args:
        at: The time of the query.
        over_us: Length of the window.
        hop_us: What the start is rounded down to; positive.
    """
    return (at - over_us) // hop_us * hop_us
