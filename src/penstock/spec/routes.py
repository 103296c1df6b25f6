"""Routes of a deployment: who answers which requests, and what answers when nobody does in time."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from penstock.errors import nearest

from .base import Value
from .durations import duration_us

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["ALIASES", "Fallback", "Route", "challenger", "champion", "shadow"]

ALIASES = ("champion", "challenger", "previous", "candidate")
"""The registry's aliases: each points to one version of a model, or to none."""


class Route(Value, frozen=True, omit_defaults=True):
    """A share of the traffic, and who answers it.

    Attributes:
        role: ``champion`` takes what others leave; ``challenger`` takes ``share`` of the entities;
            ``shadow`` scores everything, after the answer, and answers nothing.
        alias: The registry's alias whose version serves; empty where ``version`` names one.
        share: Share of the entities, by hash of their key: the same entity always meets the same
            route.
        version: The version that serves, whatever the alias points to; 0 to follow the alias.
    """

    LATER: ClassVar[tuple[str, ...]] = ("version",)

    role: Literal["champion", "challenger", "shadow"]
    alias: str
    share: float = 0.0
    version: int = 0

    @property
    def target(self) -> str:
        """Whom it leads to, in a word: the alias, or ``@3`` for a version."""
        return self.alias or f"@{self.version}"

    def _faults(self) -> Iterator[str]:
        if self.role == "challenger" and not 0 < self.share < 1:
            yield f"challenger's share={self.share} is not between 0 and 1"
        if self.version < 0 or not (self.alias or self.version):
            yield f"{self.role} leads to no version; give alias='candidate', or version=3"
        if self.alias and self.alias not in ALIASES:
            yield f"there is no alias {self.alias!r}. {nearest(self.alias, ALIASES)}"


class Fallback(Value, frozen=True, omit_defaults=True):
    """What answers when a route is late or fails.

    Attributes:
        deadline: Longest wait for the route, such as ``"20ms"``.
        to: ``previous`` answers with the version before the champion, ``constant`` with ``value``.
            Where there is no previous version, or it is late too, ``value`` answers.
        value: The constant; none makes the request fail with 503.
    """

    deadline: str
    to: Literal["previous", "constant"] = "previous"
    value: float | None = None

    @property
    def deadline_us(self) -> int:
        """Longest wait in microseconds."""
        return duration_us(self.deadline)

    def _faults(self) -> Iterator[str]:
        try:
            duration_us(self.deadline)
        except ValueError as error:
            yield f"deadline: {error}"
        if self.to not in {"previous", "constant"}:
            yield f"to={self.to!r}; give 'previous' or 'constant'"
        if self.to == "constant" and self.value is None:
            yield "to='constant' needs a value"


def champion() -> Route:
    """The version that the alias ``champion`` points to."""
    return Route(role="champion", alias="champion")


def challenger(*, share: float, alias: str = "", version: int = 0) -> Route:
    """A version for a share of the entities.

    Args:
        share: Of the entities, between 0 and 1.
        alias: The alias whose version it is; ``challenger`` when no version is named either.
        version: The version, by its number.
    """
    named = alias or ("" if version else "challenger")
    return Route(role="challenger", alias=named, share=share, version=version)


def shadow(alias: str = "", *, version: int = 0) -> Route:
    """A version that scores everything and answers nothing.

    Args:
        alias: The alias whose version it is.
        version: The version, by its number, where no alias is named.
    """
    return Route(role="shadow", alias=alias, version=version)
