"""What every record shares: it is frozen, knows its kind and key, and says its schema's number."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import ClassVar

import msgspec

__all__ = ["Record", "to_plain"]


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


def to_plain(value: object) -> object:
    """Records and values as plain JSON values for readers: with every field, defaults too.

    Storage leaves defaults out; whoever reads an answer wants the same keys each time. What JSON
    has no word for, not-a-number and infinity, becomes null; what it does not know becomes text.
    """
    if isinstance(value, msgspec.Struct):
        tag = value.__struct_config__.tag
        head = {} if tag is None else {str(value.__struct_config__.tag_field): tag}
        return head | {name: to_plain(getattr(value, name)) for name in value.__struct_fields__}
    if isinstance(value, Mapping):
        return {str(key): to_plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [to_plain(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return msgspec.to_builtins(value, enc_hook=str)
