"""What the online store can say of a past time: nothing from before an entity's newest record.

It keeps each entity's newest state. At a time before the newest record in it that state has seen
what was to come, and no part of it can be taken back: such a read is refused. So it is of an entity
that it has nothing of, before the horizon from which on nothing is all there is to say.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import numpy as np

from penstock.errors import InputError

if TYPE_CHECKING:
    from penstock.algebra import IntArray

__all__ = ["check_past", "past_error"]

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
FROM_TABLES = "'features' of the Python client and 'penstock features get --at' do that"


def past_error(asked_us: int, newest_us: int, instead: str) -> InputError:
    """The error of a read as of a time that the online store cannot tell of.

    Args:
        asked_us: The time asked for, in microseconds since 1970 UTC.
        newest_us: The time from which on it can tell, that of the entity's newest record or later.
        instead: What computes the past from the tables, as a sentence without its end.
    """
    return InputError(
        f"The online store knows this entity as of {_text(newest_us)}, its newest record or its "
        f"view's horizon, and later; at {_text(asked_us)} that was the future. Leave 'at' out for "
        f"now, or have the past computed from the tables: {instead}.",
        asked_us=asked_us,
        newest_us=newest_us,
    )


def check_past(
    asked_us: int | IntArray, as_of_us: IntArray, now_us: int, instead: str = FROM_TABLES
) -> None:
    """Refuse what was read of entities as of a time before their newest record.

    Args:
        asked_us: The time asked for, in microseconds since 1970 UTC; one for all or one each.
        as_of_us: The time that each row's values are of.
        now_us: What was asked for where no time was named: the newest values, whatever their time.
        instead: What computes the past, as ``past_error`` takes it.

    Raises:
        InputError: A row is of a later time than the one asked for; says which.
    """
    if isinstance(asked_us, int) and asked_us == now_us:
        return
    asked = np.broadcast_to(np.asarray(asked_us, dtype=np.int64), as_of_us.shape)
    early = np.flatnonzero((asked < as_of_us) & (asked != now_us))
    if not len(early):
        return
    place = int(early[0])
    error = past_error(int(asked[place]), int(as_of_us[place]), instead)
    if len(as_of_us) == 1:
        raise error
    raise InputError(f"rows[{place}]: {error.message}", **error.facts, row=place)


def _text(at_us: int) -> str:
    text = (EPOCH + timedelta(microseconds=at_us)).isoformat()
    return f"{text.removesuffix('+00:00')}Z"
