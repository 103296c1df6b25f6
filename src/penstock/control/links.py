"""The tree of origins: small values that can be shown, compared and sent."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Literal, TypeAlias

import msgspec

__all__ = ["Lineage", "Link", "LinkKind"]

LinkKind: TypeAlias = Literal[
    "score", "scores", "features", "version", "run", "code", "dataset", "table", "batch", "file",
    "messages", "deletion", "online features", "role", "source", "looked up", "looked up by",
]  # fmt: skip


class Link(msgspec.Struct, frozen=True, kw_only=True):
    """Something, and what it comes from or leads to.

    Attributes:
        kind: What it is.
        id: Its id among its kind.
        detail: What else is known of it, as plain JSON values.
        links: The next ones in the same direction.
    """

    kind: LinkKind
    id: str
    detail: Mapping[str, object] = {}
    links: tuple[Link, ...] = ()


class Lineage(msgspec.Struct, frozen=True, kw_only=True):
    """Where something comes from, and what was made of it.

    Attributes:
        kind: What it is.
        id: Its id.
        detail: What else is known of it, as plain JSON values.
        comes_from: Its origins, down to batches, files and code.
        leads_to: What was derived from it.
    """

    kind: LinkKind
    id: str
    detail: Mapping[str, object] = {}
    comes_from: tuple[Link, ...] = ()
    leads_to: tuple[Link, ...] = ()

    def find(self, kind: LinkKind) -> list[Link]:
        """Every link of a kind in both directions, each id once, in the order of the tree."""
        found = [link for link in _walk((*self.comes_from, *self.leads_to)) if link.kind == kind]
        return list({link.id: link for link in found}.values())


def _walk(links: Iterable[Link]) -> Iterator[Link]:
    for link in links:
        yield link
        yield from _walk(link.links)
