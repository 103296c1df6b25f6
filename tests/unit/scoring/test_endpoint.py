from __future__ import annotations

import asyncio
import threading
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
import pytest

import penstock as ps
from penstock.errors import (
    DeclarationError,
    InputError,
    NotReadyError,
    OverloadedError,
    PenstockError,
    StaleError,
    UnavailableError,
    UserCodeError,
)
from penstock.features import ViewAge
from penstock.records import Score
from penstock.scoring import Ask, Endpoint, KeptScores
from penstock.testing.lanes import LaneWorld, Summing, Tenfold
from penstock.testing.lanes import ask_of as _ask
from penstock.testing.lanes import declare as _declare
from penstock.testing.lanes import endpoint_of as _endpoint

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from penstock.scoring import ServedVersion


@pytest.fixture(params=["waits", "is told"], autouse=True)
def _way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever waits in a task, and whoever is told without one, come to the same."""
    waits = Endpoint.score

    async def is_told(self: Endpoint, ask: Ask) -> Score:
        lane = self.lane_of(ask) if self.is_quick else None
        if lane is None or not self.takes_at_once(ask, lane):
            return await waits(self, ask, lane)
        future: asyncio.Future[Score] = asyncio.get_running_loop().create_future()
        self.give(ask, lane, future)
        try:
            score = await future
        except (TimeoutError, PenstockError) as error:
            return await self.instead(ask, lane, error)
        self.answered(ask, lane, score)
        return score

    if request.param == "is told":
        monkeypatch.setattr(Endpoint, "score", is_told)


def _score(endpoint: Endpoint, *asks: Ask) -> list[Score]:
    async def scenario() -> list[Score]:
        scores = [await endpoint.score(ask) for ask in asks]
        await asyncio.sleep(0.01)  # the shadows
        return scores

    return asyncio.run(scenario())


def test_before_the_first_deployment(world: LaneWorld) -> None:
    endpoint = _endpoint(world, _declare())

    with pytest.raises(NotReadyError, match="'penstock train m', then 'penstock deploy btc'"):
        _score(endpoint, _ask(world, 1.0, 1.0))


def test_the_champion_answers_and_is_counted(world: LaneWorld) -> None:
    endpoint = _endpoint(world, _declare(), champion=world.version(2))

    (score,) = _score(endpoint, _ask(world, 1.0, 2.0))

    assert (score.prediction, score.route, score.version) == (3.0, "champion", 2)
    assert endpoint.counters.answered == {("champion", 2): 1}


def test_the_previous_version_answers_for_one_that_fails(world: LaneWorld) -> None:
    fallback = ps.Fallback(deadline="100ms", to="previous")
    endpoint = _endpoint(
        world, _declare(fallback=fallback), champion=world.version(2), previous=_other(world, 1)
    )

    (score,) = _score(endpoint, _ask(world, 13.0, 2.0))

    assert (score.route, score.version, score.prediction) == ("fallback", 1, 150.0)
    # What the version said may hold values of features; the log has it, and no caller.
    assert score.reason == (
        "direction@2 failed with ValueError; see the log of the serving process."
    )
    assert endpoint.counters.fallbacks == {("previous", "failed"): 1}
    assert [logged.version for logged in world.logged()] == [1]


def test_the_previous_version_answers_for_one_that_is_late(world: LaneWorld) -> None:
    fallback = ps.Fallback(deadline="30ms", to="previous")
    engine = Summing()
    engine.gate.clear()
    late = world.version(2, engine, slow=True)
    endpoint = _endpoint(
        world, _declare(fallback=fallback), champion=late, previous=world.version(1)
    )

    (score,) = _score(endpoint, _ask(world, 1.0, 2.0))
    engine.gate.set()

    assert (score.route, score.version, score.prediction) == ("fallback", 1, 3.0)
    assert score.reason == "direction@2 was later than 24 ms"  # the rest is for what falls back
    assert score.duration_us >= 24_000
    assert len(world.logged()) == 1


def test_a_constant_answers_when_there_is_nothing_else(world: LaneWorld) -> None:
    fallback = ps.Fallback(deadline="30ms", to="constant", value=0.25)
    endpoint = _endpoint(world, _declare(fallback=fallback), champion=world.version(2))

    (score,) = _score(endpoint, _ask(world, 13.0, 2.0))

    assert (score.prediction, score.version, score.engine) == (0.25, 0, "constant")
    assert world.logged() == [score]


def test_without_a_fallback_the_failure_is_told(world: LaneWorld) -> None:
    endpoint = _endpoint(world, _declare(), champion=world.version(2))

    with pytest.raises(Exception, match="13 is not lucky"):
        _score(endpoint, _ask(world, 13.0, 2.0))


def test_a_row_at_fault_is_told_so_and_no_failure_of_the_version(world: LaneWorld) -> None:
    fallback = ps.Fallback(deadline="30ms", to="constant", value=0.25)
    endpoint = _endpoint(world, _declare(fallback=fallback), champion=world.version(2))

    for _ in range(10):
        with pytest.raises(InputError, match="no finite prediction"):
            _score(endpoint, _ask(world, float("inf"), 2.0))

    assert _score(endpoint, _ask(world, 1.0, 1.0))[0].route == "champion"


def _stale(world: LaneWorld, version: ServedVersion) -> ServedVersion:
    """The version, of whose views one is a minute too old."""
    now_us = world.writer.clock.now_us()
    age = ViewAge(
        view="v", source="s", batch=3, waiting=0, arrived_us=now_us - 120_000_000,
        allowed_us=60_000_000,
    )  # fmt: skip
    version.ages = (age,)
    version.fresh_until_us = now_us - 60_000_000
    return version


def test_stale_features_are_served_and_counted(world: LaneWorld) -> None:
    endpoint = _endpoint(world, _declare(), champion=_stale(world, world.version(2)))

    scores = _score(endpoint, _ask(world, key="abc"), _ask(world, 1.0, 2.0))

    assert [score.route for score in scores] == ["champion", "champion"]
    assert endpoint.counters.stale == {"served": 1, "refused": 0}
    assert endpoint.counters.stale_views == {"v": 1}


@pytest.mark.parametrize(("stale", "outcome"), [("serve", "served"), ("refuse", "refused")])
def test_who_names_a_version_is_counted_as_well(world: LaneWorld, stale: str, outcome: str) -> None:
    declared = msgspec.structs.replace(_declare(), stale=stale)
    endpoint = _endpoint(world, declared, champion=_stale(world, world.version(2)))

    async def ask() -> None:
        with suppress(StaleError):
            await endpoint.score_by(_ask(world, key="abc"), endpoint.versions[2])

    asyncio.run(ask())
    assert endpoint.counters.stale == {"served": 0, "refused": 0, outcome: 1}
    assert endpoint.counters.stale_views == {"v": 1}


def test_what_goes_to_no_version_the_champion_takes(world: LaneWorld) -> None:
    declared = _declare(ps.challenger(share=0.25), ps.challenger(share=0.25, version=7))
    endpoint = _endpoint(world, declared, champion=world.version(2), challenger=world.version(3))
    assert endpoint.shares == {"champion": 0.75, "challenger": 0.25, "challenger @7": 0.0}


def test_stale_features_are_refused_where_that_is_declared(world: LaneWorld) -> None:
    engine = Summing()
    champion = _stale(world, world.version(2, engine))
    declared = msgspec.structs.replace(_declare(), stale="refuse")
    endpoint = _endpoint(world, declared, champion=champion)

    for _ in range(20):
        with pytest.raises(StaleError, match=r"view 'v' are stale.*2m ago.*allows 1m"):
            _score(endpoint, _ask(world, key="abc"))

    assert endpoint.counters.stale == {"served": 0, "refused": 20}
    assert endpoint.counters.stale_views == {"v": 20}
    assert engine.batches == []
    # No circuit opened: what is handed in is answered, and what was fresh at the time asked.
    past = Ask(0, key="abc", at_us=champion.fresh_until_us)
    assert [one.route for one in _score(endpoint, _ask(world, 1.0, 2.0), past)] == ["champion"] * 2


def test_a_fallback_answers_in_the_place_of_stale_features(world: LaneWorld) -> None:
    fallback = ps.Fallback(deadline="1s", to="previous", value=0.25)
    declared = msgspec.structs.replace(_declare(fallback=fallback), stale="refuse")
    champion, previous = _stale(world, world.version(2)), world.version(1)
    endpoint = _endpoint(world, declared, champion=champion, previous=previous)

    (fresh,) = _score(endpoint, _ask(world, key="abc"))
    _stale(world, previous)
    (constant,) = _score(endpoint, _ask(world, key="abc"))

    assert (fresh.version, fresh.route) == (1, "fallback")
    assert (constant.engine, constant.prediction) == ("constant", 0.25)
    assert "are stale" in constant.reason


def test_repeated_failures_open_the_circuit(world: LaneWorld) -> None:
    fallback = ps.Fallback(deadline="1s", to="previous")
    engine = Summing()
    champion = world.version(2, engine)
    endpoint = _endpoint(
        world, _declare(fallback=fallback), champion=champion, previous=_other(world, 1)
    )
    _score(endpoint, *[_ask(world, 13.0, 0.0) for _ in range(5)])
    asked = len(engine.batches)

    (score,) = _score(endpoint, _ask(world, 1.0, 2.0))

    assert len(engine.batches) == asked
    assert score.reason == "circuit of direction@2 is open"
    assert score.version == 1


def test_too_much_is_nobodys_fault(world: LaneWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("penstock.scoring.lane.QUEUE_ROWS", 64)
    old, new = Summing(), Summing()
    endpoint = _endpoint(
        world,
        _declare(fallback=ps.Fallback(deadline="5s", to="previous")),
        champion=world.version(2, new),
        previous=world.version(1, old),
    )

    async def scenario() -> list[Score | BaseException]:
        asks = [Ask(number, values=(1.0, 2.0)) for number in range(100)]
        return await asyncio.gather(*[endpoint.score(ask) for ask in asks], return_exceptions=True)

    found = asyncio.run(scenario())

    assert [type(one) for one in found] == [Score] * 64 + [OverloadedError] * 36
    assert (sum(new.batches), old.batches) == (64, [])
    assert endpoint.circuits["direction@2"].failures == 0


def test_late_without_a_fallback_is_unavailable(
    world: LaneWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("penstock.scoring.endpoint.LONGEST_WAIT_US", 20_000)
    engine = Summing()
    engine.gate.clear()
    late = world.version(2, engine, slow=True)
    endpoint = _endpoint(world, _declare(), champion=late)

    with pytest.raises(UnavailableError, match="later than 20 ms, and nothing falls back"):
        _score(endpoint, _ask(world, 1.0, 2.0))
    engine.gate.set()


def test_a_challenger_answers_its_entities_always(world: LaneWorld) -> None:
    endpoint = _endpoint(
        world,
        _declare(ps.challenger(share=0.5)),
        champion=world.version(2),
        challenger=world.version(3),
    )
    keys = [f"k{number}" for number in range(40)] * 2

    scores = _score(endpoint, *[_ask(world, key=key) for key in keys])

    by_key = {key: {s.route for s in scores if s.entity == key} for key in keys}
    assert all(len(routes) == 1 for routes in by_key.values())
    assert {route for routes in by_key.values() for route in routes} == {"champion", "challenger"}


def test_shadows_score_everything_and_answer_nothing(world: LaneWorld) -> None:
    endpoint = _endpoint(
        world, _declare(ps.shadow("candidate")), champion=world.version(2), shadow=world.version(9)
    )

    scores = _score(endpoint, _ask(world, 1.0, 2.0), _ask(world, key="abc"))

    assert [score.version for score in scores] == [2, 2]
    routes = sorted((logged.route, logged.version) for logged in world.logged())
    assert routes == [("champion", 2), ("champion", 2), ("shadow", 9), ("shadow", 9)]
    assert endpoint.counters.answered == {("champion", 2): 2}


def test_a_shadow_that_fails_is_only_counted(world: LaneWorld) -> None:
    endpoint = _endpoint(
        world,
        _declare(ps.shadow("candidate")),
        champion=_other(world, 2),
        shadow=world.version(9),
    )

    (score,) = _score(endpoint, _ask(world, 13.0, 2.0))

    assert score.version == 2
    assert endpoint.counters.shadows_dropped == 1


def test_versions_with_other_features_get_theirs(world: LaneWorld) -> None:
    champion = world.version(2, features=("v.a", "v.b"))
    fewer = world.version(3, features=("v.b",))
    more = world.version(4, features=("v.a", "v.c"))
    shadowed = _endpoint(world, _declare(), champion=champion, shadow=fewer)
    _score(shadowed, _ask(world, 1.0, 2.0))
    assert {s.version: s.features for s in world.logged()} == {2: (1.0, 2.0), 3: (2.0,)}

    dropped = _endpoint(world, _declare(), champion=champion, shadow=more)
    _score(dropped, _ask(world, 1.0, 2.0))
    assert dropped.counters.shadows_dropped == 1


def _other(world: LaneWorld, number: int) -> ServedVersion:
    return world.version(number, Tenfold())


class _Nothing(Summing):
    """Predicts no number."""

    def predict(self, x: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.full(len(x), np.nan)


def test_a_row_without_a_prediction_is_asked_of_the_version_before(world: LaneWorld) -> None:
    fallback = ps.Fallback(deadline="100ms")
    endpoint = _endpoint(
        world,
        _declare(fallback=fallback),
        champion=world.version(2, _Nothing()),
        previous=world.version(1),
    )

    (score,) = _score(endpoint, _ask(world, 1.0, 2.0))

    assert (score.version, score.prediction) == (1, 3.0)
    assert "direction@2 has no finite prediction" in score.reason
    assert endpoint.circuits["direction@2"].failures == 1


def test_a_row_whose_prediction_is_no_probability_is_asked_of_the_version_before(
    world: LaneWorld,
) -> None:
    endpoint = _endpoint(
        world,
        _declare(fallback=ps.Fallback(deadline="100ms")),
        champion=world.classifier(2, Tenfold()),
        previous=world.classifier(1),
    )

    scores = _score(endpoint, *[_ask(world, 0.25, 0.5) for _ in range(5)])

    assert {(score.version, score.prediction) for score in scores} == {(1, 0.75)}
    assert "direction@2 predicts 7.5 for these features" in scores[0].reason
    assert endpoint.circuits["direction@2"].is_open
    assert endpoint.counters.fallbacks == {("previous", "failed"): 5}


def test_a_row_that_no_version_has_a_prediction_for_is_at_fault(world: LaneWorld) -> None:
    endpoint = _endpoint(
        world,
        _declare(fallback=ps.Fallback(deadline="100ms", value=0.5)),
        champion=world.version(2, _Nothing()),
        previous=world.version(1, _Nothing()),
    )

    with pytest.raises(InputError, match="direction@2 has no finite prediction"):
        _score(endpoint, _ask(world, 1.0, 2.0))

    assert endpoint.circuits["direction@2"].failures == 0


def test_for_a_challenger_that_fails_the_champion_answers(world: LaneWorld) -> None:
    endpoint = _endpoint(
        world,
        _declare(ps.challenger(share=0.99), fallback=ps.Fallback(deadline="100ms")),
        champion=_other(world, 2),
        challenger=world.version(3),
        previous=_other(world, 1),
    )

    scores = _score(endpoint, *[_ask(world, 13.0, 0.0, key=f"k{n}") for n in range(4)])

    assert {score.version for score in scores} == {2}


@pytest.mark.parametrize(
    ("on_breach", "previous_fails", "known"),
    [("return", False, True), ("return", True, False), ("stay", False, False)],
)
def test_a_champion_that_fails_again_after_its_circuit_opened_is_no_good(
    world: LaneWorld, *, on_breach: str, previous_fails: bool, known: bool
) -> None:
    declared = msgspec.structs.replace(
        _declare(fallback=ps.Fallback(deadline="100ms", value=0.5)), on_breach=on_breach
    )
    previous = world.version(1) if previous_fails else _other(world, 1)
    endpoint = _endpoint(world, declared, champion=world.version(2), previous=previous)
    circuit = endpoint.circuits["direction@2"]

    _score(endpoint, *[_ask(world, 13.0, 0.0) for _ in range(5)])
    assert circuit.is_open
    assert endpoint.breach is None
    circuit.succeeded()  # it recovers, and fails again within a minute
    scores = _score(endpoint, *[_ask(world, 13.0, 0.0) for _ in range(6)])
    score = scores[-1]

    assert (endpoint.breach is not None) == known
    if endpoint.breach:
        assert endpoint.breach.version == 2
        assert "failed with ValueError" in endpoint.breach.reason
    assert score.version == (0 if previous_fails else 1)


class _Held(Summing):
    """Answers once it has been asked and been let go; the asker may be let go a little later."""

    def __init__(self) -> None:
        super().__init__()
        self.asked = threading.Event()

    def predict(self, x: NDArray[np.float64]) -> NDArray[np.float64]:
        self.asked.set()
        return super().predict(x)

    def let_go_late(self) -> None:
        """Set the gate well after the deadline of what is asked next."""
        self.asked.wait()
        time.sleep(0.05)
        self.gate.set()


def test_one_batch_that_is_late_moves_a_version_to_a_thread(world: LaneWorld) -> None:
    engine = _Held()
    endpoint = _endpoint(
        world,
        _declare(fallback=ps.Fallback(deadline="20ms", value=0.5)),
        champion=world.version(2, engine),
    )
    lane = endpoint.lanes["champion"]
    engine.gate.clear()

    async def scenario() -> list[Score]:
        other = threading.Thread(target=engine.let_go_late)
        other.start()
        first = await endpoint.score(_ask(world, 1.0, 2.0))
        other.join()
        engine.gate.clear()
        second = await endpoint.score(_ask(world, 1.0, 2.0))
        assert not engine.gate.is_set()  # it did not wait for the version
        engine.gate.set()
        return [first, second]

    assert not lane.slow
    first, second = asyncio.run(scenario())

    assert lane.slow
    assert (first.route, second.route) == ("champion", "fallback")
    assert len(engine.batches) == 2


class _Fickle(Summing):
    """Fails once it is told to."""

    fails = False

    def predict(self, x: NDArray[np.float64]) -> NDArray[np.float64]:
        if self.fails:
            raise ValueError("told to")
        return super().predict(x)


def test_the_last_score_of_the_entity_answers_for_a_version_that_fails(world: LaneWorld) -> None:
    engine = _Fickle()
    fallback = ps.Fallback(deadline="100ms", to=["previous", "cached", "constant"], value=0.25)
    endpoint = _endpoint(world, _declare(fallback=fallback), champion=world.version(2, engine))

    (first,) = _score(endpoint, _ask(world, key="abc"))
    engine.fails = True
    again, other, elsewhen = _score(
        endpoint,
        _ask(world, key="abc"),
        _ask(world, key="abcd"),
        Ask(world.writer.clock.now_us(), key="abc", at_us=5),
    )

    assert (again.route, again.version, again.prediction) == ("cached", 2, first.prediction)
    assert again.features == first.features
    assert again.prediction_id != first.prediction_id
    assert again.reason.startswith("direction@2 failed with ValueError")
    assert f"; score {first.prediction_id} of" in again.reason
    assert [(one.engine, one.prediction) for one in (other, elsewhen)] == [("constant", 0.25)] * 2
    assert {one.prediction_id for one in world.logged()} >= {again.prediction_id}


def test_a_score_that_is_too_old_falls_back_no_more(world: LaneWorld) -> None:
    engine = _Fickle()
    fallback = ps.Fallback(deadline="100ms", to=["cached"], max_age="20ms")
    endpoint = _endpoint(world, _declare(fallback=fallback), champion=world.version(2, engine))

    _score(endpoint, _ask(world, key="abc"))
    engine.fails = True
    time.sleep(0.03)

    with pytest.raises(UserCodeError):
        _score(endpoint, _ask(world, key="abc"))


def test_a_cached_route_asks_the_version_once_for_the_same_request(world: LaneWorld) -> None:
    engine = Summing()
    declared = _declare(ps.cached(max_age="1m"))
    endpoint = _endpoint(world, declared, champion=world.version(2, engine))
    asks = [{"key": "abc"}, {"key": "abc"}, {"key": "abcd"}, {"key": "abc", "given": {"n": 1}}]

    scores = [_score(endpoint, Ask(world.writer.clock.now_us(), **ask))[0] for ask in asks]  # type: ignore[arg-type]  # as listed
    newer = _endpoint(world, declared, champion=world.version(3, engine))
    newer.kept = endpoint.kept
    (asked,) = _score(newer, _ask(world, key="abc"))

    assert [score.route for score in scores] == ["champion", "cached", "champion", "champion"]
    assert scores[1].reason.startswith(f"score {scores[0].prediction_id} of ")
    assert asked.route == "champion"  # of another version


def test_scores_are_kept_up_to_a_bound(world: LaneWorld) -> None:
    kept = KeptScores(most=2)
    endpoint = _endpoint(world, _declare(), champion=world.version(2))
    asks = [_ask(world, key=key) for key in ("a", "b", "c")]
    for ask, score in zip(asks, _score(endpoint, *asks), strict=True):
        kept.keep(ask, score)

    found = [kept.find(ask, now_us=0, max_age_us=None) is not None for ask in asks]

    assert found == [False, True, True]


def test_a_request_s_header_leads_to_its_version_and_the_score_says_so(world: LaneWorld) -> None:
    endpoint = _endpoint(
        world,
        _declare(ps.by_header("x-group", "beta", version=9)),
        champion=world.version(2),
        header=world.version(9),
    )
    beta = Ask(world.writer.clock.now_us(), key="abc", headers={"x-group": "beta"})

    one, other = _score(endpoint, beta, _ask(world, key="abc"))

    assert (one.version, one.route, one.reason) == (9, "header", "header x-group=beta")
    assert (other.version, other.reason) == (2, "")


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"to": ["previous", "previous"]}, "one twice"),
        ({"to": []}, "names nothing"),
        ({"to": ["constant", "previous"], "value": 0.5}, "put it last"),
        ({"to": ["cached", "constant"]}, "needs a value"),
        ({"to": "elsewhere"}, "'elsewhere'"),
        ({"max_age": "1m"}, "does not name"),
        ({"to": ["cached"], "max_age": "soon"}, "max_age"),
    ],
)
def test_fallbacks_that_cannot_work_are_refused(given: dict[str, Any], words: str) -> None:
    with pytest.raises(DeclarationError, match=words):
        ps.Fallback(deadline="1s", **given)


def test_a_fallback_in_one_word_means_what_it_meant() -> None:
    assert ps.Fallback(deadline="1s").steps == ("previous",)
    assert ps.Fallback(deadline="1s", value=0.5).steps == ("previous", "constant")
    assert ps.Fallback(deadline="1s", to="constant", value=0.5).steps == ("constant",)
