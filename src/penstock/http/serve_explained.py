"""Predictions with what their graph says beside them: the steps that explain others.

A score is made and logged as ever; what was asked beside it is computed from the features that the
model saw, and takes none of the time that an answer of the model has. What can be explained exactly
is, in this process; a worker process estimates the rest.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, TypeAlias

import msgspec
import structlog

from penstock.errors import InputError, PenstockError, UserCodeError
from penstock.registry import explainers_in, get_version
from penstock.scoring import exact_explainer, steps_in_worker

from .arrow_columns import arrow_asked
from .serve_errors import Answer
from .serve_explain import MOST_EXPLAINED, told_explanation
from .serve_scoring import score_all
from .serve_stream import stream_form
from .serve_turns import Turns

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from penstock.records import Score
    from penstock.scoring import Explanation, Lane, ServedVersion

    from .serve_call import Call
    from .serve_echo import Echo, Seen
    from .serve_keeper import Keeper

__all__ = ["ExplainedDoor"]

_Told: TypeAlias = "dict[str, object]"
_Found: TypeAlias = "Explanation | Exception"

LOST = (
    "The features of this score are not stored, as the deployment's log declares, so it cannot be "
    "explained."
)


class ExplainedDoor:
    """Answers predictions that ask for more than a score.

    Args:
        keeper: What is served.
        echo: Says who may be told what a model saw.
        worker: Turns at the worker process that estimates.
    """

    def __init__(self, keeper: Keeper, echo: Echo, worker: Turns) -> None:
        self._keeper = keeper
        self._echo = echo
        self._worker = worker
        self._here = Turns()
        self._log = structlog.get_logger("penstock.serve")

    async def answer(self, call: Call, name: str, body: bytes) -> Answer:
        """Answer a request to predict that asks for explanations.

        Args:
            call: The request.
            name: The deployment.
            body: Its body.

        Raises:
            AccessError: The caller may not read all of the features: contributions tell of values.
            InputError: The graph explains no step, or the request does not fit.
            UnavailableError: Too many wait to be explained.
            PenstockError: What scoring raises.
        """
        if any(arrow_asked(call.content_type, call.accept)) or stream_form(call.accept):
            raise InputError("'explain' goes with JSON. Leave it out, or send and take JSON.")
        await self._keeper.waking.need(name)
        seen = await self._echo.reach(call, name)
        if not any(explainers_in(one) for one in seen.manifests.values()):
            raise InputError(
                f"{name!r} explains no step. Declare ps.Explain in the steps of its graph and "
                f"train it, or ask 'POST /v1/deployments/{name}/explain'."
            )
        rows, several = seen.schema.rows_of(body)
        if len(rows) > MOST_EXPLAINED:
            raise InputError(
                f"{len(rows)} rows are asked to be explained; {MOST_EXPLAINED} at most may be at "
                "once. Send them one after the other."
            )
        self._here.check()
        self._worker.check()
        scores = await score_all(seen.answering, rows, call)
        door = self._keeper.doors.get(name)  # it may have been told to rest meanwhile
        lanes = door.endpoint.versions if door else {}
        told = await self._told(lanes, scores, seen, with_features=call.flag("features"))
        return Answer(200, msgspec.json.encode({"predictions": told} if several else told[0]))

    async def _told(
        self,
        lanes: Mapping[int, Lane],
        scores: Sequence[Score],
        seen: Seen,
        *,
        with_features: bool,
    ) -> list[_Told]:
        manifests = seen.manifests if with_features else None
        told: list[_Told] = []
        for score in scores:
            one: _Told = msgspec.to_builtins(seen.schema.answer(score, seen=manifests))
            lane = lanes.get(score.version)
            version = lane.version if lane and score.version in seen.manifests else None
            one["explanations"] = await self._explained(version, score) if version else {}
            told.append(one)
        return told

    async def _explained(self, version: ServedVersion, score: Score) -> _Told:
        """What the explainers of the version that answered say of a score; null of other steps."""
        graph = version.graph
        if graph is None:
            return {}
        explainers = graph.program.graph.explainers
        computed = {*score.parts, graph.output}
        wanted = [name for name, step in explainers.items() if step.of in computed]
        found = await self._found(version, score, wanted)
        told: _Told = {}
        for name, step in explainers.items():
            one = found.get(name)
            if one is None or isinstance(one, Exception):
                told[name] = None if one is None else self._error(one)
            else:
                told[name] = {"of": step.of, **told_explanation(one, step.top)}
        return told

    async def _found(
        self, version: ServedVersion, score: Score, wanted: Sequence[str]
    ) -> Mapping[str, _Found]:
        if score.withheld or len(score.features) != len(version.features):
            return dict.fromkeys(wanted, InputError(LOST))
        # Whatever goes wrong, the score has been made, and is told.
        try:
            work = partial(self._exactly, version, wanted, score.features)
            folder, found = await self._here.take(work)
        except Exception as error:  # noqa: BLE001 - see above
            return dict.fromkeys(wanted, error)
        rest = [name for name in wanted if name not in found]
        if not rest:
            return found
        executor = self._keeper.ports.executor
        try:
            asked = partial(steps_in_worker, executor, folder, rest, score.features)
            estimates: Sequence[_Found] = await self._worker.take(asked)
        except Exception as error:  # noqa: BLE001 - see above
            estimates = [error] * len(rest)
        return {**found, **dict(zip(rest, estimates, strict=True))}

    def _exactly(
        self, version: ServedVersion, wanted: Sequence[str], values: Sequence[float | None]
    ) -> tuple[Path, dict[str, _Found]]:
        """What can be explained exactly; in a thread, one at a time."""
        ports, manifest, graph = self._keeper.ports, version.manifest, version.graph
        record = get_version(ports.metadata, manifest.model, manifest.version)
        folder = ports.artifacts.path(record.package)
        found: dict[str, _Found] = {}
        for name in wanted:
            if name not in version.explainers and graph is not None:
                made = exact_explainer(folder, manifest, graph.program, name)
                version.explainers[name] = made
            exact = version.explainers[name]
            if exact is None:
                continue
            try:
                found[name] = exact.explain(values)
            except PenstockError as error:
                found[name] = error
        return folder, found

    def _error(self, error: Exception) -> _Told:
        if isinstance(error, PenstockError):
            kind, message = error.kind, error.message
            if isinstance(error, UserCodeError):
                self._log.error("an explanation failed", error=message)
                message = error.plain
        else:
            self._log.error("an explanation failed", exc_info=error)
            kind, message = "internal", "The explanation failed; the server's log says where."
        return {"error": {"kind": kind, "message": message}}
