"""Times as options name them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from .failures import UsageError

__all__ = ["time_text", "time_us"]

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def time_us(option: str, text: str) -> int | None:
    """The time an option names, in microseconds since 1970 UTC; None where it was left out.

    Args:
        option: The option, such as ``--at``.
        text: A date, or a time with its zone.

    Raises:
        UsageError: It is no time, or has no zone.
    """
    if not text:
        return None
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        raise UsageError(
            f"{option} {text!r} is no time. Write it like 2024-03-01T12:00:00Z.", at=text
        ) from None
    if at.tzinfo is None:
        if len(text) > len("2024-03-01"):
            raise UsageError(f"{option} {text!r} has no time zone. Add Z for UTC.", at=text)
        at = at.replace(tzinfo=UTC)
    return (at - EPOCH) // timedelta(microseconds=1)


def time_text(at_us: int) -> str:
    """A time as options take it and answers over HTTP give it, to the microsecond.

    Args:
        at_us: Microseconds since 1970 UTC.
    """
    at = EPOCH + timedelta(microseconds=at_us)
    return at.isoformat().replace("+00:00", "Z")
