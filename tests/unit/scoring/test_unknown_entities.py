"""Rows of entities of which nothing is online: served and counted, or refused."""

from __future__ import annotations

import asyncio
import pickle
from typing import TYPE_CHECKING, Literal, cast

import msgspec
import pytest

import penstock as ps
from penstock.errors import PenstockError, UnavailableError, UnknownEntityError
from penstock.records import Score
from penstock.scoring import ServedVersion, Together
from penstock.testing.lanes import FixedReader, Summing, Tenfold, ask_of, declare, endpoint_of
from penstock.testing.manifests import manifest_of

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy as np
    from numpy.typing import NDArray

    from penstock.deployment import Engine
    from penstock.features import OnlineReader
    from penstock.scoring import Ask, Endpoint
    from penstock.spec import Deployment, Fallback
    from penstock.testing.lanes import LaneWorld

    Missing = Literal["serve", "refuse"]

STRANGER = FixedReader.stranger
BACK = ps.Fallback(deadline="1s", to=["previous", "constant"], value=0.25)


class Shy(Summing):
    """Fails at the features of a stranger."""

    def predict(self, x: NDArray[np.float64]) -> NDArray[np.float64]:
        """The sums, or an error."""
        if not x.any(axis=1).all():
            raise ValueError("who is that?")
        return super().predict(x)


def _declared(missing: Missing, fallback: Fallback | None = None) -> Deployment:
    return msgspec.structs.replace(declare(fallback=fallback), missing=missing)


def _version(number: int, engine: Engine, reader: FixedReader) -> ServedVersion:
    manifest = manifest_of("v.a", "v.b", version=number)
    return ServedVersion(manifest, engine, cast("OnlineReader", reader), slow=False)


def _knowing() -> FixedReader:
    """A store that knows everybody, until it is told otherwise."""
    reader = FixedReader()
    reader.stranger = ""
    return reader


async def _one_by_one(endpoint: Endpoint, asks: list[Ask]) -> list[Score | BaseException]:
    scoring = [endpoint.score(ask) for ask in asks]
    return await asyncio.gather(*scoring, return_exceptions=True)


async def _by_version(endpoint: Endpoint, asks: list[Ask]) -> list[Score | BaseException]:
    lane = endpoint.versions[2]
    scoring = [endpoint.score_by(ask, lane) for ask in asks]
    return await asyncio.gather(*scoring, return_exceptions=True)


def _setting(end: asyncio.Event) -> Callable[[Together], None]:
    return lambda _: end.set()


async def _told(endpoint: Endpoint, asks: list[Ask]) -> list[Score | BaseException]:
    """Each a request of its own, answered without a task, yet in one batch."""
    told: list[Together] = []
    ends = [asyncio.Event() for _ in asks]
    for ask, end in zip(asks, ends, strict=True):
        together = Together(endpoint, _setting(end))
        together.begin([ask])
        told.append(together)
    found: list[Score | BaseException] = []
    for together, end in zip(told, ends, strict=True):
        await end.wait()
        try:
            found += together.scores()
        except PenstockError as error:
            found.append(error)
    return found


WAYS = {"one by one": _one_by_one, "by version": _by_version, "told": _told}


@pytest.mark.parametrize("way", WAYS)
def test_they_are_served_and_counted(world: LaneWorld, way: str) -> None:
    endpoint = endpoint_of(world, declare(), champion=world.version(2))
    asks = [ask_of(world, key=STRANGER), ask_of(world, key="abc")]

    found = asyncio.run(WAYS[way](endpoint, asks))

    assert [one.prediction for one in found if isinstance(one, Score)] == [0.0, 3.5]
    assert endpoint.counters.unknown == {"served": 1, "refused": 0}


