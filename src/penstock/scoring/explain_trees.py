"""Contributions to the sum of a forest, exactly: every leaf shares out its own value.

A leaf asks each feature on its way for one range. Beside a row of the background, it counts for a
set of features taken from the explained row when these have all that the background row lacks, so
its share in each Shapley value is a quotient of factorials.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from penstock.deployment import MISSING_RIGHT
from penstock.errors import NotSupportedError

if TYPE_CHECKING:
    from penstock.deployment import Forest

__all__ = ["ForestExplainer"]

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Masks = NDArray[np.uint64]

MOST_ASKED = 62
MOST_LEAVES = 400_000
MOST_PAIRS = 1 << 23  # of a leaf and a row of the background: 64 MiB of masks
FEATURE = np.int32(2**31 - 1)


class _Paths:
    """What leads to each leaf: a range for every feature that was asked on the way.

    Args:
        roots: The nodes to begin at.

    Attributes:
        node: ``[leaves]``, the node that each path has come to.
        feature: ``[leaves, most]``, the features asked; -1 where there are fewer.
        low: The same for what the value has to be above; NaN for nothing.
        high: The same for what it may not be above.
        missing: The same for whether a missing value goes this way.
    """

    def __init__(self, roots: Ints) -> None:
        self.node = roots
        self.feature = np.full((len(roots), 0), -1, dtype=np.int64)
        self.low = np.zeros((len(roots), 0))
        self.high = np.zeros((len(roots), 0))
        self.missing = np.zeros((len(roots), 0), dtype=bool)

    def take(self, rows: NDArray[np.bool_]) -> _Paths:
        """A copy of some of them."""
        taken = _Paths(self.node[rows])
        taken.feature, taken.low = self.feature[rows], self.low[rows]
        taken.high, taken.missing = self.high[rows], self.missing[rows]
        return taken

    def widen(self, width: int) -> None:
        """Have room for so many features on each path."""
        more = ((0, 0), (0, width - self.feature.shape[1]))
        self.feature = np.pad(self.feature, more, constant_values=-1)
        self.low = np.pad(self.low, more, constant_values=np.nan)
        self.high = np.pad(self.high, more, constant_values=np.inf)
        self.missing = np.pad(self.missing, more, constant_values=True)

    def ask(self, forest: Forest, *, yes: bool) -> None:
        """Go on from every node, all to the side of yes or all to that of no."""
        packed = forest.feature[self.node]
        asked, right = (packed & FEATURE).astype(np.int64), (packed & MISSING_RIGHT) != 0
        threshold = forest.threshold[self.node]
        known = self.feature == asked[:, None]
        used = (self.feature >= 0).sum(axis=1)
        place = np.where(known.any(axis=1), known.argmax(axis=1), used)
        row = np.arange(len(place))
        self.feature[row, place] = asked
        if yes:
            self.high[row, place] = np.minimum(self.high[row, place], threshold)
        else:
            self.low[row, place] = np.fmax(self.low[row, place], threshold)
        self.missing[row, place] &= right != yes
        self.node = forest.left[self.node].astype(np.int64) + (0 if yes else 1)


def _all_paths(forest: Forest) -> _Paths:
    """The paths to all leaves, found level by level."""
    front = _Paths(forest.roots.astype(np.int64))
    done: list[_Paths] = []
    for _ in range(MOST_ASKED):
        is_leaf = forest.left[front.node] == front.node
        done.append(front.take(is_leaf))
        front = front.take(~is_leaf)
        if not len(front.node):
            return _joined(done)
        # A level asks for one feature more at most, and most paths ask for one again.
        used = int((front.feature >= 0).sum(axis=1).max(initial=0))
        front.widen(max(front.feature.shape[1], used + 1))
        no = front.take(np.ones(len(front.node), dtype=bool))
        front.ask(forest, yes=True)
        no.ask(forest, yes=False)
        front = _joined([front, no])
    raise NotSupportedError(f"its trees are deeper than {MOST_ASKED} levels")


def _joined(parts: list[_Paths]) -> _Paths:
    width = max(part.feature.shape[1] for part in parts)
    for part in parts:
        part.widen(width)
    whole = _Paths(np.concatenate([part.node for part in parts]))
    whole.feature = np.concatenate([part.feature for part in parts])
    whole.low = np.concatenate([part.low for part in parts])
    whole.high = np.concatenate([part.high for part in parts])
    whole.missing = np.concatenate([part.missing for part in parts])
    return whole


class ForestExplainer:
    """Explains rows beside a background: exact Shapley values of the forest's sum.

    The value of a set of features is the mean of the sums of the background's rows, with these
    features taken from the explained row.

    Args:
        forest: The trees.
        background: ``float64[m, features]``, NaN for null.

    Attributes:
        base: Mean of the background's sums.

    Raises:
        NotSupportedError: The trees are too deep or too many.
    """

    def __init__(self, forest: Forest, background: Floats) -> None:
        leaves = int((forest.left == np.arange(len(forest.left))).sum())
        if leaves > MOST_LEAVES:
            raise NotSupportedError(f"it has {leaves:,} leaves, more than {MOST_LEAVES:,}")
        self._forest = forest
        self._paths = _all_paths(forest)
        self._value = forest.value[self._paths.node] * forest.slope
        self._constant = forest.base * forest.slope
        full = np.zeros(len(self._value), dtype=np.uint64)
        for place in range(self._paths.feature.shape[1]):
            asked = (self._paths.feature[:, place] >= 0).astype(np.uint64)
            full |= asked << np.uint64(place)
        self._full = full
        self._shares = _shares(self._paths.feature.shape[1])
        self._masks = self._met(background[: max(1, MOST_PAIRS // len(full))])
        self.base = float((self._masks == full).astype(np.float64).dot(self._value).mean())
        self.base += self._constant

    @property
    def background_rows(self) -> int:
        """How many rows of the background count."""
        return len(self._masks)

    def output(self, x: Floats) -> Floats:
        """The sum of each row.

        Args:
            x: ``float64[n, features]``.
        """
        sums = [(self._met(row[None, :])[0] == self._full).dot(self._value) for row in x]
        return np.array(sums, dtype=np.float64) + self._constant

    def contributions(self, x: Floats) -> tuple[Floats, Floats]:
        """What each feature of one row adds to the base, and the error of that, which is 0.

        Args:
            x: ``float64[features]``.
        """
        mine = self._met(x[None, :])[0]
        found = np.zeros(self._forest.width)
        for others in self._masks:
            alive = np.flatnonzero((mine | others) == self._full)
            here, there = mine[alive] & ~others[alive], others[alive] & ~mine[alive]
            self._share_out(alive, here, there, found)
        return found / len(self._masks), np.zeros(len(found))

    def _share_out(self, leaves: Ints, here: Masks, there: Masks, found: Floats) -> None:
        """Add the shares of the leaves that some set of features leads to.

        Args:
            leaves: Their places.
            here: Features that only the explained row has right for the leaf.
            there: Those that only the row of the background has right.
            found: What to add to.
        """
        many, less = np.bitwise_count(here), np.bitwise_count(there)
        value = self._value[leaves]
        gain, loss = value * self._shares[many, less], value * self._shares[less, many]
        for place in range(self._paths.feature.shape[1]):
            bit = np.uint64(1 << place)
            share = np.where(here & bit, gain, 0.0) - np.where(there & bit, loss, 0.0)
            feature = np.maximum(self._paths.feature[leaves, place], 0)
            found += np.bincount(feature, weights=share, minlength=len(found))

    def _met(self, x: Floats) -> Masks:
        """For each row and leaf, which of the leaf's ranges the row's values lie in, as bits."""
        prepared = self._prepared(x)
        paths = self._paths
        masks = np.zeros((len(x), len(self._full)), dtype=np.uint64)
        for place in range(paths.feature.shape[1]):
            feature = paths.feature[:, place]
            value = prepared[:, np.maximum(feature, 0)]
            # Written so that NaN as lower bound lets everything pass.
            inside = (value <= paths.high[:, place]) & ~(value <= paths.low[:, place])
            inside |= np.isnan(value) & paths.missing[:, place]
            masks |= (inside & (feature >= 0)).astype(np.uint64) << np.uint64(place)
        return masks

    def _prepared(self, x: Floats) -> Floats:
        """The values as the trees compare them."""
        forest = self._forest
        filled = np.where(np.isnan(x), forest.fill, x)
        scaled = (filled - forest.mean) / forest.scale
        if not forest.rounded:
            return scaled
        with np.errstate(over="ignore"):  # beyond float32 it is infinite, as for the model
            return scaled.astype(np.float32).astype(np.float64)


def _shares(most: int) -> Floats:
    """Share of each of ``i`` features that have to be there, while ``j`` may not: ``[i, j]``."""
    table = np.zeros((most + 1, most + 1))
    for many in range(1, most + 1):
        for less in range(most + 1 - many):
            table[many, less] = 1.0 / (many * math.comb(many + less, many))
    return table
