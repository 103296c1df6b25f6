"""Observations: the true outcomes, taken in at once and joined to their scores later.

Exactly once: messages go from the topic to the table of their deployment in the order of their
offsets, and an append is numbered by the greatest offset in it. What is in a table is so always a
beginning of the topic; a drain that was killed anywhere reads from the last commit again and
leaves out what is in already. An observation of an unknown prediction is kept: it may arrive
before its score does.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, TypeAlias

import msgspec
import polars as pl

from penstock.errors import InputError
from penstock.plan import Catalogue
from penstock.ports import announce, compact_grown
from penstock.records import Event, Observation

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from penstock.ports import LogEntry, Services

    Row: TypeAlias = tuple[str, float, int, int, str, str]  # the columns of SCHEMA

__all__ = ["OBSERVATIONS_TOPIC", "REJECTED_TOPIC", "drain_observations", "observe"]

OBSERVATIONS_TOPIC = "observations"
"""The topic that outcomes arrive on."""

REJECTED_TOPIC = "observations.rejected"
"""Where messages go that are no observation, as they came."""

GROUP = "tables"
MEASURE_NAME = re.compile(r"[a-z][a-z0-9_]{0,62}")
PAGE = 5_000
SCHEMA = pl.Schema(
    {
        "prediction_id": pl.String,
        "value": pl.Float64,
        "observed_at_us": pl.Int64,
        "_offset": pl.Int64,
        "measures": pl.String,  # a JSON object; empty where there are none
        "sender": pl.String,  # who told it; empty where that is not known
    }
)
ADDED = {name: SCHEMA[name] for name in ("measures", "sender")}
MEASURES = 20

Name = Annotated[str, msgspec.Meta(pattern="^[a-z0-9_-]+$")]
Identifier = Annotated[str, msgspec.Meta(min_length=1)]


class Observed(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A message of the topic: an observation and the deployment that it is about."""

    deployment: Name
    prediction_id: Identifier
    value: float
    observed_at_us: int
    measures: Mapping[str, float] = {}


def observe(services: Services, deployment: str, observations: Sequence[Observation]) -> int:
    """Take in true outcomes. They are durable when this returns.

    The same observation sent again is kept once. A later one of the same prediction replaces it.

    Args:
        services: The ports.
        deployment: Name of the deployment that made the predictions.
        observations: The outcomes.

    Returns:
        How many were accepted: all of them.

    Raises:
        NotFoundError: There is no such deployment.
        InputError: Some are wrong; says which and why, and none was taken.
    """
    declared = Catalogue.load(services.metadata).deployment(deployment)
    classifies = declared.model.dataset.task == "classification"
    faults = [
        f"{place}: {fault}"
        for place, observation in enumerate(observations)
        for fault in _faults(observation, classifies=classifies)
    ]
    if faults:
        lines = "\n".join(f"  - {fault}" for fault in faults)
        raise InputError(
            f"{len(faults)} faults in {len(observations)} observations of deployment "
            f"{deployment!r}; none was taken. Correct these and send all again:\n{lines}",
            deployment=deployment,
            faults=faults,
        )
    messages = [_message(deployment, observation) for observation in observations]
    if messages:
        services.log.publish(
            OBSERVATIONS_TOPIC,
            [msgspec.json.encode(message) for message in messages],
            ids=[_identity(message) for message in messages],
            sender=services.actor,
        )
    return len(messages)


def drain_observations(services: Services) -> int:
    """Bring every observation that has arrived into the table of its deployment.

    Announces ``observation.received`` per deployment. Safe to call from anywhere at any time.

    Args:
        services: The ports.

    Returns:
        How many messages were read.

    Raises:
        UnavailableError: Another process has been draining for too long.
    """
    read = 0
    with services.locks.hold("observations"):
        end = services.log.end(OBSERVATIONS_TOPIC)
        after = services.log.committed(OBSERVATIONS_TOPIC, GROUP)
        while after < end:
            page = services.log.read(OBSERVATIONS_TOPIC, after=after, limit=PAGE)
            for deployment, rows in _by_deployment(services, page).items():
                _store(services, deployment, rows)
            after = page[-1].offset
            services.log.commit(OBSERVATIONS_TOPIC, GROUP, after)
            read += len(page)
    return read


def _faults(observation: Observation, *, classifies: bool) -> Iterator[str]:
    if not observation.prediction_id:
        yield "prediction_id is empty; send the id that came with the prediction"
    yield from _measure_faults(observation.measures)
    if not math.isfinite(observation.value):
        yield f"value {observation.value} is not finite"
    elif classifies and observation.value not in {0.0, 1.0}:
        yield f"value {observation.value:g} is no outcome of a classification; send 0 or 1"


def _measure_faults(measures: Mapping[str, float]) -> Iterator[str]:
    if len(measures) > MEASURES:
        yield f"{len(measures)} measures; send {MEASURES} at most"
    for name, value in measures.items():
        if not MEASURE_NAME.fullmatch(name):
            yield f"measure {name!r}: use lower-case letters, digits and '_', a letter first"
        elif not math.isfinite(value):
            yield f"measure {name!r} is {value}, which is not finite"


def _message(deployment: str, observation: Observation) -> Observed:
    return Observed(
        deployment=deployment,
        prediction_id=observation.prediction_id,
        value=float(observation.value),
        observed_at_us=observation.observed_at_us,
        measures=dict(observation.measures),
    )


def _identity(message: Observed) -> str:
    """The same for messages that say the same, so that a repeated request adds nothing."""
    told = (
        f"{message.deployment}/{message.prediction_id}/{message.observed_at_us}/{message.value!r}"
    )
    if not message.measures:
        return told
    return f"{told}/{msgspec.json.encode(message.measures, order='sorted').decode()}"


def _by_deployment(services: Services, page: Sequence[LogEntry]) -> dict[str, list[Row]]:
    found: dict[str, list[Row]] = {}
    decoder = msgspec.json.Decoder(Observed)
    for entry in page:
        try:
            said = decoder.decode(entry.payload)
        except msgspec.DecodeError:
            # Whoever wrote it bypassed observe(); it must not hold up those behind it.
            services.log.publish(REJECTED_TOPIC, [entry.payload], ids=[str(entry.offset)])
            continue
        measures = msgspec.json.encode(said.measures).decode() if said.measures else ""
        told = (said.prediction_id, said.value, said.observed_at_us)
        row = (*told, entry.offset, measures, entry.sender)
        found.setdefault(said.deployment, []).append(row)
    return found


def _store(services: Services, deployment: str, rows: list[Row]) -> None:
    table = f"observations/{deployment}"
    number = rows[-1][3]
    applied = services.tables.applied(table, table)
    fresh = [row for row in rows if row[3] > applied]
    if fresh:
        frame = pl.DataFrame(fresh, schema=SCHEMA, orient="row")
        services.tables.widen(table, ADDED)
        before = services.tables.version(table)
        services.tables.append(table, frame, app=table, number=number)
        compact_grown(services.tables, table, since=before)
    announce(
        services.log,
        Event(
            event_id=f"observation.received:{deployment}:{number}",
            kind="observation.received",
            subject=deployment,
            ids={"offset": str(number)},
            at_us=services.clock.now_us(),
        ),
    )
