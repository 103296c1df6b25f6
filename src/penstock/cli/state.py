"""The command that shows a whole project at a glance."""

from __future__ import annotations

from typing import TYPE_CHECKING

from penstock.control import partition_states
from penstock.deployment import changes_of, route_states
from penstock.errors import PenstockError
from penstock.plan import Catalogue
from penstock.records import (
    LIVE_STATES,
    AppliedProject,
    Batch,
    Incident,
    Rollout,
    ServingStatus,
)
from penstock.registry import aliases, versions
from penstock.runtime import living_processes, open_services
from penstock.spec import Deployment, Model, Source

from .humanise import ago, count
from .screen import table

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from penstock.deployment import RouteState
    from penstock.records import RouteChanges
    from penstock.runtime import LocalServices

    from .screen import Screen

__all__ = ["status"]

COUNTS = ("read", "stored", "quarantined", "duplicates", "deleted", "found_nothing")
INCIDENTS, RUNS = 5, 5


def status(screen: Screen) -> None:
    """Show the project at a glance."""
    with open_services(screen.home) as services:
        project = services.metadata.read(AppliedProject, "project")
        found: dict[str, Sequence[Sequence[object]]] = {
            "sources": _sources(services),
            "models": _models(services),
            "deployments": _deployments(services),
            "rollouts": _rollouts(services),
            "incidents": _incidents(services),
            "runs": _runs(services),
            "partitions": _partitions(services),
            "processes": _processes(services),
        }
    columns = {
        "sources": ["source", "batches", *COUNTS, "last"],
        "models": ["model", "versions", "champion", "candidate", "previous"],
        "deployments": ["deployment", "answers", "routes", "serving at"],
        "rollouts": ["rollout", "version", "on", "state", "asked for by", "began"],
        "incidents": ["incident", "version", "state", "opened", "done"],
        "runs": ["run", "pipeline", "about", "state", "began"],
        "partitions": ["view", "partition", "kept by", "last batch", "waiting"],
        "processes": ["process", "pid", "address", "since"],
    }
    numbers = ["batches", *COUNTS, "versions", "champion", "candidate", "previous", "pid"]
    numbers += ["kept by", "last batch", "waiting"]
    shown = [
        table(
            [column.replace("_", " ") for column in columns[name]],
            rows,
            title=name.capitalize(),
            right=[column.replace("_", " ") for column in numbers],
        )
        for name, rows in found.items()
        if rows
    ]
    value = {
        name: [dict(zip(columns[name], row, strict=True)) for row in rows]
        for name, rows in found.items()
    }
    title = "Nothing is applied yet; run 'penstock apply'."
    if project is not None:
        title = f"[bold]{project.name}[/] revision {project.revision}, by {project.applied_by}"
    screen.show({"project": project, **value}, title, *shown)


def _sources(services: LocalServices) -> list[list[object]]:
    now = services.clock.now()
    rows: list[list[object]] = []
    for source in Catalogue.load(services.metadata).all(Source):
        where = {"source": source.name}
        batches = services.metadata.find(Batch, where=where, newest_first=True)
        counts = [count(sum(int(getattr(batch, name)) for batch in batches)) for name in COUNTS]
        last = ago(batches[0].arrived_at if batches else None, now)
        rows.append([source.name, count(len(batches)), *counts, last])
    return rows


def _models(services: LocalServices) -> list[list[object]]:
    rows: list[list[object]] = []
    for model in Catalogue.load(services.metadata).all(Model):
        pointers = aliases(services.metadata, model.name)
        numbers = (pointers.champion, pointers.candidate, pointers.previous)
        found = len(versions(services.metadata, model.name))
        rows.append([model.name, found, *(number or "-" for number in numbers)])
    return rows


def _deployments(services: LocalServices) -> list[list[object]]:
    living = {process.process_id for process in living_processes(services, kind="serve")}
    serving = [one for one in services.metadata.find(ServingStatus) if one.process_id in living]
    rows: list[list[object]] = []
    for deployment in Catalogue.load(services.metadata).all(Deployment):
        pointers = aliases(services.metadata, deployment.model.name)
        changes = changes_of(services.metadata, deployment.name)
        states = route_states(deployment, changes, pointers)
        champion = next(one.version for one in states if one.name == "champion")
        answers = f"{deployment.model.name}@{champion}" if champion else "nobody yet"
        route = f"{deployment.name}/champion"
        where = [one.address for one in serving if route in one.versions]
        routes = _routes(states, changes)
        rows.append([deployment.name, answers, routes, ", ".join(where) or "-"])
    return rows


def _rollouts(services: LocalServices) -> list[list[object]]:
    """Versions that are on their way."""
    now = services.clock.now()
    live = [
        one
        for state in LIVE_STATES
        for one in services.metadata.find(Rollout, where={"state": state})
    ]
    return [
        [
            one.rollout_id,
            one.label,
            one.deployment,
            f"canary, step {one.step + 1}" if one.state == "canary" else one.state,
            one.asked_by,
            ago(one.asked_at, now),
        ]
        for one in live
    ]


def _routes(states: Sequence[RouteState], changes: RouteChanges) -> str:
    """The routes and what they take, and whether they are otherwise than declared."""
    told = [_route(one) for one in states]
    told += [] if changes.is_empty else [f"changed at run time: {changes.text}"]
    return "; ".join(told)


def _route(one: RouteState) -> str:
    name = one.name if one.name.endswith(one.target) else f"{one.name} {one.target}"
    if one.takes is None:
        return name
    return f"{name} {100 * one.takes:.4g} %" if one.version else f"{name} without a version"


def _incidents(services: LocalServices) -> list[list[object]]:
    now = services.clock.now()
    found = services.metadata.find(Incident, newest_first=True, limit=INCIDENTS)
    return [
        [one.incident_id, one.version, one.state, ago(one.opened_at, now), _done(one)]
        for one in found
    ]


def _done(incident: Incident) -> str:
    return "; ".join(f"{action}: {outcome}" for action, outcome in incident.actions.items())


def _runs(services: LocalServices) -> list[list[object]]:
    now: datetime = services.clock.now()
    return [
        [run.run_id, run.pipeline, run.subject, run.state, ago(run.created_at, now)]
        for run in services.workflows.runs(limit=RUNS)
    ]


def _partitions(services: LocalServices) -> list[list[object]]:
    """What is online of each view, and who keeps it up to date."""
    try:
        states = list(partition_states(services))
    except PenstockError as error:
        return [["-", error.message, "-", "-", "-"]]
    return [
        [
            one.view,
            f"{one.slot + 1} of {one.of}" + ("" if one.is_read else ", not read yet"),
            one.process_id or "-",
            "not built" if one.batch is None else one.batch,
            one.waiting,
        ]
        for one in states
    ]


def _processes(services: LocalServices) -> list[list[object]]:
    now = services.clock.now()
    return [
        [one.kind, one.process_id, one.address or "-", ago(one.started_at, now)]
        for one in living_processes(services)
    ]
