"""Graphs at a glance: the steps of a version, what they are pinned to, and what has moved on."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from penstock.errors import NotFoundError, NotReadyError
from penstock.plan import Catalogue
from penstock.records import ALIASES
from penstock.registry import aliases, find_version, read_manifest, rebuild
from penstock.spec import Graph, Predict, graph_order, step_reads, step_text

if TYPE_CHECKING:
    from collections.abc import Mapping

    from penstock.ports import Metadata, Services
    from penstock.records import ModelVersion
    from penstock.spec import GraphStep

__all__ = ["GraphState", "GraphStepState", "graph_names", "graph_state", "pins_now"]


class GraphStepState(msgspec.Struct, frozen=True, kw_only=True):
    """One step of a graph.

    Attributes:
        name: Its name.
        what: What it does, in words.
        reads: The steps and features that it reads, in order, each once.
        pinned: ``model@version`` that predicts; empty for what predicts with no model, and before
            there is a version.
        now: ``model@version`` that a version made now would be pinned to; empty where that is not
            there yet, and for what predicts with no model.
    """

    name: str
    what: str
    reads: tuple[str, ...]
    pinned: str = ""
    now: str = ""


class GraphState(msgspec.Struct, frozen=True, kw_only=True):
    """A graph.

    Attributes:
        name: Its name.
        version: ``graph@version`` that is told of; empty before there is one.
        roles: The aliases of that version.
        output: The step that answers.
        steps: The steps, each after those it reads.
        moved: Names of the steps that a version made now would pin to another version.
        changed: Whether the graph is declared otherwise now.
        lacking: Names of the models that a version made now would lack one of.
        explainers: Names of the steps that explain others.
    """

    name: str
    version: str
    roles: tuple[str, ...]
    output: str
    steps: tuple[GraphStepState, ...]
    moved: tuple[str, ...] = ()
    changed: bool = False
    lacking: tuple[str, ...] = ()
    explainers: tuple[str, ...] = ()


def graph_names(metadata: Metadata) -> tuple[str, ...]:
    """Names of the graphs that are applied, in order."""
    return tuple(graph.name for graph in Catalogue.load(metadata).all(Graph))


def graph_state(services: Services, name: str) -> GraphState:
    """Say what a graph is made of.

    Args:
        services: The ports; uses metadata and artifacts.
        name: ``blend`` for the version that answers, or the newest one where none does;
            ``blend@3`` or ``blend@candidate`` for another.

    Raises:
        NotFoundError: There is no such graph or version.
        NotReadyError: Nothing is applied, or the alias points to none.
        StateError: The version's package is damaged.
    """
    graph, _, which = name.partition("@")
    declared = {one.name: one for one in Catalogue.load(services.metadata).all(Graph)}
    if graph not in declared:
        Catalogue.load(services.metadata).require_applied()
        raise NotFoundError.of("graph", graph, declared, hint="A graph is declared by ps.Graph.")
    version = _version(services, graph, which)
    if version is None:
        return _state(services, declared[graph], None, {})
    key = f"graph/{graph}"
    manifest = read_manifest(services.artifacts.path(version.package))
    then = rebuild(key, manifest.definitions, {}, owner=version.label)
    if not isinstance(then, Graph):  # pragma: no cover - its key says what it is
        raise NotFoundError(f"{version.label} is no graph.")
    pins = {step: str(label) for step, label in version.params.items()}
    return msgspec.structs.replace(
        _state(services, then, version, pins), changed=then.steps != declared[graph].steps
    )


def pins_now(metadata: Metadata, graph: Graph) -> dict[str, str] | None:
    """What a version of a graph made now would be pinned to; none while it cannot be made.

    Args:
        metadata: The records.
        graph: The graph.
    """
    pins = {
        name: _now(metadata, step)
        for name, step in graph.steps.items()
        if isinstance(step, Predict)
    }
    return None if "" in pins.values() else pins


def _version(services: Services, graph: str, which: str) -> ModelVersion | None:
    if which:
        return find_version(services.metadata, f"{graph}@{which}")
    pointers = aliases(services.metadata, graph)
    number = pointers.champion or pointers.candidate
    return find_version(services.metadata, f"{graph}@{number}") if number else None


def _state(
    services: Services, graph: Graph, version: ModelVersion | None, pins: Mapping[str, str]
) -> GraphState:
    steps = tuple(
        GraphStepState(
            name=name,
            what=step_text(graph.steps[name]),
            reads=tuple(dict.fromkeys(step_reads(graph.steps[name]))),
            pinned=pins.get(name, ""),
            now=_now(services.metadata, graph.steps[name]),
        )
        for name in graph_order(graph.steps)
    )
    pointers = aliases(services.metadata, graph.name)
    number = version.version if version else 0
    there = {one.name for one in steps if one.now}
    return GraphState(
        name=graph.name,
        version=version.label if version else "",
        roles=tuple(one for one in ALIASES if number and getattr(pointers, one) == number),
        output=graph.output,
        explainers=tuple(graph.explainers),
        steps=steps,
        moved=tuple(one.name for one in steps if one.pinned and one.now not in {"", one.pinned}),
        lacking=tuple(
            dict.fromkeys(
                step.model.name
                for name, step in graph.steps.items()
                if isinstance(step, Predict) and name not in there
            )
        ),
    )


def _now(metadata: Metadata, step: GraphStep) -> str:
    """The version that a step would be pinned to now; empty where there is none."""
    if not isinstance(step, Predict):
        return ""
    which = str(step.number) if step.number else step.of
    try:
        return find_version(metadata, f"{step.model.name}@{which}").label
    except (NotFoundError, NotReadyError):
        return ""
