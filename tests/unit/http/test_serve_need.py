"""Deployments that are loaded when they are asked for."""

from __future__ import annotations

import asyncio
from contextlib import ExitStack, suppress
from typing import TYPE_CHECKING

import msgspec
import pytest

import penstock as ps
from penstock.deployment import deploy
from penstock.errors import NotReadyError, UnavailableError
from penstock.http import serve_waking
from penstock.http.serve_keeper import Keeper
from penstock.http.serve_meter import Meter
from penstock.http.serve_need import LOADS_AT_ONCE, Loads
from penstock.http.serve_scoring import door_of
from penstock.http.serve_waking import ByNeed
from penstock.plan import Catalogue, apply
from penstock.registry import promote
from penstock.runtime import open_services
from penstock.scoring import Ask
from penstock.scoring.score_log import finished, segments

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine
    from typing import Any

    from penstock.runtime import LocalServices
    from penstock.testing.served_project import ServedProject

SECOND_US = 1_000_000
QUEUE_US = 123_000


def _with_keeper(
    project: ServedProject,
    by_need: ByNeed,
    talk: Callable[[Keeper, LocalServices], Coroutine[Any, Any, None]],
) -> None:
    async def run() -> None:
        with open_services(project.home, kind="serve") as services:
            keeper = Keeper(
                services, address="here", limit_bytes=1 << 20, by_need=by_need, queue_us=QUEUE_US
            )
            await keeper.start()
            try:
                await talk(keeper, services)
            finally:
                await keeper.stop()

    with open_services(project.home, actor="tester") as services:
        deploy(services, "btc", version=1, wait_s=0)
    asyncio.run(run())


async def _until(holds: Callable[[], bool]) -> None:
    for _ in range(1_000):
        if holds():
            return
        await asyncio.sleep(0.02)
    raise AssertionError("it never came to hold")


async def _score(keeper: Keeper, services: LocalServices, name: str) -> float:
    for _ in range(100):
        with suppress(UnavailableError):  # late on a busy machine; the load goes on
            await keeper.waking.need(name)
            break
    door, _ = door_of(keeper, name)
    ask = Ask(services.clock.now_us(), key="BTC")
    return (await door.endpoint.score(ask)).prediction


def test_nothing_is_loaded_before_it_is_asked_for_and_once_however_many_ask(
    served: ServedProject,
) -> None:
    async def talk(keeper: Keeper, services: LocalServices) -> None:
        assert keeper.ready
        assert dict(keeper.doors) == {}
        assert set(keeper.resting) == {"btc", "split"}
        scores = await asyncio.gather(*[_score(keeper, services, "btc") for _ in range(20)])
        assert len(set(scores)) == 1
        assert (set(keeper.doors), set(keeper.resting)) == ({"btc"}, {"split"})
        assert keeper.waking.loads.done == 1
        lanes = keeper.doors["btc"].endpoint.lanes.values()
        assert {lane.queue_us for lane in lanes} == {QUEUE_US}

    _with_keeper(served, ByNeed(), talk)


