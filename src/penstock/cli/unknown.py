"""Words for keys that nothing is known of: most of them are written wrong."""

from __future__ import annotations

from typing import TYPE_CHECKING

from penstock.algebra import compile_view, may_leave
from penstock.features import OnlineReader

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from penstock.ports import OnlineStore
    from penstock.spec import FeatureView

__all__ = ["unknown_notes"]


def unknown_notes(
    online: OnlineStore,
    views: Iterable[FeatureView],
    keys: Mapping[str, Sequence[str | int]],
    *,
    what: str,
) -> Iterator[str]:
    """A note for each view whose online features know nothing of some of the entities.

    Args:
        online: The online store.
        views: The views.
        keys: The keys of each entity by its name.
        what: What was made without them, such as ``"this is the score"``.
    """
    for view in views:
        entity = view.source.entity.name
        known = OnlineReader(online, [view]).knows(keys[entity])
        unknown = [key for key, there in zip(keys[entity], known, strict=True) if not there]
        if unknown:
            leaves = may_leave(compile_view(view))
            yet = "yet, or none that a window still reaches" if leaves else "yet"
            yield (
                f"No record of {', '.join(map(repr, unknown))} has come to {view.name!r} {yet}: "
                f"{what} of an unknown {entity}."
            )
