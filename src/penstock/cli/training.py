"""The command that trains."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer
from rich.markup import escape

from penstock.access import require_features
from penstock.control import train_run
from penstock.datasets import selected_names
from penstock.errors import GateError
from penstock.plan import Catalogue
from penstock.records import ModelVersion
from penstock.registry import aliases
from penstock.spec import key_of

from .follow import follow, output_of
from .humanise import number
from .opening import opened_as
from .screen import Screen, table

if TYPE_CHECKING:
    from rich.table import Table

    from penstock.ports import RunInfo

__all__ = ["train"]


def train(
    screen: Screen,
    model: str = typer.Argument(help="The model."),
    promote: bool | None = typer.Option(
        None,
        "--promote/--no-promote",
        help="Whether the version that passes the gates is deployed, which takes an admin; only a "
        "first one otherwise.",
    ),
) -> None:
    """Train, evaluate, and let the gates decide."""
    with opened_as(screen, "admin" if promote else "writer") as services:
        if services.caller.role != "admin":
            promote = False  # what answers is for admins to change
        catalogue = Catalogue.load(services.metadata)
        declared = catalogue.model(model)
        names = selected_names(services.metadata, declared.dataset)
        require_features(services, names, subject=key_of(declared))
        run_id = f"train-{services.ids.new()}"
        run = follow(screen, services, train_run(run_id, model, promote=promote))
        found = services.metadata.find(ModelVersion, where={"model": model, "run_id": run_id})
        pointers = aliases(services.metadata, model)
    warnings = _warnings(run)
    value = {"run_id": run_id, "versions": found, "aliases": pointers, "warnings": warnings}
    shown: list[object] = [_candidates(found, declared.select.metric), *_gates(found)]
    shown += [f"[yellow]![/] {escape(warning)}" for warning in warnings]
    ready = next((version for version in found if version.ready), None)
    if ready is None:
        screen.show(value, *shown)
        raise _refused(found, run_id)
    role = "champion" if pointers.champion == ready.version else "candidate"
    on = [one.name for one in catalogue.deployments_of(model)]
    way = f"Deploy it with 'penstock deploy {on[0]}'" if on else (
        f"Make it champion with 'penstock models promote {ready.label}'"
    )  # fmt: skip
    why = f"{_why_not(run)}. {way}."
    if role == "champion":
        why = "." if output_of(run, "deploy").get("deployments") else f"{_why_not(run)}."
    screen.show(value, *shown, f"[green]✓[/] {ready.label} passed its gates and is {role}{why}")


def _why_not(run: RunInfo) -> str:
    """Why the version does not answer."""
    reason = str(output_of(run, "deploy").get("reason") or "")
    return escape(f": {reason.rstrip('.')}") if reason else ""


def _warnings(run: RunInfo) -> list[str]:
    """What the dataset's builder had to say, and who measured a graph."""
    evaluation = output_of(run, "evaluate").get("evaluation")
    found = [
        output_of(run, "snapshot").get("warnings"),
        evaluation.get("warnings") if isinstance(evaluation, dict) else None,
    ]
    return [str(warning) for told in found if isinstance(told, list) for warning in told]


def _candidates(found: list[ModelVersion], metric: str) -> Table:
    """A column per candidate: metrics are many and have long names, candidates are few."""
    others = sorted({name.partition(".")[2] for v in found for name in v.metrics} - {metric})
    names = [f"validation.{metric}", f"test.{metric}", *(f"test.{name}" for name in others)]
    columns = [f"{v.candidate}{' *' if v.selected else ''}" for v in found]
    rows = [("version", *(version.label for version in found))]
    rows += [
        (name.replace(".", " "), *(number(version.metrics.get(name)) for version in found))
        for name in names
    ]
    title = "Candidates (* chosen)"
    return table(["", *columns], rows, title=title, right=columns)


def _gates(found: list[ModelVersion]) -> list[Table]:
    rows = [
        ("✓" if verdict.passed else "✗", verdict.gate, verdict.reason)
        for version in found
        for verdict in version.verdicts
    ]
    return [table(["", "gate", "why"], rows, title="Gates")] if rows else []


def _refused(found: list[ModelVersion], run_id: str) -> GateError:
    why = [v.reason for one in found for v in one.verdicts if not v.passed]
    lines = "".join(f"\n  - {reason}" for reason in why)
    return GateError(
        f"No candidate of {run_id} is ready; whoever answered goes on answering.{lines}\n"
        "Train on more data, other features or candidates, or lower the gate.",
        run_id=run_id,
    )
