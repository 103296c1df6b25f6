"""The command that asks for a prediction: of the serving process, or in this one without any."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, cast

import httpx
import msgspec
import typer

from penstock.control import shown_values
from penstock.errors import (
    AccessError,
    ConflictError,
    InputError,
    NotFoundError,
    NotReadyError,
    PenstockError,
    RetryableError,
    StateError,
    UnavailableError,
    UnknownEntityError,
    nearest,
)
from penstock.plan import Catalogue
from penstock.records import Given
from penstock.registry import get_version, read_manifest, views_of
from penstock.runtime import living_processes
from penstock.scoring import Ask, Fleet, build_fleet, read_target
from penstock.spec import base_views

from .failures import UsageError
from .given import given_values
from .humanise import number
from .opening import opened_as
from .screen import Screen, table
from .times import time_text, time_us
from .unknown import unknown_notes

if TYPE_CHECKING:
    from collections.abc import Sequence

    from penstock.records import Score
    from penstock.runtime import LocalServices
    from penstock.scoring import Endpoint, Lane
    from penstock.spec import Deployment

__all__ = ["predict"]

TIMEOUT_S = 30.0
MORE_LIKELY = 0.5
EXACT = 2**53
DATATYPES: Mapping[type, str] = {str: "BYTES", bool: "BOOL", int: "INT64"}
KINDS: Mapping[str, type[PenstockError]] = {
    "access": AccessError,
    "conflict": ConflictError,
    "input": InputError,
    "not_found": NotFoundError,
    "not_ready": NotReadyError,
    "state": StateError,
    "unavailable": UnavailableError,
    "unknown_entity": UnknownEntityError,
}


class _Output(msgspec.Struct, frozen=True):
    name: str
    data: list[str | float]


class _Inferred(msgspec.Struct, frozen=True):
    """An answer by the inference protocol."""

    model_version: str
    outputs: list[_Output]
    parameters: Mapping[str, str] = {}


class _Wanted(msgspec.Struct, frozen=True):
    """What is asked: keys and request fields with a time, or features."""

    keys: Mapping[str, Given]
    request: Mapping[str, Given]
    at_us: int
    features: Mapping[str, float | None]
    headers: Mapping[str, str] = {}
    version: int = 0
    seen: bool = False


def predict(  # noqa: PLR0913, PLR0917 - the options of the command
    screen: Screen,
    deployment: str = typer.Argument(help="The deployment."),
    key: list[str] = typer.Option(
        [],
        "--key",
        help="The entity's key, whose features are looked up; of several entities NAME=KEY each.",
    ),
    request: list[str] = typer.Option(
        [], "--request", help="NAME=VALUE of a request field; all that the model takes."
    ),
    at: str = typer.Option(
        "",
        "--at",
        help="Time of the features, with its zone, not before the newest record; else now.",
    ),
    feature: list[str] = typer.Option(
        [], "--feature", help="NAME=VALUE; all the model's features, in place of --key."
    ),
    header: list[str] = typer.Option(
        [], "--header", help="NAME=VALUE of a header, for routes that go by one."
    ),
    version: int = typer.Option(
        0, "--version", help="This version of the deployment alone; else its routes choose."
    ),
    features: bool = typer.Option(
        False, "--features", help="Show the values that the model saw as well."
    ),
) -> None:
    """Ask for one prediction."""
    if bool(key) == bool(feature):
        raise UsageError("Give either --key, or --feature for every feature of the model.")
    if version and (at or features):
        raise UsageError("--version goes with neither --at nor --features.")
    with opened_as(screen, "writer") as services:
        declared = Catalogue.load(services.metadata).deployment(deployment)
        wanted = msgspec.structs.replace(
            _wanted(declared, key, request, at, feature),
            headers=dict(_header(word) for word in header),
            version=version,
            seen=features,
        )
        address = _serving(services)
        if address and version:
            found = _by_version(services, address, declared, wanted)
        elif address:
            found = _over_http(services, address, deployment, wanted)
        else:
            found = _in_process(services, deployment, wanted)
        notes = [] if screen.as_json else _notes(services, found, wanted)
    for note in notes:
        screen.say(note)
    rows = [(name, _cell(name, value)) for name, value in found.items() if value not in (None, "")]
    screen.show(found, table(["", ""], rows))


def _notes(services: LocalServices, found: Mapping[str, object], wanted: _Wanted) -> Sequence[str]:
    """Which of the entities the version that answered knew nothing of."""
    model, number = str(found["model"]), found["version"]
    if not wanted.keys or not isinstance(number, int) or not number:
        return []
    version = get_version(services.metadata, model, number)
    views = views_of(read_manifest(services.artifacts.path(version.package)))
    keys = {name: [cast("str | int", key)] for name, key in wanted.keys.items()}
    try:
        return [*unknown_notes(services.online, base_views(views), keys, what="this is the score")]
    except (NotReadyError, RetryableError):  # what answered has not needed them either
        return []


def _wanted(
    declared: Deployment,
    keys: Sequence[str],
    request: Sequence[str],
    at: str,
    features: Sequence[str],
) -> _Wanted:
    dataset = declared.model.dataset
    return _Wanted(
        given_values("--key", keys, dataset.entity_dtypes, of="The model"),
        given_values("--request", request, dataset.request_fields, of="The model") if keys else {},
        time_us("--at", at) or 0,
        dict(_pair(word) for word in features),
    )


def _pair(word: str) -> tuple[str, float | None]:
    name, _, value = word.partition("=")
    try:
        number = None if value.strip() in {"", "null"} else float(value)
    except ValueError:
        number = math.nan
    if number is not None and not math.isfinite(number):
        raise UsageError(f"--feature {word!r}: write NAME=NUMBER, finite, or NAME=null.")
    if number is not None and number.is_integer() and abs(number) <= EXACT:
        return name.strip(), int(number)  # features that count take whole numbers alone
    return name.strip(), number


def _header(word: str) -> tuple[str, str]:
    name, sign, value = word.partition("=")
    if not name.strip() or not sign:
        raise UsageError(f"--header {word!r}: write NAME=VALUE.")
    return name.strip().lower(), value.strip()


def _serving(services: LocalServices) -> str:
    """Where a serving process answers; empty when none runs."""
    found = living_processes(services, kind="serve")
    return next((process.address for process in found if process.address), "")


def _over_http(
    services: LocalServices, address: str, deployment: str, wanted: _Wanted
) -> dict[str, object]:
    body: dict[str, object] = {"features": dict(wanted.features)}
    if wanted.keys:
        body = {"entity": dict(wanted.keys)}
    if wanted.request:
        body["request"] = dict(wanted.request)
    if wanted.at_us:
        body["at"] = time_text(wanted.at_us)
    path = f"/v1/deployments/{deployment}/predict{'?features=true' if wanted.seen else ''}"
    return _posted(services, address, path, body, wanted.headers)


def _by_version(
    services: LocalServices, address: str, declared: Deployment, wanted: _Wanted
) -> dict[str, object]:
    """Ask one version, by the inference protocol: its path names it."""
    given = {**wanted.keys, **wanted.request, **wanted.features}
    tensors = [
        {"name": name, "datatype": DATATYPES.get(type(value), "FP64"), "shape": [1],
         "data": [value]}
        for name, value in given.items()
    ]  # fmt: skip
    path = f"/v2/models/{declared.name}/versions/{wanted.version}/infer"
    told = _posted(services, address, path, {"inputs": tensors}, wanted.headers)
    answer = msgspec.convert(told, _Inferred)
    outputs = {one.name: one.data[0] for one in answer.outputs}
    found: dict[str, object] = {"prediction_id": outputs["prediction_id"]}
    classifies = declared.model.dataset.task == "classification"
    found |= _predicted(float(outputs["prediction"]), classifies=classifies)
    route = answer.parameters.get("routes", "champion")
    return found | {
        "model": declared.model.name, "version": int(answer.model_version), "route": route,
    }  # fmt: skip


def _posted(
    services: LocalServices,
    address: str,
    path: str,
    body: Mapping[str, object],
    more: Mapping[str, str],
) -> dict[str, object]:
    headers = {**more, "authorization": f"Bearer {services.token}"}
    url = f"{address}{path}"
    try:
        # The certificate is this machine's own; the address is loopback or was configured.
        answer = httpx.post(url, json=body, headers=headers, timeout=TIMEOUT_S, verify=False)  # noqa: S501
    except httpx.HTTPError as error:
        raise UnavailableError(
            f"The serving process at {address} does not answer: {error}. See 'penstock status'.",
            address=address,
        ) from error
    said: dict[str, object] = answer.json()
    if answer.is_success:
        return said
    fault = said.get("error")
    kind, message = (
        (fault.get("kind"), fault.get("message"))
        if isinstance(fault, dict)
        else (said.get("kind"), fault or said)
    )
    raise KINDS.get(str(kind), UnavailableError)(str(message), status=answer.status_code)


def _in_process(services: LocalServices, deployment: str, wanted: _Wanted) -> dict[str, object]:
    """Load the deployment, ask it once, and log the score like a serving process does."""
    nothing = Fleet()
    fleet = build_fleet(services, nothing, read_target(services.metadata, nothing.target))
    try:
        endpoint = fleet.endpoints[deployment]
        lane = _lane(endpoint, wanted.version) if wanted.version else None
        reads = lane.version.manifest if lane else endpoint.reads
        values, key = None, None
        if not wanted.keys and reads is not None:
            values = _ordered(reads.features, wanted.features)
        given = {**wanted.keys, **wanted.request}
        if wanted.keys:
            key = cast("str | int", given.pop(next(iter(wanted.keys))))
        now_us = services.clock.now_us()
        ask = Ask(
            now_us,
            key=key,
            at_us=wanted.at_us,
            values=values,
            given=given,
            headers=wanted.headers,
        )
        score = asyncio.run(endpoint.score_by(ask, lane) if lane else endpoint.score(ask))
        manifest = endpoint.manifests.get(score.version)
    finally:
        fleet.close()
    task = endpoint.declared.model.dataset.task
    told = _shown(score, classifies=task == "classification")
    if wanted.seen:
        names = manifest.features if manifest else ()
        told["features"] = dict(zip(names, shown_values(services, manifest, score), strict=False))
    return told


def _lane(endpoint: Endpoint, version: int) -> Lane:
    found = endpoint.versions.get(version)
    if found is None:
        known = ", ".join(map(str, sorted(endpoint.versions))) or "none"
        raise NotFoundError(
            f"{endpoint.declared.name!r} does not answer with version {version}, only with {known}."
        )
    return found


def _ordered(names: Sequence[str], given: Mapping[str, float | None]) -> tuple[float | None, ...]:
    missing = [name for name in names if name not in given]
    unknown = [name for name in given if name not in names]
    if missing or unknown:
        faults = [f"--feature {name} is missing" for name in missing]
        faults += [f"{name!r} is no feature. {nearest(name, names)}" for name in unknown]
        raise InputError("; ".join(faults), missing=missing, unknown=unknown)
    return tuple(None if value is None else float(value) for value in map(given.get, names))


def _shown(score: Score, *, classifies: bool) -> dict[str, object]:
    """The answer as a serving process gives it."""
    told: dict[str, object] = {"prediction_id": score.prediction_id}
    told |= _predicted(score.prediction, classifies=classifies)
    told |= {"model": score.model, "version": score.version, "route": score.route}
    return told | {"as_of": time_text(score.at_us), "reason": score.reason}


def _predicted(value: float, *, classifies: bool) -> dict[str, object]:
    if not classifies:
        return {"prediction": value}
    return {
        "prediction": value >= MORE_LIKELY,
        "probability": {"false": 1 - value, "true": value},
    }


def _cell(name: str, value: object) -> str:
    if isinstance(value, float):
        return number(value, 6)
    if isinstance(value, dict):
        return ", ".join(f"{key} {_cell(name, item)}" for key, item in value.items())
    return str(value)
