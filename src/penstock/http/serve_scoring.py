"""Rows of a request on their way to their scores."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Protocol

from penstock.errors import NotFoundError, NotReadyError, UnavailableError
from penstock.scoring import Ask, Endpoint, Together, all_scores

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Coroutine, Mapping, Sequence

    from penstock.records import Manifest, Score
    from penstock.scoring import Lane, RequestTrace, Writer
    from penstock.spec import Deployment

    from .serve_door import Door
    from .serve_keeper import Keeper
    from .serve_schema import Row, Schema

__all__ = ["Answering", "Asked", "Whole", "ask_of", "check_resting", "door_of", "named", "reach",
           "reach_version", "score_all", "score_one"]  # fmt: skip

MOST_DIGITS = 18
"""Of a version's number; Python refuses to read very long ones."""


class Asked(Protocol):
    """A request, over whatever protocol it came."""

    @property
    def arrived_us(self) -> int:
        """When it came, in microseconds since 1970 UTC."""
        ...

    @property
    def request_id(self) -> str:
        """The client's id of it; empty for none."""
        ...

    @property
    def trace(self) -> RequestTrace | None:
        """Its trace; none where it is not traced."""
        ...

    def header(self, wanted: bytes) -> bytes:
        """A header, or what stands for one, by its name in lower case; empty for none."""
        ...


class Answering(Protocol):
    """What answers for a deployment."""

    @property
    def headers(self) -> Sequence[str]:
        """Names of the headers that its routes ask for."""
        ...

    @property
    def writer(self) -> Writer:
        """Where its scores go."""
        ...

    def score(self, ask: Ask) -> Coroutine[None, None, Score]:
        """Score one row."""
        ...


class Whole(Answering, Protocol):
    """What answers for a deployment as its routes have it."""

    @property
    def declared(self) -> Deployment:
        """The deployment."""
        ...

    @property
    def manifests(self) -> Mapping[int, Manifest]:
        """The manifests of its versions, by their number."""
        ...


def door_of(keeper: Keeper, name: str) -> tuple[Door, Schema]:
    """A deployment that can answer.

    Raises:
        NotFoundError: There is none of that name; names the nearest.
        NotReadyError: It has been unloaded, or nothing has been deployed on it.
        UnavailableError: It rests; ``Waking.need`` loads it.
    """
    door = keeper.doors.get(name) or _opened(keeper, name)
    if door.schema is None:
        raise NotReadyError(door.endpoint.no_champion, deployment=name)
    return door, door.schema


def named(keeper: Keeper, name: str, number: str) -> tuple[Door, Manifest, Lane | None]:
    """A deployment, what a client has to fit, and the lane where it names a version.

    Args:
        keeper: What is served.
        name: The deployment.
        number: The version that the client names; empty for whichever its routes give.

    Raises:
        NotFoundError: That version does not answer here.
        NotReadyError: It is a champion that cannot be loaded, or nothing has been deployed.
        PenstockError: What ``door_of`` raises.
    """
    if not number:
        door, schema = door_of(keeper, name)
        return door, schema.manifest, None
    door = _opened(keeper, name)
    endpoint, versions = door.endpoint, door.endpoint.versions
    lane = versions.get(_number(number))
    if lane is not None:
        return door, lane.version.manifest, lane
    absent = endpoint.absent
    if not versions or (absent is not None and absent.version == _number(number)):
        raise NotReadyError(endpoint.no_champion, deployment=name)
    raise _unanswered(name, number, versions)


def check_resting(keeper: Keeper, name: str, number: str) -> None:
    """Refuse the name of a version that would not answer, were the deployment loaded.

    Args:
        keeper: What is served.
        name: A deployment that rests; any other is left to ``named``.
        number: The version that the client names; empty for whichever its routes give.

    Raises:
        NotFoundError: That version does not answer here.
    """
    declared = keeper.resting.get(name)
    if declared is None or not number:
        return
    wanted = keeper.fleet.target.wanted(declared)
    versions = {one for role, one in wanted.items() if not role.startswith("shadow")}
    if versions and _number(number) not in versions:
        raise _unanswered(name, number, versions)


def _opened(keeper: Keeper, name: str) -> Door:
    """A deployment that is loaded, though nothing may answer for it yet."""
    door = keeper.doors.get(name)
    if door is not None:
        return door
    if name in keeper.unloaded:
        raise NotReadyError(keeper.unloaded[name], deployment=name)
    if name in keeper.resting:  # loaded for this request, and gone again
        raise UnavailableError(f"{name!r} is not loaded. Try again.", retry_after_s=1)
    hint = "Declare it and run 'penstock apply'."
    raise NotFoundError.of("deployment", name, [*keeper.doors, *keeper.resting], hint=hint)


