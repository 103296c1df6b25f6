"""Cron expressions: five fields (minute, hour, day, month, weekday), in UTC.

A field is ``*``, a number, a range ``1-5``, each with a step ``/15``, or a list of these; months
and weekdays may be names. Weekday 0 and 7 are Sunday. Where both the day and the weekday are
restricted, either is enough, as cron has always had it.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["CronTimes", "cron_times"]

MONTHS = {
    name: number
    for number, name in enumerate(
        ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"), 1
    )
}
WEEKDAYS = {
    name: number for number, name in enumerate(("sun", "mon", "tue", "wed", "thu", "fri", "sat"))
}
FIELDS: tuple[tuple[str, int, int, Mapping[str, int]], ...] = (
    ("minute", 0, 59, {}),
    ("hour", 0, 23, {}),
    ("day", 1, 31, {}),
    ("month", 1, 12, MONTHS),
    ("weekday", 0, 7, WEEKDAYS),
)
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
LONGEST_GAP_DAYS = 8 * 366  # 29 February, around a century that has none


class CronTimes(msgspec.Struct, frozen=True, kw_only=True):
    """The times of a cron expression.

    Attributes:
        minutes: Minutes of the hour, ascending.
        hours: Hours of the day, ascending.
        days: Days of the month.
        months: Months.
        weekdays: Days of the week; Sunday is 0.
        either: Whether the day or the weekday is enough.
    """

    minutes: tuple[int, ...]
    hours: tuple[int, ...]
    days: frozenset[int]
    months: frozenset[int]
    weekdays: frozenset[int]
    either: bool

    def latest_us(self, at_us: int) -> int | None:
        """The latest occasion at or before a time; none when it never happens.

        Args:
            at_us: The time, in microseconds since 1970 UTC.

        Returns:
            The occasion, in microseconds since 1970 UTC.
        """
        at = EPOCH + timedelta(microseconds=at_us)
        day = at.replace(hour=0, minute=0, second=0, microsecond=0)
        last = (at.hour, at.minute)
        for _ in range(LONGEST_GAP_DAYS):
            if self._on(day):
                found = self._latest_of_day(last)
                if found is not None:
                    moment = day.replace(hour=found[0], minute=found[1])
                    return (moment - EPOCH) // timedelta(microseconds=1)
            day, last = day - timedelta(days=1), (23, 59)
        return None

    def _on(self, day: datetime) -> bool:
        if day.month not in self.months:
            return False
        by_day, by_weekday = day.day in self.days, day.isoweekday() % 7 in self.weekdays
        return by_day or by_weekday if self.either else by_day and by_weekday

    def _latest_of_day(self, last: tuple[int, int]) -> tuple[int, int] | None:
        for hour in reversed(self.hours):
            for minute in reversed(self.minutes):
                if (hour, minute) <= last:
                    return hour, minute
        return None


@lru_cache(maxsize=256)  # thousands of triggers share a few, and are asked twice a second
def cron_times(expression: str) -> CronTimes:
    """Read a cron expression.

    Args:
        expression: Such as ``"0 3 * * mon-fri"``.

    Raises:
        ValueError: It is none; the message says why and what is expected.
    """
    texts = expression.lower().split()
    if len(texts) != len(FIELDS):
        raise ValueError(
            f"{expression!r} has {len(texts)} fields; "
            "cron takes five: minute, hour, day, month, weekday"
        )
    sets = [_field(text, *field) for text, field in zip(texts, FIELDS, strict=True)]
    times = CronTimes(
        minutes=tuple(sorted(sets[0])),
        hours=tuple(sorted(sets[1])),
        days=sets[2],
        months=sets[3],
        weekdays=frozenset(number % 7 for number in sets[4]),
        either="*" not in {texts[2], texts[4]},
    )
    if times.latest_us(0) is None:
        raise ValueError(f"{expression!r} never happens; no such day is in such a month")
    return times


def _field(text: str, name: str, low: int, high: int, words: Mapping[str, int]) -> frozenset[int]:
    found: set[int] = set()
    for part in text.split(","):
        span, slash, step = part.partition("/")
        first, dash, last = span.partition("-")
        start = low if span == "*" else _number(first, name, low, high, words)
        end = high if span == "*" or (slash and not dash) else start
        if dash:
            end = _number(last, name, low, high, words)
        by = int(step) if step.isdecimal() else 0
        if (slash and by < 1) or end < start:
            raise ValueError(f"{name} {part!r} is no range; write it as 1-5, 1-5/2 or */15")
        found.update(range(start, end + 1, by or 1))
    return frozenset(found)


def _number(text: str, name: str, low: int, high: int, words: Mapping[str, int]) -> int:
    number = words.get(text, int(text) if text.isdecimal() and text.isascii() else -1)
    if not low <= number <= high:
        named = f" or {', '.join(words)}" if words else ""
        raise ValueError(f"{name} {text!r} is not one of {low} to {high}{named}, nor *")
    return number
