"""The commands about model versions: list, show, promote, alias."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

from penstock.deployment import deploy, point_alias, refuse_going_around
from penstock.errors import NotFoundError, PenstockError
from penstock.plan import Catalogue
from penstock.records import ALIASES, DatasetSnapshot
from penstock.registry import aliases, find_version, read_manifest, versions
from penstock.registry import promote as promote_version
from penstock.runtime import open_services
from penstock.spec import Model

from .failures import UsageError
from .humanise import ago, number, pairs
from .opening import opened_as
from .screen import Screen, table

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from penstock.ports import Services
    from penstock.records import Aliases, EngineChoice, EngineTrial, ModelVersion

__all__ = ["alias", "list_versions", "promote", "show"]

VERSION = typer.Argument(help="MODEL@VERSION, or MODEL@champion and the other aliases.")


def list_versions(screen: Screen, model: str = typer.Argument("", help="Only this model.")) -> None:
    """List models and versions."""
    with open_services(screen.home) as services:
        names = [found.name for found in Catalogue.load(services.metadata).all(Model)]
        if model and model not in names:
            raise NotFoundError.of("model", model, names)
        chosen = [model] if model else names
        found = {name: versions(services.metadata, name)[::-1] for name in chosen}
        pointers = {name: aliases(services.metadata, name) for name in chosen}
        now = services.clock.now()
    rows = [_row(version, pointers[name], now) for name in chosen for version in found[name]]
    columns = ["version", "alias", "candidate", "metric", "validation", "test", "gates", "engine"]
    columns.append("made")
    empty = "No version yet. Train one with 'penstock train MODEL'."
    shown = table(columns, rows, right=["validation", "test"]) if rows else empty
    value = [{"aliases": pointers[name], "versions": found[name]} for name in chosen]
    screen.show(value, shown)


def show(screen: Screen, version: str = VERSION) -> None:
    """Show one version."""
    with open_services(screen.home) as services:
        name = version if "@" in version else f"{version}@champion"
        found = find_version(services.metadata, name)
        pointers = aliases(services.metadata, found.model)
        snapshot = services.metadata.read(DatasetSnapshot, found.dataset_id)
        chosen = _engine_of(services, found)
        now = services.clock.now()
    facts = [
        ("version", found.label),
        ("alias", _aliases_of(found, pointers) or "-"),
        ("candidate", found.candidate),
        ("made", ago(found.created_at, now)),
        ("run", found.run_id),
        ("dataset", found.dataset_id),
        ("features", _features_of(snapshot)),
        ("engine", f"{found.engine or 'not packaged'}  {found.engine_reason}".strip()),
        ("parameters", pairs(found.params) or "-"),
    ]
    metrics = [(name, number(value)) for name, value in sorted(found.metrics.items())]
    gates = [(_verdict(v.passed), v.gate, v.reason) for v in found.verdicts]
    screen.show(
        {"version": found, "aliases": pointers, "dataset": snapshot, "engine": chosen},
        table(["", ""], facts),
        table(["metric", "value"], metrics, title="Metrics", right=["value"]),
        table(["", "gate", "why"], gates, title="Gates") if gates else "",
        _engines(chosen) if chosen is not None and chosen.tried else "",
        f"[dim]penstock lineage {found.label}[/]",
    )


def promote(screen: Screen, version: str = VERSION) -> None:
    """Make a version the champion."""
    with opened_as(screen, "admin") as services:
        found = find_version(services.metadata, version)
        if aliases(services.metadata, found.model).champion != found.version:
            refuse_going_around(services, found.model)
        for deployment in Catalogue.load(services.metadata).deployments_of(found.model):
            # What answers requests is packaged and checked first, whoever asks for it.
            deploy(services, deployment.name, version=found.version)
        after = promote_version(services, found.model, found.version)
    previous = f"; version {after.previous} is previous" if after.previous else ""
    screen.show(after, f"[green]✓[/] {found.label} is champion{previous}.")


def alias(
    screen: Screen,
    version: str = typer.Argument(help="MODEL@VERSION; MODEL alone with --remove."),
    name: str = typer.Argument(help="challenger or candidate."),
    remove: bool = typer.Option(False, "--remove", help="Let it point to no version."),
    reason: str = typer.Option("", "--reason", help="Why; audited."),
) -> None:
    """Point an alias to a version."""
    with opened_as(screen, "admin") as services:
        if remove:
            model, _, number = version.partition("@")
            if number:
                raise UsageError(f"--remove takes the model alone: {model}.")
            after = point_alias(services, model, name, 0, reason=reason)
            screen.show(after, f"[green]✓[/] No version of {model} is {name}.")
            return
        found = find_version(services.metadata, version)
        after = point_alias(services, found.model, name, found.version, reason=reason)
    screen.show(after, f"[green]✓[/] {found.label} is {name}.")


def _row(version: ModelVersion, pointers: Aliases, now: datetime) -> Sequence[object]:
    metric = next((n.partition(".")[2] for n in version.metrics if n.startswith("test.")), "")
    chosen = "roc_auc" if "test.roc_auc" in version.metrics else metric
    passed = sum(verdict.passed for verdict in version.verdicts)
    gates = f"{passed} of {len(version.verdicts)}" if version.verdicts else "-"
    return (
        version.label,
        _aliases_of(version, pointers) or ("ready" if version.ready else "-"),
        version.candidate,
        chosen,
        number(version.metrics.get(f"validation.{chosen}")),
        number(version.metrics.get(f"test.{chosen}")),
        gates,
        version.engine or "-",
        ago(version.created_at, now),
    )


def _engine_of(services: Services, version: ModelVersion) -> EngineChoice | None:
    """What was found of its engines; none before it is packaged, or where the package is gone."""
    if not version.engine:
        return None
    try:
        return read_manifest(services.artifacts.path(version.package)).engine
    except PenstockError:
        return None


def _engines(choice: EngineChoice) -> object:
    """Every engine that was tried, and how long it takes."""
    rows = [
        (
            _serves(trial, choice),
            f"{trial.engine} {trial.dtype}",
            f"{trial.one_us:,.1f}" if trial.one_us else "-",
            f"{trial.batch_us:,.1f}" if trial.batch_us else "-",
            trial.reason,
        )
        for trial in choice.tried
    ]
    columns = ["serves", "engine", "1 row, us", "64 rows, us", "found"]
    return table(columns, rows, title="Engines", right=["1 row, us", "64 rows, us"])


def _serves(trial: EngineTrial, choice: EngineChoice) -> str:
    """Which batches an engine answers."""
    if not trial.proved:
        return "no"
    if (trial.engine, trial.dtype) == (choice.engine, choice.dtype):
        return f"to {choice.batch_from - 1} rows" if choice.batch_engine else "yes"
    return f"from {choice.batch_from} rows" if trial.engine == choice.batch_engine else "-"


def _features_of(snapshot: DatasetSnapshot | None) -> str:
    if snapshot is None:
        return "-"
    of = f" of service {snapshot.service} ({snapshot.service_id})" if snapshot.service else ""
    return f"{len(snapshot.feature_names)}{of}"


def _aliases_of(version: ModelVersion, pointers: Aliases) -> str:
    return ", ".join(name for name in ALIASES if getattr(pointers, name) == version.version)


def _verdict(passed: bool) -> str:
    return "passed" if passed else "refused"
