"""A clock that is set by hand, and identifiers that count."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

__all__ = ["CountingIds", "FakeClock"]

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_START = datetime(2026, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


class FakeClock:
    """A clock that stands still until it is moved.

    Args:
        start: The first time it tells.
    """

    def __init__(self, start: datetime = _START) -> None:
        self._now = start

    def now(self) -> datetime:
        """The time it was set to, in UTC."""
        return self._now

    def now_us(self) -> int:
        """The same in microseconds since 1970 UTC."""
        return (self._now - _EPOCH) // _MICROSECOND

    def move(self, step: timedelta) -> None:
        """Move it, also backwards."""
        self._now += step


class CountingIds:
    """Identifiers ``00000000000000000000000001`` and so on."""

    def __init__(self) -> None:
        self._count = 0

    def new(self) -> str:
        """The next one."""
        self._count += 1
        return f"{self._count:026d}"

    def several(self, number: int) -> list[str]:
        """The next ones."""
        return [self.new() for _ in range(number)]
