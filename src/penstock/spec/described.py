"""What is said of a feature beside what it means: for readers, never for the engine.

None of it is part of a fingerprint: a feature may be described, tagged or deprecated without
anything being computed again.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from datetime import date
from typing import TYPE_CHECKING, ClassVar, TypedDict, cast

from penstock.errors import nearest

from .base import Value, tag_faults

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

__all__ = ["Described", "Shown", "day_of", "deprecation_faults", "described_by", "instead_faults"]

DAY = re.compile(r"\d{4}-\d{2}-\d{2}")


class Described(Value, frozen=True, kw_only=True, omit_defaults=True):
    """What readers are told of a feature.

    Attributes:
        description: What it says about its entity.
        unit: Of its values, such as ``"USD"`` or ``"%"``.
        tags: Words to find and to protect it by, beside those of its view.
        owner: Who answers for it; whoever answers for its view when empty.
        deprecated: The day, as ``2027-01-31``, from which on nothing new may use it; what uses it
            by then goes on, with a warning. Empty while it is there to stay.
        instead: What to use in its place: a feature of the same view, or ``view.feature``.
    """

    SHOWN: ClassVar[tuple[str, ...]] = (
        "description", "unit", "tags", "owner", "deprecated", "instead",
    )  # fmt: skip

    description: str = ""
    unit: str = ""
    tags: Sequence[str] = ()
    owner: str = ""
    deprecated: str = ""
    instead: str = ""

    def _faults(self) -> Iterator[str]:
        yield from tag_faults(self.tags)
        yield from deprecation_faults(self.deprecated, self.instead)


class Shown(TypedDict, total=False):
    """What every feature takes besides what it means; see ``Described``."""

    description: str
    unit: str
    tags: Sequence[str]
    owner: str
    deprecated: str
    instead: str


def described_by(given: Mapping[str, object]) -> Shown:
    """Those of the arguments given that only say something to readers."""
    return cast("Shown", {name: given[name] for name in Described.SHOWN if name in given})


def day_of(deprecated: str) -> date | None:
    """The day that ``deprecated`` names; None where it is empty.

    Raises:
        ValueError: It names no day.
    """
    if not deprecated:
        return None
    if DAY.fullmatch(deprecated) is None:
        raise ValueError(deprecated)
    return date.fromisoformat(deprecated)


def deprecation_faults(deprecated: str, instead: str) -> Iterator[str]:
    """Yield what is wrong with the day of a deprecation and what it names instead."""
    try:
        day_of(deprecated)
    except ValueError:
        yield f"deprecated={deprecated!r} is no day; write it like '2027-01-31'"
    if instead and not deprecated:
        yield f"instead={instead!r} is given without deprecated; say from which day on"


def instead_faults(
    features: Sequence[Described], names: Sequence[str], known: Collection[str]
) -> Iterator[str]:
    """Yield each feature that names another of its own view that is not there.

    Args:
        features: The features of one view.
        names: Their names.
        known: Everything in the view that may be named instead.
    """
    for name, feature in zip(names, features, strict=True):
        other = feature.instead
        if other == name:
            yield f"feature {name!r} names itself as what to use instead"
        elif other and "." not in other and other not in known:
            rest = [one for one in known if one != name]
            yield f"feature {name!r}: instead={other!r} is not in this view. {nearest(other, rest)}"
