"""The machine's clock, and identifiers ordered by time."""

from __future__ import annotations

import os
import secrets
import threading
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from penstock.ports import Clock

__all__ = ["SystemClock", "UlidIds"]

_ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
# Two characters (10 bits) are encoded at a time: one lookup instead of two shifts and two lookups.
_PAIRS = tuple(a + b for a in _ALPHABET for b in _ALPHABET)
_HEAD_CHARACTERS = 12
_TAIL_BITS = 20
_TIME_CHARACTERS = 10


class SystemClock:
    """The clock of the machine, in UTC."""

    def now(self) -> datetime:
        """The current time, in UTC."""
        return datetime.now(tz=UTC)

    def now_us(self) -> int:
        """The current time in microseconds since 1970 UTC."""
        return time.time_ns() // 1000


class UlidIds:
    """Identifiers of 26 Crockford characters: 48 bits of milliseconds, then 80 random bits.

    Identifiers of one object only grow, even when the clock stands still or is set back: within a
    millisecond the random part is counted up, in its last 20 bits. The random part is drawn anew in
    a forked child, so that it does not repeat its parent's.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._process_id = os.getpid()
        self._ms = -1
        self._prefix = ""
        self._tail = 0

    def new(self) -> str:
        """A new identifier of 26 characters that no other process makes, ordered by time."""
        return self.several(1)[0]

    def several(self, number: int) -> list[str]:
        """As many new identifiers, in order: as ``new`` makes them one by one, at less cost."""
        now_ms = self._clock.now_us() // 1000
        with self._lock:
            if now_ms > self._ms or os.getpid() != self._process_id:
                self._restart(max(now_ms, self._ms))
            made: list[str] = []
            for _ in range(number):
                self._tail += 1
                if self._tail >> _TAIL_BITS:
                    self._restart(self._ms + 1)
                made.append(self._prefix + _PAIRS[self._tail >> 10] + _PAIRS[self._tail & 1023])
            return made

    def _restart(self, ms: int) -> None:
        """Begin a millisecond with a fresh random part."""
        self._ms = ms
        self._process_id = os.getpid()
        head = _crockford(secrets.randbits(5 * _HEAD_CHARACTERS), _HEAD_CHARACTERS)
        self._prefix = _crockford(ms, _TIME_CHARACTERS) + head
        self._tail = secrets.randbits(_TAIL_BITS)


def _crockford(value: int, characters: int) -> str:
    """Encode the lowest ``5 * characters`` bits, greatest first; ``characters`` is even."""
    return "".join([_PAIRS[value >> shift & 1023] for shift in range(5 * characters - 10, -1, -10)])
