"""The steps of training: from a dataset to the version that answers.

Values between steps are structs as plain JSON, with references to artifacts.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeAlias

from msgspec import convert, to_builtins

from penstock.datasets import build, get_snapshot, pin
from penstock.deployment import begin_rollout, deploy, package
from penstock.errors import PenstockError, RetryableError
from penstock.evaluation import (
    Evaluation,
    evaluate,
    mirror,
    preparing_tracking,
    register_candidates,
)
from penstock.plan import Catalogue, deprecated_in
from penstock.records import Rollout
from penstock.registry import aliases, get_version, nominate, promote
from penstock.spec import Graph, key_of
from penstock.training import TrainedCandidate, train_candidates

from .deploying import carry_out
from .telling import telling

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from penstock.ports import Services
    from penstock.records import DatasetSnapshot, ModelVersion

    Values: TypeAlias = Mapping[str, Any]  # plain JSON, as it comes back from storage
    Step: TypeAlias = Callable[[Services, Values, Values], Mapping[str, object]]

__all__ = ["TRAIN_STEPS"]


def _pin(services: Services, given: Values, _: Values) -> Mapping[str, object]:
    # An output of its own, so that a dataset that is built again after a kill is the same one,
    # whatever came in meanwhile, and its finished parts count.
    model = Catalogue.load(services.metadata).model(given["model"])
    return {"versions": pin(services, model.dataset)}


def _snapshot(services: Services, given: Values, outputs: Values) -> Mapping[str, object]:
    model = Catalogue.load(services.metadata).model(given["model"])
    versions = outputs.get("pin", {}).get("versions")
    with telling(services, given["run_id"], "snapshot") as tell:
        snapshot = build(services, model.dataset, versions=versions, progress=tell)
    today = services.clock.now().date()
    deprecated = deprecated_in(model.dataset.views, snapshot.feature_names)
    told = [one.warning([key_of(model)], today) for one in deprecated]
    return {
        "dataset_id": snapshot.dataset_id,
        "rows": snapshot.rows,
        "warnings": [*snapshot.warnings, *told],
    }


def _candidates(services: Services, given: Values, outputs: Values) -> Mapping[str, object]:
    model = Catalogue.load(services.metadata).model(given["model"])
    snapshot, run_id = _dataset(services, outputs), given["run_id"]
    with preparing_tracking(services), telling(services, run_id, "candidates") as tell:
        trained = train_candidates(services, model, snapshot, run_id, progress=tell)
    return {"trained": to_builtins(trained)}


def _evaluate(services: Services, given: Values, outputs: Values) -> Mapping[str, object]:
    model = Catalogue.load(services.metadata).model(given["model"])
    snapshot, trained = _dataset(services, outputs), _trained(outputs)
    evaluation = evaluate(services, model, snapshot, trained, given["run_id"])
    return {"evaluation": to_builtins(evaluation)}


def _register(services: Services, given: Values, outputs: Values) -> Mapping[str, object]:
    model = Catalogue.load(services.metadata).model(given["model"])
    found = register_candidates(
        services,
        model,
        _dataset(services, outputs),
        _trained(outputs),
        convert(outputs["evaluate"]["evaluation"], Evaluation),
        given["run_id"],
    )
    ready = [version.version for version in found if version.ready]
    verdicts = [_verdict(version) for version in found if version.selected]
    made: dict[str, object] = {
        "versions": [version.version for version in found],
        "ready": ready[-1] if ready else 0,
        "verdicts": verdicts,
    }
    if not ready:
        mirror(services, model.name)  # the run ends here, and what it made is shown all the same
        why = "; ".join(verdicts) or "none was selected"
        return made | {"stop": True, "message": f"no candidate is ready: {why}"}
    return made | {"message": f"{model.name}@{ready[-1]} is ready"}


def _package(services: Services, given: Values, outputs: Values) -> Mapping[str, object]:
    number = outputs["register"]["ready"]
    version = get_version(services.metadata, given["model"], number)
    packaged = package(services, version, in_worker=True)
    nominate(services, packaged)  # only now: a route may lead to the candidate
    return {"engine": packaged.engine, "reason": packaged.engine_reason}


def _deploy(services: Services, given: Values, outputs: Values) -> Mapping[str, object]:
    name, number = given["model"], outputs["register"]["ready"]
    champion = aliases(services.metadata, name).champion
    catalogue = Catalogue.load(services.metadata)
    deployments = [one.name for one in catalogue.deployments_of(name)]
    graphs = [graph.name for graph in catalogue.all(Graph)
              if name in {model.name for model in graph.models}]  # fmt: skip
    reason = ""
    if not given.get("promote", champion in {0, number}):
        stays = f"{name}@{champion} stays champion" if champion else "nothing is deployed"
        reason = f"{stays}; {name}@{number} is its candidate"
    elif not deployments and graphs:
        # No traffic moves by this: a version of a graph is pinned, and rolls out by itself.
        promote(services, name, number)
        graph = ", ".join(graphs)
        reason = f"a new version of {graph} predicts with it"
        return {"promoted": True, "deployments": {}, "reason": reason}
    elif not deployments:
        reason = f"no deployment of {name} is declared; {name}@{number} is its candidate"
    if reason:
        return {"promoted": False, "deployments": {}, "reason": reason}
    ended = {one: _rolled_out(services, one, number, given["run_id"]) for one in deployments}
    promoted = aliases(services.metadata, name).champion == number
    why = "; ".join(dict.fromkeys(ended.values()))
    return {
        "promoted": promoted,
        "deployments": dict.fromkeys(deployments, number) if promoted else {},
        "reason": f"{name}@{number} passed every gate" if promoted else why,
    }


def _rolled_out(services: Services, deployment: str, number: int, run_id: str) -> str:
    """Roll the version out; says how it ended, or what it waits for."""
    model = Catalogue.load(services.metadata).deployment(deployment).model.name
    rollout_id = f"deploy-{run_id.removeprefix('train-')}-{deployment}"
    known = services.metadata.read(Rollout, rollout_id)
    if known is None and aliases(services.metadata, model).champion == number:
        deploy(services, deployment, version=number)  # as of another deployment of the model
        return f"{model}@{number} answers on {deployment}"
    try:
        rollout = begin_rollout(
            services, deployment, version=number, rollout_id=rollout_id, run_id=run_id
        )
        rollout = carry_out(services, rollout)
    except RetryableError:
        raise
    except PenstockError as error:
        return error.message
    said = f"{rollout.label} is {rollout.state} on {deployment}"
    return f"{said}: {rollout.reason}" if rollout.reason else said


def _mirror(services: Services, given: Values, _: Values) -> Mapping[str, object]:
    mirror(services, given["model"])
    return {}


def _dataset(services: Services, outputs: Values) -> DatasetSnapshot:
    return get_snapshot(services.metadata, outputs["snapshot"]["dataset_id"])


def _trained(outputs: Values) -> list[TrainedCandidate]:
    return convert(outputs["candidates"]["trained"], list[TrainedCandidate])


def _verdict(version: ModelVersion) -> str:
    refused = [verdict.reason for verdict in version.verdicts if not verdict.passed]
    return f"{version.label} ({version.candidate}): {'; '.join(refused) or 'passed every gate'}"


TRAIN_STEPS: Mapping[str, Step] = {
    "train.pin": _pin,
    "train.snapshot": _snapshot,
    "train.candidates": _candidates,
    "train.evaluate": _evaluate,
    "train.register": _register,
    "train.package": _package,
    "train.deploy": _deploy,
    "train.mirror": _mirror,
}
"""The steps by the names that the pipeline calls them."""
