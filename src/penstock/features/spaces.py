"""Where a view lies in the online store, and how far it has come."""

from __future__ import annotations

from typing import TYPE_CHECKING

from penstock.algebra import compile_view

from .partitions import built_marks, layout_of

if TYPE_CHECKING:
    from penstock.algebra import Program
    from penstock.ports import OnlineStore
    from penstock.spec import FeatureView

__all__ = ["built_to", "lock_of", "space_of", "space_of_program"]


def space_of(view: FeatureView) -> str:
    """The online store's space for a view: its name and the fingerprint of what it means.

    A changed view has another space, so building it leaves the readers of the old one alone.
    """
    return space_of_program(compile_view(view))


def space_of_program(program: Program) -> str:
    """``space_of`` for a view that is compiled already."""
    return f"{program.view.name}@{program.fingerprint.hex()}"


def built_to(online: OnlineStore, space: str) -> int | None:
    """Number of the last raw batch that all of a view's partitions contain.

    Args:
        online: The online store.
        space: What ``space_of`` gives for the view.

    Returns:
        The number; None while a partition has not been built to the end.
    """
    layout = layout_of(online, space)
    while (marks := built_marks(online, space, layout.partitions)) is None:
        # What was left may have been dropped between the two looks.
        before, layout = layout, layout_of(online, space)
        if layout.partitions == before.partitions:
            return None
    return min(marks)


def lock_of(space: str, slot: int) -> str:
    """The lock that whoever writes a partition holds.

    Args:
        space: What ``space_of`` gives for the view.
        slot: Number of the partition, from 0, however many there are.
    """
    return f"online/{space}/{slot}"
