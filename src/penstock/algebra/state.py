"""What a state is: some 8-byte words with a zero, a way to lift values, and a merge."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import TypeAlias

import numpy as np

from .arrays import FloatArray, IntArray, Words

__all__ = ["NEVER_US", "Reducer", "State"]

NEVER_US = int(np.iinfo(np.int64).min)
"""The time of the newest value where there is none."""

Reducer: TypeAlias = Callable[[IntArray, IntArray], Words]
"""Merges the states ``[low, high)`` of each run, the zero state for an empty one."""


class State(ABC):
    """One kind of state: what it is with nothing, with one value, and how two become one.

    Attributes:
        zero: The words of the state that has seen no value.
        stacks: Whether ``reducer`` also takes words of two dimensions, a row for each of several
            states of this kind, and reduces each row as it would by itself.
    """

    zero: tuple[float, ...]
    stacks = False

    @property
    def width(self) -> int:
        """Number of 8-byte words."""
        return len(self.zero)

    @abstractmethod
    def events(self, values: FloatArray, times: IntArray) -> Reducer:
        """Prepare single values for merging runs of them.

        Args:
            values: The values by time, ties in the order of arrival; NaN for null.
            times: When each is known, int64 microseconds, ascending within every run.

        Returns:
            A function of ``low`` and ``high`` (int64, ``low <= high``; best ascending).
        """

    @abstractmethod
    def reducer(self, words: Words) -> Reducer:
        """Prepare states for merging runs of them.

        Args:
            words: States of ascending time; at least one.

        Returns:
            A function of ``low`` and ``high`` (int64, ``low <= high``; best ascending).
        """

    @abstractmethod
    def pairs(self, earlier: Words, later: Words) -> Words:
        """Merge states one by one.

        Args:
            earlier: The states of what arrived earlier.
            later: The states of what arrived later, of any time.
        """


class Lifted(State):
    """A state whose single values are states like any other."""

    @abstractmethod
    def lift(self, values: FloatArray, times: IntArray) -> Words:
        """The state of each single value; the zero state for NaN."""

    def events(self, values: FloatArray, times: IntArray) -> Reducer:
        return self.reducer(self.lift(values, times))
