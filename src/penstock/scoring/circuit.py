"""The circuit of a version: one that fails or is late too often is not asked for a while."""

from __future__ import annotations

__all__ = ["Circuit"]

FAILURES = 5
WINDOW_US = 1_000_000
WINDOW_FAILURES = 10
WINDOW_SHARE = 0.25
FIRST_PAUSE_US = 500_000
LONGEST_PAUSE_US = 30_000_000
AGAIN_US = 60_000_000


class Circuit:
    """Opens after failures in a row, or where a quarter of what was asked lately failed.

    Once open it lets one request try after each pause, which doubles from half a second to half a
    minute while tries fail; one success closes it. A version whose try fails, or whose circuit
    opens twice within a minute, is no good: that is no stall of the machine, nor one bad row.

    Attributes:
        failures: Failures since the last success.
        is_open: Whether only a try now and then is let through.
        is_confirmed: Whether the version has failed again after its circuit opened.
    """

    def __init__(self) -> None:
        self.failures = 0
        self.is_open = False
        self.is_confirmed = False
        self._opened_us = self._open_until_us = 0
        self._pause_us = FIRST_PAUSE_US
        # Of the window that runs, and of the one before. Successes are counted without looking at
        # the clock: only failures ask what share they are of.
        self._since_us = self._good = self._bad = self._good_before = self._bad_before = 0

    def allows(self, now_us: int) -> bool:
        """Whether the route may be asked now; a caller that is let through is the try."""
        if not self.is_open:
            return True
        if now_us < self._open_until_us:
            return False
        self._open_until_us = now_us + self._pause_us
        return True

    def succeeded(self) -> None:
        """The route answered in time."""
        self._good += 1
        if self.failures:
            self.failures = 0
            if self.is_open:
                self._close()

    def failed(self, now_us: int) -> None:
        """The route failed or was late."""
        self.failures += 1
        self._roll(now_us)
        self._bad += 1
        if self.is_open:
            # Those that were under way when it opened are no tries, and fail together.
            if now_us - self._opened_us >= FIRST_PAUSE_US:
                self.is_confirmed = True
                self._pause_us = min(2 * self._pause_us, LONGEST_PAUSE_US)
                self._open_until_us = now_us + self._pause_us
        elif self.failures >= FAILURES or self._fails_often():
            self._open(now_us)

    def _open(self, now_us: int) -> None:
        again = self._opened_us > 0 and now_us - self._opened_us < AGAIN_US
        self.is_confirmed = self.is_confirmed or again
        self.is_open = True
        self._opened_us = now_us
        self._open_until_us = now_us + self._pause_us

    def _close(self) -> None:
        self.is_open = self.is_confirmed = False
        self._pause_us = FIRST_PAUSE_US
        self._good = self._bad = self._good_before = self._bad_before = 0

    def _fails_often(self) -> bool:
        bad = self._bad + self._bad_before
        asked = bad + self._good + self._good_before
        return bad >= WINDOW_FAILURES and bad >= WINDOW_SHARE * asked

    def _roll(self, now_us: int) -> None:
        """Begin another window where the one that runs is over."""
        over_us = now_us - self._since_us
        if over_us < WINDOW_US:
            return
        recent = over_us < 2 * WINDOW_US
        self._good_before, self._bad_before = (self._good, self._bad) if recent else (0, 0)
        self._good = self._bad = 0
        self._since_us = now_us
