"""Online store: the newest feature state of each entity, read in microseconds."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

__all__ = ["OnlineStore"]


class OnlineStore(ABC):
    """Keeps one packed value per (space, entity key). A space is one version of one view.

    Atomic: ``write`` stores all values and the space's progress together, or nothing; a reader sees
        one or the other. Durable against kill -9 of any process (a power cut may lose the newest
        writes, never their order; the progress tells where to go on). One process writes a space at
        a time (its lock is the caller's matter); any number reads, in any thread. A missing key
        reads as None. A full or damaged store raises ``StateError``.
    """

    @abstractmethod
    def get(self, space: str, keys: Sequence[bytes]) -> list[bytes | None]:
        """The values of the keys, in their order, as of one moment."""

    @abstractmethod
    def write(self, space: str, values: Mapping[bytes, bytes], *, progress: int) -> None:
        """Store values and how far the space has come: the last raw batch they contain.

        While a space is built from nothing the number is negative and rises; it may be any int64.

        Raises:
            ConflictError: The space's progress is at or past that number; nothing was stored.
        """

    @abstractmethod
    def progress(self, space: str) -> int | None:
        """Number of the last raw batch folded in; None when the space was never written."""

    @abstractmethod
    def items(self, space: str) -> Iterator[tuple[bytes, bytes]]:
        """Every key and value of a space, as of one moment, by key."""

    @abstractmethod
    def spaces(self) -> list[str]:
        """Names of the spaces, sorted."""

    @abstractmethod
    def drop(self, space: str) -> None:
        """Remove a space; nothing happens when it is not there."""

    @abstractmethod
    def close(self) -> None:
        """Let go of the store; the object is not used afterwards."""
