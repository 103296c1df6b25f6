"""Records as they were read, before anything is judged."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import polars as pl

from .columns import Faults

__all__ = ["Cells", "Parsed", "Texts"]

Texts = Callable[[Sequence[int]], list[str]]
"""Places of records in their batch -> the records as they came, each as one text."""


@dataclass(frozen=True, slots=True)
class Cells:
    """Records taken apart into cells, under the names and in the types they came with.

    Attributes:
        columns: The cells of each column, all of one length.
        height: Records read.
        faults: Reason to the records that could not be taken apart.
        texts: The records as they came.
    """

    columns: Mapping[str, pl.Series]
    height: int
    faults: Faults
    texts: Texts


@dataclass(frozen=True, slots=True)
class Parsed:
    """Records of one batch, each column in its declared type.

    Attributes:
        frame: The source's columns, null where a cell is empty or cannot be read; ``_row``
            (int64, the record's place in its batch, from 0) and ``_arrived_at`` (UTC, us).
        faults: Reason to the records with cells that cannot be read.
        texts: The records as they came.
    """

    frame: pl.DataFrame
    faults: Faults
    texts: Texts

    @property
    def read(self) -> int:
        """Records read."""
        return self.frame.height
