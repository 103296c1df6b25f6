"""Explanations over HTTP: what each feature adds to the prediction of a row.

Worker processes compute them, one request at a time, so that scoring shares neither its event loop
nor its memory with them. Nothing is scored: no prediction id, no entry in the score log.
"""

from __future__ import annotations

import math
from functools import partial
from typing import TYPE_CHECKING

import msgspec
import numpy as np

from penstock.errors import InputError
from penstock.features import check_past
from penstock.registry import get_version, views_of
from penstock.scoring import explain_in_worker, in_row, unknown_error
from penstock.spec import key_of

from .serve_aliases import MODELS, tensors_of_json, versioned
from .serve_errors import Answer
from .serve_schema import moment
from .serve_scoring import check_resting, door_of, named
from .serve_turns import Turns
from .serve_v2_rows import rows_of_tensors

if TYPE_CHECKING:
    from collections.abc import Sequence

    from penstock.records import Manifest
    from penstock.scoring import Explanation, ServedVersion

    from .serve_call import Call
    from .serve_door import Door
    from .serve_keeper import Keeper
    from .serve_schema import Row

__all__ = ["EXPLAINS", "MOST_EXPLAINED", "ExplainDoor", "is_explain", "told_explanation"]

EXPLAINS = ("/v1/deployments/{name}/explain", "/v1/models/{name}:explain")
DEPLOYMENTS, EXPLAIN, ALIAS = "/v1/deployments/", "/explain", ":explain"
MOST_EXPLAINED = 16
FROM_TABLES = "send the features as they were, which 'penstock features get --at' shows"

Values = list[list[float | None]]


def is_explain(path: str) -> bool:
    """Whether a path asks for an explanation."""
    return (path.startswith(DEPLOYMENTS) and path.endswith(EXPLAIN)) or (
        path.startswith(f"{MODELS}/") and path.endswith(ALIAS)
    )


class ExplainDoor:
    """Answers there.

    Args:
        keeper: What is served, and who may ask.

    Attributes:
        turns: Turns at the worker process that explains.
    """

    def __init__(self, keeper: Keeper) -> None:
        self._keeper = keeper
        self.turns = Turns()

    async def answer(self, call: Call) -> Answer:
        """Answer a request.

        Raises:
            PenstockError: It is refused, or cannot be answered.
        """
        self._keeper.guard.check(call.authorization, "reader")
        call.need("POST")
        path: str = call.scope["path"]
        body = await call.body()
        if path.endswith(ALIAS):
            name, number = versioned(path[len(MODELS) + 1 : -len(ALIAS)])
            check_resting(self._keeper, name, number)
            await self._keeper.waking.need(name)
            door, manifest, lane = named(self._keeper, name, number)
            tensors, _ = tensors_of_json(body, manifest)
            rows, several = rows_of_tensors(manifest, tensors), True
            version = (lane or door.endpoint.lanes["champion"]).version
        else:
            name = path[len(DEPLOYMENTS) : -len(EXPLAIN)]
            await self._keeper.waking.need(name)
            door, schema = door_of(self._keeper, name)
            rows, several = schema.rows_of(body)
            version = door.endpoint.lanes["champion"].version
        if len(rows) > MOST_EXPLAINED:
            raise InputError(
                f"{len(rows)} rows are asked to be explained; {MOST_EXPLAINED} at most may be at "
                "once. Send them one after the other."
            )
        await self._check_values(call, door, version)
        told = await self._explained(door, version, rows, call.arrived_us)
        return Answer(200, msgspec.json.encode({"explanations": told} if several else told[0]))

    async def _check_values(self, call: Call, door: Door, version: ServedVersion) -> None:
        """Refuse whoever may not read all of the features: contributions tell of their values."""
        guard, manifest = self._keeper.guard, version.manifest
        refused = guard.refusal(
            call.authorization,
            version.label,
            lambda: manifest.features,
            lambda: views_of(manifest),
        )
        if refused is not None:
            await guard.refuse(refused, call.authorization, key_of(door.endpoint.declared))

    async def _explained(
        self, door: Door, version: ServedVersion, rows: Sequence[Row], now_us: int
    ) -> list[dict[str, object]]:
        refuses = door.endpoint.declared.missing == "refuse"
        work = partial(self._explain, version, rows, now_us, refuses_unknown=refuses)
        as_of, found = await self.turns.take(work)
        return [_told(version.manifest, *part) for part in zip(as_of, found, strict=True)]

    def _explain(
        self, version: ServedVersion, rows: Sequence[Row], now_us: int, *, refuses_unknown: bool
    ) -> tuple[list[int], list[Explanation]]:
        """Look up what is not handed in, and have a worker explain it; in a thread."""
        ports = self._keeper.ports
        values, as_of = _values(version, rows, now_us, refuses_unknown=refuses_unknown)
        record = get_version(ports.metadata, version.manifest.model, version.manifest.version)
        folder = ports.artifacts.path(record.package)
        return as_of, explain_in_worker(ports.executor, folder, values)


def _values(
    version: ServedVersion, rows: Sequence[Row], now_us: int, *, refuses_unknown: bool
) -> tuple[Values, list[int]]:
    """The features of rows in the version's order, and the time each row's are of.

    Raises:
        UnknownEntityError: Nothing is online of the entities of a row, and such are refused.
    """
    values: Values = [list(row.values or ()) for row in rows]
    as_of = [row.at_us or now_us for row in rows]
    places = [place for place, row in enumerate(rows) if row.values is None]
    keys = [key for key in (rows[place].key for place in places) if key is not None]
    if keys:
        times = np.array([as_of[place] for place in places], dtype=np.int64)
        given = [rows[place].given for place in places]
        found, found_us, _, unknown = version.read(keys, times, given)
        check_past(times, found_us, now_us, FROM_TABLES)
        if refuses_unknown and unknown:
            place = places[unknown[0]]
            error = unknown_error(version, rows[place].key, rows[place].given)
            raise in_row(place, error) if len(rows) > 1 else error
        for place, row, at_us in zip(places, found.tolist(), found_us.tolist(), strict=True):
            values[place] = [None if math.isnan(value) else value for value in row]
            as_of[place] = at_us
    return values, as_of


def _told(manifest: Manifest, at_us: int, found: Explanation) -> dict[str, object]:
    """An explanation as a client is told it."""
    about = {"model": manifest.model, "version": manifest.version, "as_of": moment(at_us)}
    return about | told_explanation(found)


def told_explanation(found: Explanation, top: int = 0) -> dict[str, object]:
    """What an explanation says.

    Args:
        found: The explanation.
        top: How many contributions are told, the greatest first, with the sum of the ``others``; 0
            for all, in the model's order.
    """
    parts = list(found.contributions)
    told: dict[str, object] = {
        "method": found.method,
        "space": found.space,
        "base": found.base,
        "output": found.output,
        "prediction": found.prediction,
        "background_rows": found.background_rows,
    }
    if top:
        parts.sort(key=lambda part: -abs(part.contribution))
        told["others"] = math.fsum(part.contribution for part in parts[top:])
        parts = parts[:top]
    return told | {"contributions": [msgspec.to_builtins(part) for part in parts]}
