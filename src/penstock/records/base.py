"""What every record shares: it is frozen, knows its kind and key, and says its schema's number."""

from __future__ import annotations

from typing import ClassVar

import msgspec

__all__ = ["Record"]


class Record(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Something the platform remembers, stored as JSON under its kind and key.

    Attributes:
        KIND: Name of the kind in storage; never changes once released.
        SCHEMA: Number of the fields' layout. A reader refuses a greater one; fields are only added,
            with defaults.
        INDEXED: Fields that can be searched by; their values are texts or whole numbers.
    """

    KIND: ClassVar[str]
    SCHEMA: ClassVar[int] = 1
    INDEXED: ClassVar[tuple[str, ...]] = ()

    @property
    def key(self) -> str:
        """What identifies the record among its kind."""
        raise NotImplementedError
