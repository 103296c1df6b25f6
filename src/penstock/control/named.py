"""One of what belongs to deployments, by a name that people write."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, TypeVar

from penstock.errors import ConflictError, NotFoundError

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["one_called"]


class Called(Protocol):
    """What has a name of its own, and a key that says the deployment too."""

    @property
    def name(self) -> str:
        """Its name."""
        ...

    @property
    def key(self) -> str:
        """``deployment/name``."""
        ...


C = TypeVar("C", bound=Called)


def one_called(found: Sequence[C], name: str, *, what: str, hint: str) -> C:
    """The one of that name.

    Args:
        found: All there are.
        name: A name, or ``deployment/name`` where several deployments have one of that name.
        what: What they are, in a word.
        hint: Where to look when there is none.

    Raises:
        NotFoundError: There is none.
        ConflictError: There are several.
    """
    fitting = [one for one in found if name in {one.name, one.key}]
    if not fitting:
        raise NotFoundError.of(what, name, [one.name for one in found], hint=hint)
    if len(fitting) > 1:
        keys = ", ".join(one.key for one in fitting)
        raise ConflictError(f"Several deployments have the {what} {name!r}; name one of {keys}.")
    return fitting[0]
