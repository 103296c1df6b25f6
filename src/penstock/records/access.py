"""Who may read what is protected, and who was refused."""

from __future__ import annotations

from datetime import datetime
from typing import ClassVar, Literal, TypeAlias

from .base import Record

__all__ = ["Denial", "Grant", "GrantKind"]

GrantKind: TypeAlias = Literal["tag", "view"]


class Grant(Record, frozen=True):
    """Somebody may read what a tag or a view protects.

    Attributes:
        user: Who; the name of an identity.
        what: ``tag``: the features protected by that tag, wherever they are. ``view``: the features
            of that view, whatever protects them or what they are computed from.
        name: The tag, or the view.
        granted_by: Who granted it.
        granted_at: When.
    """

    KIND: ClassVar[str] = "grant"
    INDEXED: ClassVar[tuple[str, ...]] = ("user",)

    user: str
    what: GrantKind
    name: str
    granted_by: str
    granted_at: datetime

    @property
    def key(self) -> str:
        """``user/what/name``; a user's name has no slash."""
        return f"{self.user}/{self.what}/{self.name}"


class Denial(Record, frozen=True):
    """Somebody was refused; kept so that the audit table is told of it once in a while only.

    Attributes:
        user: Who.
        subject: What they asked for, such as ``feature_service/scoring``.
        told_at: When the audit table was told last.
    """

    KIND: ClassVar[str] = "denial"
    INDEXED: ClassVar[tuple[str, ...]] = ("user",)

    user: str
    subject: str
    told_at: datetime

    @property
    def key(self) -> str:
        """``user/subject``."""
        return f"{self.user}/{self.subject}"