@pytest.mark.parametrize("slow", [False, True])
@pytest.mark.parametrize("way", WAYS)
def test_they_are_refused_and_their_neighbours_answered(
    world: LaneWorld, way: str, *, slow: bool
) -> None:
    endpoint = endpoint_of(world, _declared("refuse"), champion=world.version(2, Shy(), slow=slow))
    # The circuit of a version at fault would open after five failures in a row.
    asks = [ask_of(world, key=STRANGER) for _ in range(9)] + [ask_of(world, key="abc")]

    *refused, known = asyncio.run(WAYS[way](endpoint, asks))
    (handed_in,) = asyncio.run(WAYS[way](endpoint, [ask_of(world, 0.5, 1.0)]))

    assert [one.prediction for one in (known, handed_in) if isinstance(one, Score)] == [3.5, 1.5]
    assert {type(one) for one in refused} == {UnknownEntityError}
    assert endpoint.counters.unknown == {"served": 0, "refused": 9}
    assert endpoint.circuits["direction@2"].failures == 0
    assert (endpoint.breach, endpoint.counters.errors) == (None, {})
    assert [one.prediction for one in world.logged()] == [3.5, 1.5]


def test_the_error_says_who_is_unknown_and_what_to_do(world: LaneWorld) -> None:
    endpoint = endpoint_of(world, _declared("refuse"), champion=world.version(2))

    (error,) = asyncio.run(_one_by_one(endpoint, [ask_of(world, key=STRANGER)]))

    assert isinstance(error, UnknownEntityError)
    assert error.kind == "unknown_entity"
    assert error.message == (
        "The online store has nothing of symbol 'stranger' in any view that direction@2 reads, and "
        "the deployment refuses such rows. Name an entity that stored records tell of, ingest the "
        "records of this one, or send its features."
    )
    assert pickle.loads(pickle.dumps(error)).facts["entity"] == {"symbol": STRANGER}  # noqa: S301


def test_a_request_of_several_rows_is_refused_with_the_place_of_the_row(world: LaneWorld) -> None:
    endpoint = endpoint_of(world, _declared("refuse"), champion=world.version(2))

    async def ask() -> None:
        end = asyncio.Event()
        together = Together(endpoint, lambda _: end.set())
        together.begin([ask_of(world, key="abc"), ask_of(world, key=STRANGER)])
        await end.wait()
        with pytest.raises(UnknownEntityError, match=r"rows\[1\]: The online store has nothing of"):
            together.scores()

    asyncio.run(ask())


@pytest.mark.parametrize("way", ["one by one", "told"])
def test_the_fallback_answers_in_their_place(world: LaneWorld, way: str) -> None:
    reader = FixedReader()
    champion, previous = world.version(2, Shy()), _version(1, Tenfold(), reader)
    endpoint = endpoint_of(world, _declared("refuse", BACK), champion=champion, previous=previous)

    (constant,) = asyncio.run(WAYS[way](endpoint, [ask_of(world, key=STRANGER)]))
    reader.stranger = ""
    (older,) = asyncio.run(WAYS[way](endpoint, [ask_of(world, key=STRANGER)]))

    assert isinstance(constant, Score)
    assert isinstance(older, Score)
    assert (constant.engine, constant.prediction) == ("constant", 0.25)
    assert "has nothing of symbol 'stranger'" in constant.reason
    assert (older.version, older.route, older.prediction) == (1, "fallback", 85.0)
    causes = {("constant", "unknown_entity"): 1, ("previous", "unknown_entity"): 1}
    assert endpoint.counters.fallbacks == causes
    assert endpoint.counters.unknown == {"served": 0, "refused": 2}
    assert [circuit.failures for circuit in endpoint.circuits.values()] == [0, 0]
    assert endpoint.counters.errors == {}


