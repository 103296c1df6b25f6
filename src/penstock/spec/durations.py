"""Lengths of time as users write them (``"90s"``, ``"7d"``) and as the engine counts them.

The engine counts in whole microseconds since 1970-01-01 UTC, as signed 64-bit integers.
"""

from __future__ import annotations

import re
from typing import cast

__all__ = ["DAY_US", "HOUR_US", "MINUTE_US", "SECOND_US", "duration_text", "duration_us"]

SECOND_US = 1_000_000
MINUTE_US = 60 * SECOND_US
HOUR_US = 60 * MINUTE_US
DAY_US = 24 * HOUR_US

UNITS_US = {
    "us": 1,
    "ms": 1_000,
    "s": SECOND_US,
    "m": MINUTE_US,
    "h": HOUR_US,
    "d": DAY_US,
    "w": 7 * DAY_US,
}
PATTERN = re.compile(r"(\d+)(us|ms|s|m|h|d|w)")


def duration_us(text: str) -> int:
    """Read a duration such as ``"1h"`` or ``"1h30m"`` as microseconds.

    Args:
        text: One or more whole numbers, each followed by us, ms, s, m, h, d or w.

    Raises:
        ValueError: The text is no duration; the message says what is.
    """
    given = cast("object", text)  # a project is not type-checked
    parts = PATTERN.findall(text) if isinstance(given, str) else []
    if not parts or "".join(number + unit for number, unit in parts) != text:
        raise ValueError(
            f"{text!r} is no duration; write whole numbers with us, ms, s, m, h, d or w, "
            "such as '30m', '6h' or '1h30m'"
        )
    return sum(int(number) * UNITS_US[unit] for number, unit in parts)


def duration_text(duration: int) -> str:
    """Write microseconds in the largest unit that divides them: ``"6h"``, ``"90m"``."""
    for unit in ("d", "h", "m", "s", "ms"):
        if duration and duration % UNITS_US[unit] == 0:
            return f"{duration // UNITS_US[unit]}{unit}"
    return f"{duration}us"