def test_what_rests_goes_and_comes_back_with_what_it_counted(served: ServedProject) -> None:
    async def talk(keeper: Keeper, services: LocalServices) -> None:
        before = await _score(keeper, services, "btc")
        counters = keeper.doors["btc"].endpoint.counters
        await _until(lambda: "btc" in keeper.resting)
        assert keeper.waking.let_go == 1
        assert await _score(keeper, services, "btc") == before
        assert keeper.doors["btc"].endpoint.counters is counters
        assert sum(sum(one.buckets) for one in counters.durations.values()) == 2
        meter = Meter(keeper)
        assert _counted(meter) == {"btc": 2}
        await _until(lambda: "btc" in keeper.resting)
        assert _counted(meter) == {"btc": 2}

    _with_keeper(served, ByNeed(idle_us=SECOND_US // 2), talk)


def _counted(meter: Meter) -> dict[str, object]:
    return {str(one["name"]): one["inference_count"] for one in meter.statistics()}


def test_what_answers_with_scores_it_has_is_in_use(served: ServedProject) -> None:
    """No version is asked then."""
    routes = (ps.champion(), ps.cached(max_age="1h"))

    async def talk(keeper: Keeper, services: LocalServices) -> None:
        await _score(keeper, services, "btc")
        endpoint = keeper.doors["btc"].endpoint
        used_us = endpoint.used_us
        again = await endpoint.score(Ask(services.clock.now_us(), key="BTC"))
        assert again.route == "cached"
        assert endpoint.used_us == again.scored_at_us > used_us

    with open_services(served.home, actor="tester") as services:
        found = Catalogue.load(services.metadata).deployment("btc")
        project = ps.Project("served", declarations=[msgspec.structs.replace(found, routes=routes)])
        apply(services.metadata, project, actor="tester", now=services.clock.now())
    _with_keeper(served, ByNeed(), talk)


def test_room_is_made_by_the_one_used_least_lately(served: ServedProject) -> None:
    async def talk(keeper: Keeper, services: LocalServices) -> None:
        door_of_first = None
        for name in ("btc", "split", "btc", "split"):
            await _score(keeper, services, name)
            # While the registry is looked at nothing goes; a moment later it does.
            await _until(lambda: len(keeper.doors) == 1)
            assert name in keeper.doors
            if door_of_first is None:
                door_of_first = keeper.doors[name]
        assert door_of_first is not None
        # Whoever was let in before goes on with what was let go of.
        score = await door_of_first.endpoint.score(Ask(services.clock.now_us(), key="BTC"))
        assert score.version == 1

    _with_keeper(served, ByNeed(memory_bytes=1), talk)


def test_what_is_logged_by_who_was_let_in_before_is_finished_too(
    served: ServedProject, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(serve_waking, "LET_GO_S", 0.3)

    async def talk(keeper: Keeper, services: LocalServices) -> None:
        await _score(keeper, services, "btc")
        endpoint = keeper.doors["btc"].endpoint
        await _until(lambda: "btc" in keeper.resting)
        await endpoint.score(Ask(services.clock.now_us(), key="BTC"))
        files = segments(services.score_log / "btc")

        def are_finished() -> bool:
            with ExitStack() as stack:
                return all(stack.enter_context(finished(file)) for file in files)

        assert not are_finished()
        await _until(are_finished)  # else no drain could ever remove them

    _with_keeper(served, ByNeed(idle_us=SECOND_US // 4), talk)


def test_what_rests_is_loaded_as_the_registry_says_then(served: ServedProject) -> None:
    async def talk(keeper: Keeper, services: LocalServices) -> None:
        await _score(keeper, services, "btc")
        promote(services, "direction", 2)
        await _score(keeper, services, "split")
        await _until(lambda: {_version(keeper, name) for name in ("btc", "split")} == {2})

    _with_keeper(served, ByNeed(), talk)


def _version(keeper: Keeper, name: str) -> int:
    champion = keeper.doors[name].endpoint.champion
    return champion.manifest.version if champion else 0


def test_what_was_told_to_go_stays_away(served: ServedProject) -> None:
    async def talk(keeper: Keeper, services: LocalServices) -> None:
        await keeper.unload("split", actor="ann")
        with pytest.raises(NotReadyError, match="was unloaded"):
            await _score(keeper, services, "split")
        await keeper.load("split", actor="ann")
        assert "split" in keeper.doors

    _with_keeper(served, ByNeed(), talk)


def test_loads_are_few_at_a_time_and_who_waits_too_long_is_told_to_come_again() -> None:
    running: set[str] = set()
    most: list[int] = []
    let = asyncio.Event()

    async def load(name: str) -> None:
        running.add(name)
        most.append(len(running))
        await let.wait()
        running.remove(name)
        if name == "bad":
            raise NotReadyError("no such thing")

    async def talk() -> None:
        loads = Loads(load)
        with pytest.raises(UnavailableError, match="longer than 20 ms") as late:
            await loads.wait("a", 20_000)
        assert late.value.facts["retry_after_s"] == 1
        waits = [loads.wait(name, 10 * SECOND_US) for name in ("a", "a", "b", "c", "bad")]
        asyncio.get_running_loop().call_later(0.1, let.set)
        found = await asyncio.gather(*waits, return_exceptions=True)
        assert found[:4] == [None] * 4
        assert isinstance(found[4], NotReadyError)
        assert (loads.done, loads.late, max(most)) == (3, 1, LOADS_AT_ONCE)

    asyncio.run(talk())
