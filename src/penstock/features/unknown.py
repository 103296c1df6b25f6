"""Rows of a spine whose entity no record names."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
import numpy as np

if TYPE_CHECKING:
    import polars as pl

    from penstock.algebra import BoolArray, IntArray
    from penstock.spec import FeatureView

__all__ = ["UnknownEntities", "unknown_in"]

SHOWN = 3


class UnknownEntities(msgspec.Struct, frozen=True, kw_only=True):
    """Entities that a spine names and a view's source has no records of.

    Only records count that the features could come from: those until the spine's last time and,
    where every feature has a window, not before the first window.

    Attributes:
        view: The view.
        source: Where its records come from.
        rows: How many rows of the spine are of such entities, or of none (a null key).
        of_rows: How many rows the spine has.
        entities: How many such entities.
        examples: The first of them in their order.
    """

    view: str
    source: str
    rows: int
    of_rows: int
    entities: int
    examples: tuple[str | int, ...]

    @property
    def sentence(self) -> str:
        """The finding in words."""
        rows = f"{self.rows:,} of {self.of_rows:,} rows"
        if not self.entities:
            return f"{rows} have no key: their features of view {self.view!r} are of nothing"
        names = ", ".join(repr(name) for name in self.examples)
        more = f" and {self.entities - SHOWN:,} more" if self.entities > SHOWN else ""
        return (
            f"{rows} are of entities that {self.source!r} has no records of by then "
            f"({names}{more}): their features of view {self.view!r} are those of an unknown entity"
        )


def unknown_in(
    view: FeatureView, known: pl.Series, codes: IntArray, met: BoolArray
) -> UnknownEntities | None:
    """What a spine names and no record does; none where there is nothing of it.

    Args:
        view: The view.
        known: The spine's distinct keys, sorted.
        codes: The place of each row's key among them, -1 for null.
        met: Whether each key is that of a record.
    """
    # A null key is looked up at the last place, which stands for it.
    rows = int(np.count_nonzero(~np.append(met, False)[codes]))
    if not rows:
        return None
    names = known.filter(~met)
    return UnknownEntities(
        view=view.name,
        source=view.source.name,
        rows=rows,
        of_rows=len(codes),
        entities=len(names),
        examples=tuple(names.head(SHOWN).to_list()),
    )
