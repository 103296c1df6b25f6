"""What is told beside an answer: warnings that its rows may not be what was meant."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Generic, NamedTuple, TypeVar

from penstock.errors import (
    InputError,
    PenstockWarning,
    StaleError,
    StaleWarning,
    UnknownEntitiesWarning,
)

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from penstock.features import UnknownEntities

__all__ = ["Told", "check_stale", "refuse", "stale_views", "unknown_online", "unknown_past", "warn"]

T = TypeVar("T")
CALLER = 3


class Told(NamedTuple, Generic[T]):
    """An answer and what is to be said of it.

    Attributes:
        features: The answer.
        notes: What to warn of, in order.
    """

    features: T
    notes: tuple[PenstockWarning, ...] = ()


def warn(notes: tuple[PenstockWarning, ...]) -> None:
    """Warn at the line that called the public method which calls this."""
    for note in notes:
        warnings.warn(note, stacklevel=CALLER)


def check_stale(stale: str) -> None:
    """See that a caller says what to do with stale features.

    Raises:
        InputError: It is another word.
    """
    if stale not in {"serve", "refuse"}:
        raise InputError(f"stale={stale!r} says nothing. Give 'serve' or 'refuse'.", stale=stale)


def refuse(notes: tuple[PenstockWarning, ...]) -> None:
    """Refuse features that are stale.

    Raises:
        StaleError: A view is; of several the one that ran out first.
    """
    for note in notes:
        if isinstance(note, StaleWarning):
            raise StaleError(note.message, **note.facts)


def stale_views(until: Mapping[str, datetime]) -> tuple[StaleWarning, ...]:
    """The warning of each view that is stale; the one that ran out first at first.

    It says since when, and not how old they are: the text stays the same while nothing comes in,
    and Python shows it once.

    Args:
        until: Until when each was fresh, by its name.
    """
    return tuple(
        StaleWarning(
            f"The online features of view {view!r} are stale: its freshness allowed them until "
            f"{end.isoformat()}. Run 'penstock features build {view}' where newer batches wait, "
            "else ingest, or see that 'penstock stream' runs and that events come in.",
            view=view,
            fresh_until=end,
        )
        for view, end in sorted(until.items(), key=lambda one: (one[1], one[0]))
    )


def unknown_past(found: UnknownEntities) -> UnknownEntitiesWarning:
    """The warning of a spine with entities that a view's source has no records of."""
    return UnknownEntitiesWarning(
        f"{found.sentence}.",
        view=found.view,
        source=found.source,
        rows=found.rows,
        of_rows=found.of_rows,
        entities=found.entities,
    )


def unknown_online(service: str, rows: int, of_rows: int) -> tuple[UnknownEntitiesWarning, ...]:
    """The warning of rows whose entities the online store does not know, where there are any.

    It names no key: Python keeps each text that it has shown at a line, and keys are many.

    Args:
        service: The feature service.
        rows: How many rows are of such entities.
        of_rows: How many were asked for.
    """
    if not rows:
        return ()
    note = UnknownEntitiesWarning(
        f"{rows:,} of {of_rows:,} rows are of entities that the online store has nothing of: their "
        f"features of {service!r} are those of an unknown entity.",
        service=service,
        rows=rows,
        of_rows=of_rows,
    )
    return (note,)
