"""Applying a project: one transaction, by whoever read what is there."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import msgspec

from penstock.errors import DeclarationError, StateError
from penstock.ports import Audit, Delete, Metadata, Put
from penstock.records import (
    ALIASES,
    Aliases,
    AppliedDeclaration,
    AppliedProject,
    Batch,
    DatasetSnapshot,
    DeclarationVersion,
    FeatureSelection,
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

from .by_row import row_faults
from .catalogue import Catalogue
from .deprecations import refused_uses, users_of, warnings_of
from .difference import difference
from .looked_up import lookup_faults, meaning_faults
from .nowhere import nowhere_words
from .protected import idle_protections
from .rerouted import ended_changes, ending_words
from .selections import selection_faults

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from datetime import datetime

    from .deprecations import Users
    from .steps import Plan

__all__ = ["apply", "preview"]


def preview(metadata: Metadata, project: Project, *, now: datetime) -> Plan:
    """Say what applying a project would do, given all that is remembered; does nothing.

    Args:
        metadata: Where it is remembered.
        project: What is declared.
        now: When it would be applied: on its day, a deprecation comes into force.

    Raises:
        DeclarationError: It cannot be applied; see ``apply``.
    """
    return _plan(metadata, project, metadata.find(AppliedDeclaration), now)


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

    Routes that were changed at run time are as declared again where the project declares other
    routes or another fallback for their deployment, or what the changes do not go together with;
    else they stay as they were changed.

    Returns:
        What was done; empty when there was nothing to do.

    Raises:
        DeclarationError: It cannot be applied: see ``difference``; or a dataset or model would
            begin to read what has been deprecated by then, or a live version reads a column that
            is looked up no more, or a column with values comes to mean another, or a dataset names
            a feature selection that there is not, or one that kept features it does not have.
        ConflictError: Somebody else applied a project meanwhile; nothing was changed.
    """
    before = metadata.read(AppliedProject, "project")
    records = metadata.find(AppliedDeclaration)
    plan = _plan(metadata, project, records, now)
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
    by = _By(metadata, actor=actor, now=now, commit=commit, dirty=dirty, meanings={})
    changes = list(_changes(project, known, by))
    changes += [
        Put(one.ended(by=actor, at=now, reason=f"ended, since {why}"), expected=one)
        for one, why in ended_changes(metadata, project, known)
    ]
    audit = Audit(actor=actor, action="apply", subject=project.name, difference=plan.as_document())
    metadata.write(Put(applied, expected=before), *changes, audit=audit)
    return plan


class _By(NamedTuple):
    """Who applies, when, and from which code.

    Attributes:
        metadata: What is remembered of earlier versions.
        actor: Who.
        now: When.
        commit: Commit of the project folder.
        dirty: Whether the folder differs from it.
        meanings: Hashes of declarations that were found already, for ``fingerprint``.
    """

    metadata: Metadata
    actor: str
    now: datetime
    commit: str
    dirty: bool
    meanings: dict[int, str]


def _plan(
    metadata: Metadata, project: Project, records: list[AppliedDeclaration], now: datetime
) -> Plan:
    sources = [record.name for record in records if record.declared_kind == "source"]
    ingested = {name for name in sources if metadata.find(Batch, where={"source": name}, limit=1)}
    plan = difference(project, records, ingested=ingested, needed=_needed(metadata, project))
    kept = {one.selection_id: one.kept for one in metadata.find(FeatureSelection)}
    users = users_of(project.everything, kept)
    before = _applied_users(records, kept)
    faults = list(selection_faults(project.everything, kept))
    faults += row_faults(project)
    faults += meaning_faults(metadata, project, records)
    faults += lookup_faults(metadata, project, records, _all_live(metadata, project))
    faults += [] if before is None else refused_uses(users, before, now.date())
    if faults:
        raise DeclarationError.of(f"Project({project.name!r})", faults)
    ended = ended_changes(metadata, project, {record.key: record for record in records})
    warnings = (
        *warnings_of(users, now.date()),
        *idle_protections(project.everything),
        *ending_words(ended),
        *nowhere_words(metadata, project),
    )
    return msgspec.structs.replace(plan, warnings=warnings)


