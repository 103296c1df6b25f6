"""The steps of training: from a dataset to the version that answers.

Values between steps are structs as plain JSON, with references to artifacts.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeAlias

from msgspec import convert, to_builtins

from penstock.datasets import build, get_snapshot, pin
from penstock.deployment import deploy, package
from penstock.evaluation import (
    Evaluation,
    evaluate,
    mirror,
    preparing_tracking,
    register_candidates,
)
from penstock.plan import Catalogue, deprecated_in
from penstock.registry import aliases, get_version
from penstock.spec import Deployment, key_of
from penstock.training import TrainedCandidate, train_candidates

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
    return {"engine": packaged.engine, "reason": packaged.engine_reason}


def _deploy(services: Services, given: Values, outputs: Values) -> Mapping[str, object]:
    name, number = given["model"], outputs["register"]["ready"]
    champion = aliases(services.metadata, name).champion
    deployments = [
        deployment.name
        for deployment in Catalogue.load(services.metadata).all(Deployment)
        if deployment.model.name == name
    ]
    reason = ""
    if not given.get("promote", champion in {0, number}):
        reason = f"{name}@{champion} stays champion; {name}@{number} is its candidate"
    elif not deployments:
        reason = f"no deployment of {name} is declared; {name}@{number} is its candidate"
    if reason:
        return {"promoted": False, "deployments": {}, "reason": reason}
    for deployment in deployments:
        deploy(services, deployment, version=number)
    return {
        "promoted": True,
        "deployments": dict.fromkeys(deployments, number),
        "reason": f"{name}@{number} passed every gate",
    }


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
