"""The versions of a declaration that were applied, and how two of them differ."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from penstock.errors import NotFoundError
from penstock.records import AppliedDeclaration, DeclarationVersion

from .catalogue import DECLARED_CLASSES
from .fields import field_changes, is_shown_only
from .readable import readable
from .steps import FieldChange

if TYPE_CHECKING:
    from datetime import datetime

    from penstock.ports import Metadata

    from .entries import ViewKind

__all__ = ["VersionDifference", "compare_versions", "versions_of", "view_kind"]

VIEW_KINDS: tuple[ViewKind, ...] = ("feature_view", "on_demand_view")


class VersionDifference(msgspec.Struct, frozen=True, kw_only=True):
    """How two versions of a declaration differ.

    Attributes:
        declaration: Its key.
        before: The older version.
        after: The newer version.
        fields: What differs, with expressions as they are written; empty where nothing does.
        meaning: Whether what it means differs; False where only what is shown does.
    """

    declaration: str
    before: DeclarationVersion
    after: DeclarationVersion
    fields: tuple[FieldChange, ...]
    meaning: bool


def view_kind(metadata: Metadata, name: str) -> ViewKind:
    """What kind of view has a name, or had it last.

    Args:
        metadata: Where views are.
        name: The name; it need not be declared any more.

    Raises:
        NotFoundError: No view of that name was ever applied; names the nearest.
    """
    for kind in VIEW_KINDS:
        if metadata.read(AppliedDeclaration, f"{kind}/{name}") is not None:
            return kind
    removed: dict[ViewKind, datetime] = {
        kind: found[0].applied_at
        for kind in VIEW_KINDS
        if (found := _newest(metadata, f"{kind}/{name}"))
    }
    if removed:
        return max(removed, key=lambda kind: removed[kind])
    known = [
        record.name
        for kind in VIEW_KINDS
        for record in metadata.find(AppliedDeclaration, where={"declared_kind": kind})
    ]
    hint = "" if known else "Declare one and run 'penstock apply'."
    raise NotFoundError.of("view", name, known, hint=hint)


def versions_of(metadata: Metadata, kind: str, name: str) -> list[DeclarationVersion]:
    """Every version of a declaration that is remembered, oldest first.

    What was applied before versions were kept is remembered in its last version alone.

    Args:
        metadata: Where they are.
        kind: Its kind, such as ``"feature_view"``.
        name: Its name; it need not be declared any more.

    Raises:
        NotFoundError: None of that name was ever applied; names the nearest.
    """
    key = f"{kind}/{name}"
    found = metadata.find(DeclarationVersion, where={"declaration": key})
    applied = metadata.read(AppliedDeclaration, key)
    if applied is not None and (not found or found[-1].version < applied.version):
        found.append(DeclarationVersion.of(applied))
    if not found:
        records = metadata.find(AppliedDeclaration, where={"declared_kind": kind})
        known = [record.name for record in records]
        hint = "" if known else "Declare one and run 'penstock apply'."
        raise NotFoundError.of(kind.replace("_", " "), name, known, hint=hint)
    return found


def compare_versions(
    metadata: Metadata, kind: str, name: str, *, first: int = 0, last: int = 0
) -> VersionDifference:
    """Say how two versions of a declaration differ.

    Args:
        metadata: Where they are.
        kind: Its kind.
        name: Its name.
        first: Number of the older version; the one before ``last`` when 0, or that itself where it
            is the first that is kept.
        last: Number of the newer version; the newest when 0.

    Raises:
        NotFoundError: There is no such declaration, or no such version; names those there are.
    """
    found = {one.version: one for one in versions_of(metadata, kind, name)}
    numbers = sorted(found)
    after = _version(found, name, last or numbers[-1])
    earlier = [number for number in numbers if number < after.version]
    before = _version(found, name, first or (earlier or [after.version])[-1])
    declared = DECLARED_CLASSES[kind]
    fields = field_changes(readable(before.document), readable(after.document))
    return VersionDifference(
        declaration=f"{kind}/{name}",
        before=before,
        after=after,
        fields=tuple(fields),
        meaning=not all(is_shown_only(declared, field.path) for field in fields),
    )


def _newest(metadata: Metadata, key: str) -> list[DeclarationVersion]:
    """The newest version that is kept of a declaration; nothing where none is."""
    where = {"declaration": key}
    return metadata.find(DeclarationVersion, where=where, newest_first=True, limit=1)


def _version(found: dict[int, DeclarationVersion], name: str, number: int) -> DeclarationVersion:
    if number in found:
        return found[number]
    numbers = sorted(found)
    span = f"{numbers[0]} to {numbers[-1]}" if len(numbers) > 1 else f"{numbers[0]}"
    raise NotFoundError(
        f"There is no version {number} of {name!r}. Kept: {span}.", name=name, known=numbers
    )
