"""What a worker process does for features: one part of a computation.

Plain JSON values and paths in, files out.
"""

from __future__ import annotations

from pathlib import Path

import msgspec

from penstock.algebra import compile_view, in_turn
from penstock.spec import FeatureView

from .part_values import compute_part
from .parts import load_part, load_tombstones, save_values

__all__ = ["compute"]


def compute(*, view: object, as_known: bool, columns_at_once: int, folder: str, place: int) -> None:
    """Compute a part and keep its values; see ``Parts``.

    Args:
        view: The feature view, as plain values.
        as_known: Whether only what had arrived by a point's time counts.
        columns_at_once: Columns of newest values that are read at once.
        folder: Where the computation's files are.
        place: Which part.

    Raises:
        UserCodeError: A function of the user failed.
    """
    declared = msgspec.convert(view, FeatureView)
    records, wanted, part = load_part(Path(folder), place)
    tombstones = load_tombstones(Path(folder), declared)
    # One thread: there are as many workers as cores are to be used.
    found = compute_part(
        compile_view(declared),
        records,
        wanted,
        part,
        tombstones,
        as_known=as_known,
        at_once=columns_at_once,
        each=in_turn,
    )
    save_values(Path(folder), place, found)
