"""What is declared against what was applied: pure, and without a word about how it is stored."""

from __future__ import annotations

from typing import TYPE_CHECKING

from penstock.algebra import check_graph, check_label, check_rules, compile_on_demand, compile_view
from penstock.errors import DeclarationError
from penstock.spec import (
    Dataset,
    Declaration,
    Deployment,
    FeatureView,
    Graph,
    OnDemandView,
    Project,
    declarations_in,
    fingerprint,
    key_of,
    kind_of,
    to_document,
)

from .fields import field_changes, is_shown_only
from .readable import readable
from .steps import Change, Create, Plan, Remove, Stale

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping

    from penstock.records import AppliedDeclaration

    from .steps import StaleAction

__all__ = ["difference"]

STALE_ACTIONS: Mapping[str, StaleAction] = {
    "feature_view": "backfill",
    "dataset": "rebuild",
    "model": "retrain",
    "graph": "retrain",
    "deployment": "keep",
}


def difference(
    project: Project,
    applied: Iterable[AppliedDeclaration],
    *,
    ingested: Collection[str] = (),
    needed: Mapping[str, Collection[str]] | None = None,
) -> Plan:
    """Say what applying a project would do; does nothing.

    Args:
        project: What is declared.
        applied: What was applied.
        ingested: Names of the sources that have raw data, whose columns cannot change.
        needed: Key of a declaration to the live model versions that read it.

    Returns:
        The plan: what is created, changed and removed, and what that makes stale.

    Raises:
        DeclarationError: An expression is given types it does not take, or the project would remove
            what a live version reads, or change columns that hold data. Names every such fault.
    """
    known = {record.key: record for record in applied}
    declared = {key_of(value): value for value in project.everything}
    creates = [Create(key=key) for key in declared if key not in known]
    changes = list(_changes(declared, known))
    gone = [key for key in known if key not in declared]
    removes = [Remove(key=key) for key in reversed(_in_order(gone, known))]
    faults = [
        *_type_faults(declared.values()),
        *_removal_faults(gone, needed or {}),
        *_schema_faults(changes, ingested),
    ]
    if faults:
        raise DeclarationError.of(f"Project({project.name!r})", faults)
    stale = _stale(declared, known, changes)
    return Plan(project=project.name, steps=(*creates, *changes, *removes, *stale))


def _changes(
    declared: Mapping[str, Declaration], known: Mapping[str, AppliedDeclaration]
) -> Iterator[Change]:
    for key, value in declared.items():
        if key not in known:
            continue
        fields = field_changes(readable(known[key].document), readable(to_document(value)))
        if fields:
            meaning = not all(is_shown_only(value, field.path) for field in fields)
            yield Change(key=key, fields=tuple(fields), meaning=meaning)


def _in_order(keys: Iterable[str], known: Mapping[str, AppliedDeclaration]) -> list[str]:
    return sorted(keys, key=lambda key: known[key].position)


def _type_faults(declared: Iterable[Declaration]) -> Iterator[str]:
    """Yield what the engine refuses, such as text where numbers are added."""
    for value in declared:
        try:
            if isinstance(value, FeatureView):
                compile_view(value)
            elif isinstance(value, OnDemandView):
                compile_on_demand(value)
            elif isinstance(value, Dataset):
                check_label(value)
            elif isinstance(value, Deployment):
                check_rules(value)
            elif isinstance(value, Graph):
                check_graph(value)
        except DeclarationError as error:
            yield from (f"{key_of(value)}: {fault}" for fault in error.faults)


def _removal_faults(gone: Iterable[str], needed: Mapping[str, Collection[str]]) -> Iterator[str]:
    for key in gone:
        if needed.get(key):
            users = ", ".join(sorted(needed[key]))
            yield (
                f"{key} is declared no more, but {users} reads it and is live; promote a version "
                "without it first, or declare it again"
            )


def _schema_faults(changes: Iterable[Change], ingested: Collection[str]) -> Iterator[str]:
    for change in changes:
        kind, _, name = change.key.partition("/")
        if kind != "source" or name not in ingested:
            continue
        for field in change.fields:
            if field.path.startswith("schema."):
                yield (
                    f"{change.key}: {field.path} changes from {field.before} to {field.after}, but "
                    "it has raw data, whose columns never change; declare a source of another name"
                )


def _stale(
    declared: Mapping[str, Declaration],
    known: Mapping[str, AppliedDeclaration],
    changes: Iterable[Change],
) -> Iterator[Stale]:
    changed = {change.key for change in changes if change.meaning}
    for key, value in declared.items():
        action = STALE_ACTIONS.get(kind_of(value))
        if action is None or key not in known or fingerprint(value) == known[key].fingerprint:
            continue
        roots = [key_of(other) for other in declarations_in([value])]
        if action == "keep":  # its own routes and deadlines take effect at once
            roots.remove(key)
        because = tuple(root for root in roots if root in changed or root not in known)
        if because:
            yield Stale(key=key, action=action, because=because)
