"""Scores, observations, and what the serving processes say of themselves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import ClassVar, Literal

import msgspec

from .base import Record

__all__ = ["ALL_WITHHELD", "Given", "Observation", "Score", "ServingStatus"]

Given = float | int | str | bool | None
"""A value that came with a request."""


ALL_WITHHELD = "*"
"""What a score says that is stored without its features."""


class Score(msgspec.Struct, frozen=True):
    """One prediction, as it is logged.

    To make one by the places of its fields takes a tenth of the time of naming them.

    Attributes:
        prediction_id: Its id: 26 characters, ordered by time.
        deployment: The deployment that was asked.
        model: Name of the model that answered.
        version: Its version; 0 where a constant answered.
        route: Role that answered: ``champion``, ``challenger``, ``header``, ``rule``, ``shadow``,
            ``batch`` or ``fallback``; ``cached`` or ``precomputed`` where a score that was there
            answered again.
        engine: What computed it.
        entity: The entity's key as text; empty when features were handed in.
        at_us: The time the features are of, in microseconds since 1970 UTC.
        features: Values the model saw, in the order of the manifest; null for none.
        prediction: Probability of the positive class, or the regression's value; NaN for a row of
            a batch run or a job for which the version has none.
        scored_at_us: When it was computed.
        duration_us: From the request's arrival to its answer, inside the server.
        progress: Last raw batch number folded into the online store, per view, when features
            were read.
        origin: ``online`` (features looked up), ``request`` (handed in) or ``batch``; that of the
            first where a score answers again.
        reason: Why this route answered, such as ``share 0.35``, why a fallback did, which score
            answers again, or why there is no prediction; else empty.
        request_id: The client's id of the request; else empty.
        given: What the request said beside the entity's key: keys of further entities and the
            request fields of on-demand views, by name.
        withheld: Features that are not stored as they are: their full names with commas between
            them, ``*`` where none is stored; empty where all are.
        parts: Of a graph: what each step gave that was computed for the row, null for none; the
            step that answered left out, and all of them where features are withheld.
        trace_id: The trace that the request belongs to, as 32 hexadecimal digits; empty where it
            is not traced.
    """

    prediction_id: str
    deployment: str
    model: str
    version: int
    route: str
    engine: str
    entity: str
    at_us: int
    features: tuple[float | None, ...]
    prediction: float
    scored_at_us: int
    duration_us: int
    progress: Mapping[str, int] = {}
    origin: Literal["online", "request", "batch"] = "online"
    reason: str = ""
    request_id: str = ""
    given: Mapping[str, Given] = {}
    withheld: str = ""
    parts: Mapping[str, float | None] = {}
    trace_id: str = ""


class Observation(msgspec.Struct, frozen=True, kw_only=True):
    """The true outcome of one score.

    Attributes:
        prediction_id: The score it belongs to.
        value: 0 or 1 for a classification, else the number.
        observed_at_us: When it was observed, in microseconds since 1970 UTC.
        measures: What else came of it, by name, such as ``{"revenue": 12.5}``.
    """

    prediction_id: str
    value: float
    observed_at_us: int
    measures: Mapping[str, float] = {}


class ServingStatus(Record, frozen=True):
    """What one serving process has loaded, written whenever that changes.

    Attributes:
        process_id: Operating-system id of the process.
        address: Where it answers, such as ``http://127.0.0.1:8002``.
        versions: Role to ``model@version``, per deployment, as ``deployment/role``.
        revision: Sum of the alias revisions it has taken in, per model.
        errors: What could not be loaded, per ``deployment/role``.
        unloaded: Deployments that it was told not to serve.
        routes: Revision of the changes to the routes that it has taken in, per deployment.
        at: When.
    """

    KIND: ClassVar[str] = "serving_status"

    process_id: int
    address: str
    versions: Mapping[str, str]
    revision: Mapping[str, int]
    at: datetime
    errors: Mapping[str, str] = {}
    unloaded: Sequence[str] = ()
    routes: Mapping[str, int] = {}

    @property
    def key(self) -> str:
        """The process's id."""
        return str(self.process_id)
