"""The tree of origins: small values that can be shown, compared and sent."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Literal, TypeAlias

import msgspec

__all__ = ["Lineage", "Link", "LinkKind"]

LinkKind: TypeAlias = Literal[
    "score", "scores", "features", "version", "run", "code", "dataset", "table", "batch", "file",
    "messages", "online features", "role",
]  # fmt: skip

SHOWN_LINKS = 12
INDENT = "  "


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

    def as_text(self) -> str:
        """The tree as indented lines; long lists of links are cut, and say by how many."""
        lines = [_line(self.kind, self.id, self.detail)]
        for title, links in (("comes from", self.comes_from), ("leads to", self.leads_to)):
            if links:
                lines += ["", title, *_lines(links, 1)]
        return "\n".join(lines)

    def find(self, kind: LinkKind) -> list[Link]:
        """Every link of a kind in both directions, each id once, in the order of the tree."""
        found = [link for link in _walk((*self.comes_from, *self.leads_to)) if link.kind == kind]
        return list({link.id: link for link in found}.values())


def _walk(links: Iterable[Link]) -> Iterator[Link]:
    for link in links:
        yield link
        yield from _walk(link.links)


def _lines(links: tuple[Link, ...], depth: int) -> Iterator[str]:
    for link in links[:SHOWN_LINKS]:
        yield INDENT * depth + _line(link.kind, link.id, link.detail)
        yield from _lines(link.links, depth + 1)
    if len(links) > SHOWN_LINKS:
        yield f"{INDENT * depth}... and {len(links) - SHOWN_LINKS} more"


def _line(kind: str, name: str, detail: Mapping[str, object]) -> str:
    told = [f"{key} {_plain(value)}" for key, value in detail.items() if value not in ("", {}, [])]
    return f"{kind} {name}" + (f"  ({', '.join(told)})" if told else "")


def _plain(value: object) -> str:
    if isinstance(value, dict):
        return " ".join(f"{key}={_plain(item)}" for key, item in value.items())
    if isinstance(value, (list, tuple)):
        return " ".join(_plain(item) for item in value)
    return f"{value:.6g}" if isinstance(value, float) else str(value)