@pytest.mark.parametrize("has_previous", [False, True])
@pytest.mark.parametrize("slow", [False, True])
def test_a_row_that_what_stands_in_refuses_is_told_its_own_fault(
    world: LaneWorld, *, has_previous: bool, slow: bool
) -> None:
    """And not that a version is away, for which one would try again."""
    champion = world.version(2, slow=slow)
    previous = {"previous": world.version(1)} if has_previous else {}
    declared = _declared("refuse", ps.Fallback(deadline="100ms"))
    endpoint = endpoint_of(world, declared, champion=champion, **previous)
    circuit = endpoint.circuits["direction@2"]
    while not circuit.is_open:
        circuit.failed(world.writer.clock.now_us())
    failures = circuit.failures

    stranger, known = asyncio.run(
        _one_by_one(endpoint, [ask_of(world, key=STRANGER), ask_of(world, key="abc")])
    )

    assert isinstance(stranger, UnknownEntityError)
    assert f"that direction@{1 if has_previous else 2} reads" in stranger.message
    assert isinstance(known, Score)
    assert known.prediction == 3.5
    assert endpoint.counters.unknown == {"served": 0, "refused": 1}
    assert circuit.failures in {failures, 0}


def test_a_circuit_without_a_fallback_looks_nothing_up(world: LaneWorld) -> None:
    endpoint = endpoint_of(world, _declared("refuse"), champion=world.version(2))
    circuit = endpoint.circuits["direction@2"]
    while not circuit.is_open:
        circuit.failed(world.writer.clock.now_us())

    (error,) = asyncio.run(_one_by_one(endpoint, [ask_of(world, key=STRANGER)]))

    assert isinstance(error, UnavailableError)
    assert "circuit of direction@2 is open" in error.message


def test_a_version_that_is_named_repeats_what_it_said_while_they_were_known(
    world: LaneWorld,
) -> None:
    fallback = ps.Fallback(deadline="1s", to=["cached", "constant"], value=0.25)
    reader = _knowing()
    champion = _version(2, Summing(), reader)
    endpoint = endpoint_of(world, _declared("refuse", fallback), champion=champion)
    asks = [ask_of(world, key=STRANGER)]

    (first,) = asyncio.run(_by_version(endpoint, asks))
    reader.stranger = STRANGER
    (again,) = asyncio.run(_by_version(endpoint, asks))

    assert isinstance(first, Score)
    assert isinstance(again, Score)
    assert (again.route, again.prediction) == ("cached", first.prediction)
    assert endpoint.counters.fallbacks == {("cached", "unknown_entity"): 1}
    assert endpoint.counters.unknown == {"served": 0, "refused": 1}


def test_what_falls_back_for_other_reasons_serves_them_and_counts(world: LaneWorld) -> None:
    endpoint = endpoint_of(
        world,
        _declared("serve", BACK),
        champion=world.version(2, Shy()),
        previous=world.version(1),
    )

    (score,) = asyncio.run(_one_by_one(endpoint, [ask_of(world, key=STRANGER)]))

    assert isinstance(score, Score)
    assert score.version == 1
    assert endpoint.counters.unknown == {"served": 1, "refused": 0}


def test_a_time_before_anything_is_known_is_told_first(world: LaneWorld) -> None:
    endpoint = endpoint_of(world, _declared("refuse", BACK), champion=world.version(2))
    ask = ask_of(world, key=STRANGER)
    ask.at_us = 1

    (error,) = asyncio.run(_one_by_one(endpoint, [ask]))

    assert isinstance(error, PenstockError)
    assert error.kind == "input"


def test_a_shadow_refuses_them_as_well(world: LaneWorld) -> None:
    champion, shadow = _version(2, Summing(), _knowing()), world.version(3)
    declared = msgspec.structs.replace(declare(ps.shadow("candidate")), missing="refuse")
    endpoint = endpoint_of(world, declared, champion=champion, shadow=shadow)

    async def ask() -> None:
        await endpoint.score(ask_of(world, key=STRANGER))
        with pytest.raises(UnknownEntityError):  # it goes the shadow's way after the one before
            await endpoint.lanes["shadow"].submit(ask_of(world, key=STRANGER))

    asyncio.run(ask())
    assert endpoint.counters.shadows_dropped == 1
