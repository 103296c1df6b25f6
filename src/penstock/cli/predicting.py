"""The command that asks for a prediction: of the serving process, or in this one without any."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, cast

import httpx
import msgspec
import typer

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
    from penstock.spec import Deployment

__all__ = ["predict"]

TIMEOUT_S = 30.0
MORE_LIKELY = 0.5
KINDS: Mapping[str, type[PenstockError]] = {
    "access": AccessError,
    "conflict": ConflictError,
    "input": InputError,
    "not_found": NotFoundError,
    "not_ready": NotReadyError,
    "state": StateError,
    "unavailable": UnavailableError,
}


class _Wanted(msgspec.Struct, frozen=True):
    """What is asked: keys and request fields with a time, or features."""

    keys: Mapping[str, Given]
    request: Mapping[str, Given]
    at_us: int
    features: Mapping[str, float | None]


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
    at: str = typer.Option("", "--at", help="Time of the features, with its zone; now otherwise."),
    feature: list[str] = typer.Option(
        [], "--feature", help="NAME=VALUE; all the model's features, in place of --key."
    ),
) -> None:
    """Ask for one prediction."""
    if bool(key) == bool(feature):
        raise UsageError("Give either --key, or --feature for every feature of the model.")
    with opened_as(screen, "writer") as services:
        declared = Catalogue.load(services.metadata).deployment(deployment)
        wanted = _wanted(declared, key, request, at, feature)
        address = _serving(services)
        if address:
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
    return name.strip(), number


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
    headers = {"Authorization": f"Bearer {services.token}"}
    url = f"{address}/v1/deployments/{deployment}/predict"
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
        (fault.get("kind"), fault.get("message")) if isinstance(fault, dict) else ("", said)
    )
    raise KINDS.get(str(kind), UnavailableError)(str(message), status=answer.status_code)


def _in_process(services: LocalServices, deployment: str, wanted: _Wanted) -> dict[str, object]:
    """Load the deployment, ask it once, and log the score like a serving process does."""
    nothing = Fleet()
    fleet = build_fleet(services, nothing, read_target(services.metadata, nothing.target))
    try:
        endpoint = fleet.endpoints[deployment]
        values, key = None, None
        if not wanted.keys and endpoint.reads is not None:
            values = _ordered(endpoint.reads.features, wanted.features)
        given = {**wanted.keys, **wanted.request}
        if wanted.keys:
            key = cast("str | int", given.pop(next(iter(wanted.keys))))
        now_us = services.clock.now_us()
        ask = Ask(now_us, key=key, at_us=wanted.at_us, values=values, given=given)
        score = asyncio.run(endpoint.score(ask))
    finally:
        fleet.close()
    task = endpoint.declared.model.dataset.task
    return _shown(score, classifies=task == "classification")


def _ordered(names: Sequence[str], given: Mapping[str, float | None]) -> tuple[float | None, ...]:
    missing = [name for name in names if name not in given]
    unknown = [name for name in given if name not in names]
    if missing or unknown:
        faults = [f"--feature {name} is missing" for name in missing]
        faults += [f"{name!r} is no feature. {nearest(name, names)}" for name in unknown]
        raise InputError("; ".join(faults), missing=missing, unknown=unknown)
    return tuple(given[name] for name in names)


def _shown(score: Score, *, classifies: bool) -> dict[str, object]:
    """The answer as a serving process gives it."""
    told: dict[str, object] = {"prediction_id": score.prediction_id}
    if classifies:
        told["prediction"] = score.prediction >= MORE_LIKELY
        told["probability"] = {"false": 1 - score.prediction, "true": score.prediction}
    else:
        told["prediction"] = score.prediction
    told |= {"model": score.model, "version": score.version, "route": score.route}
    return told | {"as_of": time_text(score.at_us), "reason": score.reason}


def _cell(name: str, value: object) -> str:
    if isinstance(value, float):
        return number(value, 6)
    if isinstance(value, dict):
        return ", ".join(f"{key} {_cell(name, item)}" for key, item in value.items())
    return str(value)
