"""Applying a project: one transaction, by whoever read what is there."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from penstock.ports import Audit, Delete, Put
from penstock.records import (
    ALIASES,
    Aliases,
    AppliedDeclaration,
    AppliedProject,
    Batch,
    DatasetSnapshot,
    ModelVersion,
)
from penstock.spec import (
    Declaration,
    Deployment,
    Project,
    fingerprint,
    key_of,
    kind_of,
    to_document,
)

from .difference import difference

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from datetime import datetime

    from penstock.ports import Metadata

    from .steps import Plan

__all__ = ["apply", "preview"]


def preview(metadata: Metadata, project: Project) -> Plan:
    """Say what applying a project would do, given all that is remembered; does nothing.

    Raises:
        DeclarationError: It cannot be applied; see ``difference``.
    """
    return _plan(metadata, project, metadata.find(AppliedDeclaration))


def apply(  # noqa: PLR0913 - what an application consists of
    metadata: Metadata,
    project: Project,
    *,
    actor: str,
    now: datetime,
    commit: str = "",
    dirty: bool = False,
) -> Plan:
    """Make a project the one that is applied, in one transaction; applying it again does nothing.

    Args:
        metadata: Where it is remembered.
        project: What is declared.
        actor: Who applies it.
        now: When.
        commit: Commit of the project folder's repository; empty when there is none.
        dirty: Whether the folder differs from the commit.

    Returns:
        What was done; empty when there was nothing to do.

    Raises:
        DeclarationError: It cannot be applied; see ``difference``.
        ConflictError: Somebody else applied a project meanwhile; nothing was changed.
    """
    before = metadata.read(AppliedProject, "project")
    records = metadata.find(AppliedDeclaration)
    plan = _plan(metadata, project, records)
    if plan.is_empty and before is not None and before.name == project.name:
        return plan
    applied = AppliedProject(
        name=project.name,
        revision=before.revision + 1 if before else 1,
        applied_at=now,
        applied_by=actor,
        commit=commit,
        dirty=dirty,
    )
    known = {record.key: record for record in records}
    changes = list(_changes(project, known, actor=actor, now=now))
    audit = Audit(actor=actor, action="apply", subject=project.name, difference=plan.as_document())
    metadata.write(Put(applied, expected=before), *changes, audit=audit)
    return plan


def _plan(metadata: Metadata, project: Project, records: list[AppliedDeclaration]) -> Plan:
    sources = [record.name for record in records if record.declared_kind == "source"]
    ingested = {name for name in sources if metadata.find(Batch, where={"source": name}, limit=1)}
    return difference(project, records, ingested=ingested, needed=_needed(metadata, project))


def _changes(
    project: Project,
    known: Mapping[str, AppliedDeclaration],
    *,
    actor: str,
    now: datetime,
) -> Iterator[Put | Delete]:
    declared = {key_of(value): value for value in project.everything}
    for position, (key, value) in enumerate(declared.items()):
        old = known.get(key)
        new = _record(value, old, position=position, actor=actor, now=now)
        if new != old:
            yield Put(new, expected=old)
    yield from (Delete(record) for key, record in known.items() if key not in declared)


def _record(
    value: Declaration,
    old: AppliedDeclaration | None,
    *,
    position: int,
    actor: str,
    now: datetime,
) -> AppliedDeclaration:
    """What is remembered of a declaration from now on; the same where nothing changed."""
    document, meaning = to_document(value), fingerprint(value)
    if old is not None and old.document == document:
        return msgspec.structs.replace(old, fingerprint=meaning, position=position)
    return AppliedDeclaration(
        declared_kind=kind_of(value),
        name=value.name,
        document=document,
        fingerprint=meaning,
        version=old.version + 1 if old else 1,
        position=position,
        applied_at=now,
        applied_by=actor,
    )


def _needed(metadata: Metadata, project: Project) -> dict[str, set[str]]:
    """Which feature views the live versions of the project's deployments read."""
    needed: dict[str, set[str]] = {}
    models = {value.model.name for value in project.everything if isinstance(value, Deployment)}
    for model in sorted(models):
        for version in _live(metadata, model):
            snapshot = metadata.read(DatasetSnapshot, version.dataset_id)
            names = snapshot.feature_names if snapshot else ()
            for view in {name.partition(".")[0] for name in names}:
                needed.setdefault(f"feature_view/{view}", set()).add(version.label)
    return needed


def _live(metadata: Metadata, model: str) -> Iterator[ModelVersion]:
    aliases = metadata.read(Aliases, model)
    numbers = {getattr(aliases, name) for name in ALIASES} - {0} if aliases else set()
    for number in sorted(numbers):
        found = metadata.find(ModelVersion, where={"model": model, "version": number})
        yield from found
