"""Online store: the newest feature state of each entity, read in microseconds."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

from penstock.errors import ConflictError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

__all__ = ["Changes", "Found", "OnlineStore", "Some", "claimed", "passed"]

Changes: TypeAlias = Mapping[bytes, bytes | None]
"""New values by key; None for one that is removed, also where it was not there."""


class Found(NamedTuple):
    """What is in one space.

    Attributes:
        progress: Number of the last raw batch folded in; None when the space was never written.
        values: The values of the keys asked for, in their order; None for a missing one.
    """

    progress: int | None
    values: list[bytes | None]


class Some(NamedTuple):
    """Some of what a space holds.

    Attributes:
        items: Keys and values; one may be there twice.
        after: Where to go on; empty where this was the rest.
    """

    items: list[tuple[bytes, bytes]]
    after: bytes


class OnlineStore(ABC):
    """Keeps one packed value per (space, entity key). A space is one partition of one view.

    Atomic: ``write`` stores all values and the space's progress together, or nothing; a reader sees
        one or the other. Durable against kill -9 of any process (a power cut may lose the newest
        writes, never their order; the progress tells where to go on). One process writes a space at
        a time (its lock is the caller's matter), and ``claim`` fences off whoever was late to
        notice that it is another's turn; any number reads, in any thread. A missing key reads as
        None. A full or damaged store raises ``StateError``.
    """

    @abstractmethod
    def get(self, space: str, keys: Sequence[bytes]) -> list[bytes | None]:
        """The values of the keys, in their order, as of one moment."""

    @abstractmethod
    def look(self, asks: Sequence[tuple[str, Sequence[bytes]]]) -> list[Found]:
        """The values of keys in several spaces and each space's progress, all as of one moment.

        Args:
            asks: Spaces, and the keys wanted of each.
        """

    @abstractmethod
    def claim(self, space: str, token: int, *, anew: bool = False) -> int | None:
        """Become the one who writes a space: whoever claimed it before can write nothing more.

        Args:
            space: The space.
            token: A positive int64, greater than those of all who had the right to write before.
            anew: Also remove the space's values and progress, in the same transaction.

        Returns:
            The space's progress.

        Raises:
            ConflictError: Somebody with a greater token has claimed it; nothing was done.
        """

    @abstractmethod
    def write(
        self, space: str, values: Changes, *, progress: int, token: int | None = None
    ) -> None:
        """Store values and how far the space has come: the last raw batch they contain.

        While a space is built from nothing the number is negative and rises.

        Args:
            space: The space.
            values: Values by key, None to remove one; those of other keys stay.
            progress: An int64 greater than the space's progress and than the least int64.
            token: What the space was claimed with; where it is left out, nobody is fenced off.

        Raises:
            ConflictError: The space's progress is at or past that number, or its last claim is not
                that token: another has claimed it, or it was dropped. Nothing was stored.
        """

    @abstractmethod
    def progress(self, space: str) -> int | None:
        """Number of the last raw batch folded in; None when the space was never written."""

    @abstractmethod
    def items(self, space: str) -> Iterator[tuple[bytes, bytes]]:
        """Every key and value of a space, as of one moment, by key."""

    @abstractmethod
    def some(self, space: str, after: bytes, size: int) -> Some:
        """About so many keys and values of a space, in an order of the store's own.

        Called again with what it says until that is empty, it gives every key that was there all
        the while; whoever keeps that beyond a restart of the store may miss some.

        Args:
            space: The space.
            after: What the call before said; empty to begin.
            size: How many, at least 1; a small space may come as a whole.
        """

    @abstractmethod
    def spaces(self) -> list[str]:
        """Names of the spaces, sorted."""

    @abstractmethod
    def drop(self, space: str, *, token: int | None = None) -> None:
        """Remove a space and its claim; nothing happens when it is not there.

        Args:
            space: The space.
            token: As for ``write``.

        Raises:
            ConflictError: The space's last claim is not that token; nothing was done.
        """

    @abstractmethod
    def close(self) -> None:
        """Let go of the store; the object is not used afterwards."""


def claimed(space: str, token: int, ours: int) -> ConflictError:
    """The error of a write or a claim that comes too late: another may write the space now."""
    message = (
        f"The online space {space!r} is another's to write now: its last claim is {token}, ours "
        f"is {ours}. Nothing was stored; take the right to write it again and go on from its "
        "progress."
    )
    return ConflictError(message, space=space, token=token, ours=ours)


def passed(space: str, reached: int, number: int) -> ConflictError:
    """The error of a write of a batch that is in already."""
    message = (
        f"The online space {space!r} holds batch {reached} already; batch {number} comes too late. "
        "Read its progress and go on from there."
    )
    return ConflictError(message, space=space, progress=reached, number=number)
