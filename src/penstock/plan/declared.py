"""The declarations of a project as values that are built when somebody asks for them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from penstock.spec import from_document

if TYPE_CHECKING:
    from collections.abc import Iterable

    from penstock.records import AppliedDeclaration
    from penstock.spec import Declaration

__all__ = ["Applied"]


class Applied(Mapping[str, "Declaration"]):
    """What has been applied, by key, each after what it refers to.

    A project of thousands of models is asked for one of them most of the time: building that one
    and what it refers to takes a thousandth of building all.

    Args:
        records: What is stored.
        classes: The class of each kind.
    """

    def __init__(
        self, records: Iterable[AppliedDeclaration], classes: Mapping[str, type[Declaration]]
    ) -> None:
        self._records = {one.key: one for one in sorted(records, key=lambda one: one.position)}
        self._classes = classes
        self._built: dict[str, Declaration] = {}

    def __getitem__(self, key: str) -> Declaration:
        """The declaration of that key.

        Raises:
            StateError: Its document cannot be read, or what it refers to is gone.
        """
        found = self._built.get(key)
        if found is None:
            record = self._records[key]
            built = from_document(self._classes[record.declared_kind], record.document, self)
            found = self._built.setdefault(key, built)  # of two threads, the first has built it
        return found

    def __iter__(self) -> Iterator[str]:
        """The keys, in order."""
        return iter(self._records)

    def __len__(self) -> int:
        """How many there are."""
        return len(self._records)

    def __contains__(self, key: object) -> bool:
        """Whether there is one of that key; nothing is built."""
        return key in self._records

    def refers(self, key: str, field: str) -> str:
        """The key of what a declaration refers to in a field; empty for none. Nothing is built."""
        told = self._records[key].document.get(field)
        return str(told.get("ref", "")) if isinstance(told, Mapping) else ""