def _applied_users(
    records: list[AppliedDeclaration], kept: Mapping[str, tuple[str, ...]]
) -> Users | None:
    """The users as they were applied; None where it is not known who was one.

    Nobody knows where nothing has been applied, so a project can be set up again in another folder;
    nor where it was written by a version of Penstock that this one does not understand.
    """
    if not records:
        return None
    try:
        return users_of(Catalogue.of(records).declarations.values(), kept)
    except StateError:
        return None


def _changes(
    project: Project, known: Mapping[str, AppliedDeclaration], by: _By
) -> Iterator[Put | Delete]:
    declared = {key_of(value): value for value in project.everything}
    for position, (key, value) in enumerate(declared.items()):
        old = known.get(key)
        new = _record(value, old, position, by)
        if new != old:
            yield Put(new, expected=old)
        if old is None or new.version != old.version:
            yield from _kept(new, old, by)
    yield from (Delete(record) for key, record in known.items() if key not in declared)


def _record(
    value: Declaration, old: AppliedDeclaration | None, position: int, by: _By
) -> AppliedDeclaration:
    """What is remembered of a declaration from now on; the same where nothing changed."""
    document, meaning = to_document(value), fingerprint(value, by.meanings)
    if old is not None and old.document == document:
        return msgspec.structs.replace(old, fingerprint=meaning, position=position)
    return AppliedDeclaration(
        declared_kind=kind_of(value),
        name=value.name,
        document=document,
        fingerprint=meaning,
        version=(old.version if old else _last_version(by.metadata, key_of(value))) + 1,
        position=position,
        applied_at=by.now,
        applied_by=by.actor,
    )


def _kept(new: AppliedDeclaration, old: AppliedDeclaration | None, by: _By) -> Iterator[Put]:
    """The new version for ever, and the one before where nobody has kept it yet."""
    if old is not None:
        key = DeclarationVersion.key_of(old.key, old.version)
        if by.metadata.read(DeclarationVersion, key) is None:
            yield Put(DeclarationVersion.of(old))
    yield Put(DeclarationVersion.of(new, commit=by.commit, dirty=by.dirty), expected=None)


def _last_version(metadata: Metadata, key: str) -> int:
    """The last version there was of a declaration that is not applied now; 0 for none."""
    found = metadata.find(
        DeclarationVersion, where={"declaration": key}, newest_first=True, limit=1
    )
    return found[0].version if found else 0


def _needed(metadata: Metadata, project: Project) -> dict[str, set[str]]:
    """Which feature views and services the live versions of the project's deployments read."""
    needed: dict[str, set[str]] = {}
    for version in _all_live(metadata, project):
        snapshot = metadata.read(DatasetSnapshot, version.dataset_id)
        names = snapshot.feature_names if snapshot else ()
        for view in {name.partition(".")[0] for name in names}:
            for kind in ("feature_view", "on_demand_view"):
                needed.setdefault(f"{kind}/{view}", set()).add(version.label)
        if snapshot and snapshot.service:
            needed.setdefault(f"feature_service/{snapshot.service}", set()).add(version.label)
    return needed


def _all_live(metadata: Metadata, project: Project) -> Iterator[ModelVersion]:
    """The live versions of the project's deployments."""
    models = {value.model.name for value in project.everything if isinstance(value, Deployment)}
    for model in sorted(models):
        yield from _live(metadata, model)


def _live(metadata: Metadata, model: str) -> Iterator[ModelVersion]:
    aliases = metadata.read(Aliases, model)
    numbers = {getattr(aliases, name) for name in ALIASES} - {0} if aliases else set()
    for number in sorted(numbers):
        found = metadata.find(ModelVersion, where={"model": model, "version": number})
        yield from found
