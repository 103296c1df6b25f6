"""Which deployments to let go of, where they are loaded by need: those used least lately."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["Held", "let_go"]


class Held(NamedTuple):
    """A deployment that is loaded.

    Attributes:
        name: Its name.
        size_bytes: About how much memory it takes.
        used_us: When it was asked last, or loaded, in microseconds.
        busy: Whether it is answering: then it stays, whatever it takes.
    """

    name: str
    size_bytes: int
    used_us: int
    busy: bool


def let_go(held: Iterable[Held], *, now_us: int, memory_bytes: int, idle_us: int) -> list[str]:
    """The deployments to let go of, the one used least lately first.

    Those that have rested long enough go in any case. Of the others, as few go as bring the rest
    below the budget, and none that was used later than one that stays and is not busy. The one used
    last of all stays, though it alone may be above the budget: somebody is waiting for it.

    Args:
        held: What is loaded.
        now_us: The time, in microseconds.
        memory_bytes: What all may take together; 0 for no limit.
        idle_us: How long one may rest, in microseconds; 0 for ever.
    """
    known = sorted(held, key=lambda one: (one.used_us, one.name))
    total = sum(one.size_bytes for one in known)
    gone: list[str] = []
    for place, one in enumerate(known):
        is_over = 0 < memory_bytes < total and place < len(known) - 1
        is_idle = 0 < idle_us <= now_us - one.used_us
        if (is_over or is_idle) and not one.busy:
            gone.append(one.name)
            total -= one.size_bytes
    return gone
