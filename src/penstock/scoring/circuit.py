"""The circuit of a route: after repeated failures it is not asked for a while."""

from __future__ import annotations

__all__ = ["Circuit"]

FAILURES = 5
FIRST_PAUSE_US = 500_000
LONGEST_PAUSE_US = 30_000_000


class Circuit:
    """Opens after failures in a row, and lets one request try after each pause.

    The pause doubles from half a second to half a minute while tries fail; one success closes it.

    Attributes:
        failures: Failures since the last success.
    """

    def __init__(self) -> None:
        self.failures = 0
        self._open_until_us = 0
        self._pause_us = FIRST_PAUSE_US

    @property
    def is_open(self) -> bool:
        """Whether it has failed so often that only a try now and then is let through."""
        return self.failures >= FAILURES

    def allows(self, now_us: int) -> bool:
        """Whether the route may be asked now; a caller that is let through is the try."""
        if self.failures < FAILURES:
            return True
        if now_us < self._open_until_us:
            return False
        self._open_until_us = now_us + self._pause_us
        return True

    def succeeded(self) -> None:
        """The route answered in time."""
        if self.failures:
            self.failures = 0
            self._pause_us = FIRST_PAUSE_US

    def failed(self, now_us: int) -> None:
        """The route failed or was late."""
        self.failures += 1
        if self.failures >= FAILURES:
            self._open_until_us = now_us + self._pause_us
            self._pause_us = min(2 * self._pause_us, LONGEST_PAUSE_US)
