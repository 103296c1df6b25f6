"""Death at a chosen write: what tests of crashes put around the ports of a process.

A real kill -9 comes where the clock has it, and mostly between the interesting places; this one
comes before or after each write in turn. That a write itself is whole or not at all is the port's
to promise, and its suite's to prove.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["KilledError", "Killer"]


class KilledError(BaseException):
    """Stands for kill -9: nothing of ours catches it."""


@dataclass
class Killer:
    """Ends the process before or after its n-th write.

    Attributes:
        at: Which write, from 1; 0 to count them and end nothing.
        after: Whether that write is done first.
        spared: Writes of records of these types do not count: those that a clock decides on.
        seen: How many writes there have been.
    """

    at: int
    after: bool = False
    spared: tuple[type, ...] = ()
    seen: int = 0

    def wrap(self, write: Callable[..., object]) -> Callable[..., object]:
        """The method of a port that writes, with the killer around it.

        Args:
            write: The method.

        Raises:
            KilledError: The process ends here.
        """

        def killing(*args: object, **options: object) -> object:
            if any(isinstance(getattr(one, "record", None), self.spared) for one in args):
                return write(*args, **options)
            self.seen += 1
            if self.seen == self.at and not self.after:
                raise KilledError
            result = write(*args, **options)
            if self.seen == self.at:
                raise KilledError
            return result

        return killing
