"""Numbers and times as people read them."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["ago", "count", "measured", "moment", "number", "pairs", "plural", "size", "span"]

UNITS = (("d", 86_400), ("h", 3_600), ("min", 60))
SIZES = ("B", "kB", "MB", "GB", "TB")
STEP = 1_000
NOW_S = 2
SHORT_S = 1.0
LARGE = 10_000
HUGE = 1e15


def count(value: int) -> str:
    """A whole number with its thousands apart: ``"1,234"``."""
    return f"{value:,}"


def number(value: float | None, digits: int = 4) -> str:
    """A measured number, or a dash for none."""
    if value is None:
        return "-"
    return f"{value:,.0f}" if abs(value) >= LARGE else f"{value:.{digits}f}"


def measured(value: float | None, digits: int = 5) -> str:
    """A number of any size in so many digits: ``"0.0015123"``, ``"2,233.6"``, ``"61,235"``."""
    if value is None:
        return "-"
    if LARGE <= abs(value) < HUGE:
        return f"{value:,.0f}"
    return f"{value:,.{digits}g}"


def plural(value: int, noun: str) -> str:
    """A count with its noun: ``"1 row"``, ``"2 rows"``, ``"3 batches"``, ``"4 entries"``."""
    if value != 1:
        noun = f"{noun[:-1]}ie" if noun.endswith("y") and noun[-2] not in "aeiou" else noun
        noun += "es" if noun.endswith(("ch", "sh", "s", "x")) else "s"
    return f"{value:,} {noun}"


def size(size_bytes: float) -> str:
    """A number of bytes in the largest fitting unit: ``"1.2 MB"``."""
    for unit in SIZES[:-1]:
        if abs(size_bytes) < STEP:
            return f"{size_bytes:.0f} {unit}" if unit == "B" else f"{size_bytes:.1f} {unit}"
        size_bytes /= STEP
    return f"{size_bytes:.1f} {SIZES[-1]}"


def span(seconds: float) -> str:
    """A length of time: ``"430 ms"``, ``"2.1 s"``, ``"3 min"``, ``"5 h"``."""
    if seconds < SHORT_S:
        return f"{seconds * 1000:.0f} ms"
    for unit, length_s in UNITS:
        if seconds >= length_s:
            return f"{seconds / length_s:.0f} {unit}"
    return f"{seconds:.1f} s"


def ago(at: datetime | None, now: datetime) -> str:
    """How long ago something was: ``"5 min ago"``; a dash for never."""
    if at is None:
        return "-"
    seconds = (now - at).total_seconds()
    if abs(seconds) < NOW_S:
        return "now"
    return f"{span(seconds)} ago" if seconds > 0 else f"in {span(-seconds)}"


def moment(at_us: int | None) -> str:
    """Microseconds since 1970 UTC as date and time; a dash for none."""
    if at_us is None:
        return "-"
    return datetime.fromtimestamp(at_us / 1e6, tz=UTC).strftime("%Y-%m-%d %H:%M:%S")


def pairs(values: Mapping[str, object]) -> str:
    """What a mapping says, on one line: ``"rows=5 share=0.25"``."""
    told = {name: value for name, value in values.items() if value not in ("", None, {}, [])}
    return " ".join(f"{name}={_short(value)}" for name, value in told.items())


def _short(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, dict):
        return f"({', '.join(f'{name} {_short(item)}' for name, item in value.items())})"
    if isinstance(value, (list, tuple)):
        return f"({', '.join(_short(item) for item in value)})"
    return str(value)
