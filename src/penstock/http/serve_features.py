"""Features by key over HTTP: one entity, rows, columns or an Arrow stream at a time."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import msgspec

from penstock.errors import NotFoundError
from penstock.features import built_to, check_past, space_of, view_ages
from penstock.spec import base_views, key_of

from .arrow_columns import ARROW, arrow_asked
from .serve_errors import Answer
from .serve_feature_arrow import arrow_answer, arrow_wanted
from .serve_feature_schema import FeatureSchema
from .serve_schema import moment

if TYPE_CHECKING:
    from penstock.ports import Services
    from penstock.spec import FeatureService, FeatureView

    from .serve_call import Call
    from .serve_feature_door import FeatureDoor
    from .serve_keeper import Keeper

__all__ = ["FEATURES", "answer_features"]

FEATURES = "/v1/features"


async def answer_features(keeper: Keeper, call: Call) -> Answer:
    """Answer a request below ``/v1/features``.

    Raises:
        PenstockError: It is refused, or cannot be answered.
    """
    keeper.guard.check(call.authorization, "reader")
    name = call.scope["path"][len(FEATURES) :].removeprefix("/")
    if not name:
        call.need("GET")
        services = [door.schema.service for door in keeper.features.values()]
        return await _described(keeper, *services)
    door = keeper.features.get(name)
    if door is None:
        hint = "Declare it and run 'penstock apply'."
        raise NotFoundError.of("feature service", name, keeper.features, hint=hint)
    if call.scope["method"] in {"GET", "HEAD"}:
        return await _described(keeper, door.schema.service, one=True)
    call.need("GET", "POST")
    schema, guard = door.schema, keeper.guard
    refused = guard.refusal(call.authorization, schema.service_id, lambda: schema.service.names)
    if refused is not None:
        await guard.refuse(refused, call.authorization, key_of(schema.service))
    answer = await _read(door, call)
    door.counters.durations.add(keeper.ports.clock.now_us() - call.arrived_us)
    return answer


async def _read(door: FeatureDoor, call: Call) -> Answer:
    body = await call.body()
    schema, counters = door.schema, door.counters
    is_arrow, as_arrow = arrow_asked(call.content_type, call.accept)
    wanted = (arrow_wanted if is_arrow else FeatureSchema.wanted)(schema, body, call.arrived_us)
    found = await door.reads.read(wanted.keys, wanted.at_us, wanted.request)
    check_past(wanted.at_us, found.as_of_us, call.arrived_us)
    counters.rows += wanted.rows
    counters.unknown += len(found.unknown)
    if call.arrived_us >= door.taken.due_us:
        door.taken.take(wanted, found, call.arrived_us)
    until_us = door.freshness.stale(wanted.at_us)
    for view in until_us:
        counters.stale[view] = counters.stale.get(view, 0) + 1
    stale = {name: moment(end_us) for name, end_us in until_us.items()}
    if not as_arrow:
        return Answer(200, schema.answer(wanted, found, stale))
    headers = (
        (b"content-type", ARROW),
        (b"x-penstock-service-id", schema.service_id.encode()),
        (b"x-penstock-unknown", str(len(found.unknown)).encode()),
        *([(b"x-penstock-stale", msgspec.json.encode(stale))] if stale else []),
    )
    return Answer(200, arrow_answer(schema.service, found), headers)


async def _described(keeper: Keeper, *services: FeatureService, one: bool = False) -> Answer:
    """What there is to know of services; in a thread, since records are read."""
    found = await asyncio.to_thread(lambda: [_about(keeper.ports, each) for each in services])
    return Answer(200, msgspec.json.encode(found[0] if one else {"services": found}))


def _about(ports: Services, service: FeatureService) -> dict[str, object]:
    return {
        "name": service.name,
        "service_id": service.service_id,
        "description": service.description,
        "owner": service.owner,
        "tags": service.tags,
        "entities": {entity.name: entity.dtype.value for entity in service.entities},
        "request": {name: dtype.value for name, dtype in service.request_fields.items()},
        "features": {name: dtype.value for name, dtype in service.dtypes.items()},
        "views": [_freshness(ports, view) for view in base_views(service.views)],
    }


def _freshness(ports: Services, view: FeatureView) -> dict[str, object]:
    """How far a view has come in the online store: its last raw batch, and when that arrived."""
    number = built_to(ports.online, space_of(view))
    told: dict[str, object] = {"name": view.name, "ready": number is not None, "last_batch": number}
    for age in view_ages(ports.metadata, ports.online, [view]):
        told["arrived_at"] = moment(age.arrived_us)
        told["waiting_batches"] = age.waiting
        told["freshness"] = view.freshness or None
        until_us = age.fresh_until_us
        told["fresh_until"] = None if until_us is None else moment(until_us)
        told["stale"] = age.is_stale(ports.clock.now_us())
    return told