def _number(given: str) -> int:
    """A version as a client names it; -1 for what is none."""
    return int(given) if given.isdecimal() and len(given) <= MOST_DIGITS else -1


def _unanswered(name: str, number: str, versions: Collection[int]) -> NotFoundError:
    return NotFoundError(
        f"{name!r} does not answer with version {number!r}, only with "
        f"{', '.join(map(str, sorted(versions)))}.",
        deployment=name,
    )


async def reach(keeper: Keeper, name: str) -> tuple[Whole, Schema]:
    """What answers for a deployment as its routes have it, and what it takes.

    One that rests is loaded, unless something of it can answer without a model. Where its champion
    cannot be loaded, what falls back answers.

    Raises:
        UnavailableError: It takes longer to load than it may take for an answer.
        PenstockError: What ``door_of`` raises.
    """
    if name in keeper.resting:
        standing = await keeper.waking.stand_in(name)
        if standing is not None:
            return standing.stand_in, standing.schema
        await keeper.waking.need(name)
    found = keeper.doors.get(name)
    if found is not None and found.instead is not None:
        return found.endpoint, found.instead
    door, schema = door_of(keeper, name)
    return door.endpoint, schema


async def reach_version(keeper: Keeper, name: str, number: str) -> tuple[Answering, Manifest]:
    """What answers for a deployment, or one version of it that the client names.

    Where the deployment rests, a version that is named may answer with what it gave before.

    Args:
        keeper: What is served.
        name: The deployment.
        number: The version; empty for whichever its routes give.

    Returns:
        What answers, and the manifest that a request has to fit.

    Raises:
        NotFoundError: That version does not answer here.
        PenstockError: What ``reach`` raises.
    """
    if not number:
        answering, schema = await reach(keeper, name)
        return answering, schema.manifest
    check_resting(keeper, name, number)
    standing = await keeper.waking.stand_in(name)
    if standing is not None:
        stand_in, one = standing.stand_in, _number(number)
        manifest = stand_in.manifests.get(one)
        if manifest is not None:
            return _OneVersion(stand_in.writer, lambda ask: stand_in.score_by(ask, one)), manifest
    await keeper.waking.need(name)
    door, manifest, lane = named(keeper, name, number)
    if lane is None:
        return door.endpoint, manifest
    endpoint, asked = door.endpoint, lane
    return _OneVersion(endpoint.writer, lambda ask: endpoint.score_by(ask, asked)), manifest


class _OneVersion:
    """One version of a deployment, for a client that names it.

    Args:
        writer: Where its scores go.
        score: Scores one row.
    """

    headers: Sequence[str] = ()

    def __init__(
        self, writer: Writer, score: Callable[[Ask], Coroutine[None, None, Score]]
    ) -> None:
        self.writer = writer
        self._score = score

    def score(self, ask: Ask) -> Coroutine[None, None, Score]:
        """Score one row."""
        return self._score(ask)


def ask_of(answering: Answering, row: Row, call: Asked) -> Ask:
    """A row of a request as the deployment takes it."""
    ask = Ask(call.arrived_us, row.key, row.at_us, row.values, call.request_id, row.given)
    if answering.headers:
        ask.headers = {
            name: call.header(name.encode()).decode("latin-1") for name in answering.headers
        }
    if call.trace is not None:
        ask.trace = trace = call.trace
        trace.decoded_us = trace.decoded_us or answering.writer.clock.now_us()
    return ask


def score_one(answering: Answering, row: Row, call: Asked) -> Coroutine[None, None, Score]:
    """Score a row.

    Raises:
        PenstockError: What ``Endpoint.score`` raises.
    """
    return answering.score(ask_of(answering, row, call))


async def score_all(answering: Answering, rows: list[Row], call: Asked) -> list[Score]:
    """Score rows together; the first that fails fails the request, after all are done.

    Raises:
        PenstockError: What ``Endpoint.score`` raises; an ``InputError`` says in which row.
    """
    if len(rows) == 1:
        return [await score_one(answering, rows[0], call)]
    asks = [ask_of(answering, row, call) for row in rows]
    if not asks or not isinstance(answering, Endpoint):
        scoring = [answering.score(ask) for ask in asks]
        return all_scores(await asyncio.gather(*scoring, return_exceptions=True))
    ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def end(_: Together) -> None:
        if not ended.done():  # cancelled a moment ago, and nobody has been told yet
            ended.set_result(None)

    together = Together(answering, end)
    together.begin(asks)
    try:
        await ended
    except asyncio.CancelledError:
        together.abandon()
        raise
    return together.scores()
