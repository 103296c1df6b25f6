"""Time and identifiers, so that nothing else reads a clock or rolls a die."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from datetime import datetime

__all__ = ["Clock", "Ids"]


class Clock(Protocol):
    """Tells the time. Safe across threads."""

    def now(self) -> datetime:
        """The current time, in UTC."""
        ...

    def now_us(self) -> int:
        """The current time in microseconds since 1970 UTC."""
        ...


class Ids(Protocol):
    """Makes identifiers. Safe across threads and processes."""

    def new(self) -> str:
        """A new identifier of 26 characters that no other process makes, ordered by time."""
        ...

    def several(self, number: int) -> list[str]:
        """As many new identifiers, in order: as ``new`` makes them one by one, at less cost."""
        ...
