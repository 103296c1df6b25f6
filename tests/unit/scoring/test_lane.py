from __future__ import annotations

import asyncio
import itertools
import time
from types import SimpleNamespace
from typing import TYPE_CHECKING

import numpy as np
import pytest

from penstock.errors import InputError, OverloadedError, UnavailableError, UserCodeError
from penstock.records import Score
from penstock.scoring import Ask, Lane
from penstock.testing.lanes import FixedReader, LaneWorld, Summing

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

NAN = float("nan")


def _asks(world: LaneWorld, rows: Sequence[tuple[float | None, ...]]) -> list[Ask]:
    now_us = world.writer.clock.now_us()
    return [Ask(now_us, values=row, request_id=f"r{place}") for place, row in enumerate(rows)]


async def _answers(lane: Lane, asks: Sequence[Ask]) -> list[Score | BaseException]:
    futures = [lane.submit(ask) for ask in asks]
    return await asyncio.gather(*futures, return_exceptions=True)


def test_rows_that_come_together_are_computed_together(world: LaneWorld) -> None:
    engine = Summing()
    version = world.version(3, engine)
    lane = Lane("champion", version, world.writer)

    scores = asyncio.run(_answers(lane, _asks(world, [(n + 100.0, 1.0) for n in range(150)])))

    assert engine.batches == [64, 64, 22]
    assert [score.prediction for score in scores if isinstance(score, Score)] == [
        n + 101.0 for n in range(150)
    ]
    assert (lane.counts.batches, lane.counts.rows) == (3, 150)


def test_a_row_alone_waits_for_nobody(world: LaneWorld) -> None:
    engine = Summing()
    version = world.version(3, engine)
    lane = Lane("champion", version, world.writer)

    async def one_by_one() -> None:
        for ask in _asks(world, [(1.0, 1.0)] * 3):
            await lane.submit(ask)

    asyncio.run(one_by_one())

    assert engine.batches == [1, 1, 1]


@pytest.mark.parametrize("slow", [False, True])
def test_who_still_holds_one_that_was_let_go_of_is_answered(
    world: LaneWorld, *, slow: bool
) -> None:
    """An answer that is sent in parts may take longer than anything waits for."""
    lane = Lane("champion", world.version(3, slow=slow), world.writer)
    first, second = _asks(world, [(1.0, 1.0)] * 2)

    async def before_and_after() -> tuple[Score, Score]:
        before = await lane.submit(first)
        lane.close()
        async with asyncio.timeout(5):
            return before, await lane.submit(second)

    before, after = asyncio.run(before_and_after())
    lane.close()
    assert (before.prediction, after.prediction) == (2.0, 2.0)


async def _a_row_each_turn(lane: Lane, asks: Sequence[Ask]) -> None:
    futures: list[asyncio.Future[Score]] = []
    for ask in asks:
        futures.append(lane.submit(ask))
        await asyncio.sleep(0)
    await asyncio.gather(*futures)


@pytest.mark.parametrize(("row_us", "batches"), [(0, [1] * 6), (60_000_000, [6])])
def test_what_the_next_turns_bring_is_taken_in_where_a_batch_is_costly(
    world: LaneWorld, row_us: int, batches: list[int]
) -> None:
    engine = Summing()
    lane = Lane("champion", world.version(3, engine, row_us=row_us), world.writer)

    asyncio.run(_a_row_each_turn(lane, _asks(world, [(1.0, 1.0)] * 6)))

    assert engine.batches == batches


def test_no_more_is_taken_in_for_longer_than_a_batch_takes(
    world: LaneWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine, millisecond = Summing(), itertools.count()
    clock = SimpleNamespace(monotonic=lambda: next(millisecond) / 1_000)
    monkeypatch.setattr("penstock.features.gathering.time", clock)
    lane = Lane("champion", world.version(3, engine, row_us=5_000), world.writer)

    asyncio.run(_a_row_each_turn(lane, _asks(world, [(1.0, 1.0)] * 60)))

    assert sum(engine.batches) == 60
    assert 4 <= max(engine.batches) <= 8


def test_what_is_answered_is_logged_whole_and_before(world: LaneWorld) -> None:
    lane = Lane("challenger", world.version(3), world.writer)
    seen: list[int] = []

    async def ask() -> Score:
        future = lane.submit(_asks(world, [(1.5, None)])[0])
        future.add_done_callback(lambda _: seen.append(len(world.logged())))
        return await future

    with pytest.raises(InputError, match="no finite prediction"):
        asyncio.run(ask())
    future_ask = Ask(world.writer.clock.now_us(), key="ABC", at_us=2_000, request_id="q")
    (score,) = asyncio.run(_answers(lane, [future_ask]))

    assert isinstance(score, Score)
    assert world.logged() == [score]
    assert (score.route, score.version, score.model) == ("challenger", 3, "direction")
    assert (score.entity, score.at_us, score.origin) == ("ABC", 2_000, "online")
    assert score.features == (3.0, 0.5)
    assert score.prediction == 3.5
    assert score.progress == {"v": 7}
    assert score.request_id == "q"
    assert 0 <= score.duration_us < 1_000_000


def test_a_row_of_before_the_newest_record_is_refused_and_no_neighbour(world: LaneWorld) -> None:
    lane = Lane("champion", world.version(3), world.writer)
    newest_us, now_us = FixedReader.newest_us, world.writer.clock.now_us()
    times = [0, newest_us, newest_us - 1, newest_us + 1, -1]
    asks = [Ask(now_us, key="AB", at_us=at_us) for at_us in times]
    asks.append(Ask(now_us, values=(1.0, 2.0), at_us=5))  # what is handed in is the caller's word

    found = asyncio.run(_answers(lane, asks))

    refused = [place for place, one in enumerate(found) if isinstance(one, InputError)]
    assert refused == [2, 4]
    assert "1970-01-01T00:00:00.001001Z, its newest record" in str(found[2])
    assert "/jobs" in str(found[2])
    given = [one.at_us for one in found if isinstance(one, Score)]
    assert given == [asks[0].at_us or given[0], newest_us, newest_us + 1, 5]
    assert world.logged() == [one for one in found if isinstance(one, Score)]


def test_features_handed_in_and_looked_up_share_a_batch(world: LaneWorld) -> None:
    engine = Summing()
    version = world.version(3, engine)
    lane = Lane("champion", version, world.writer)
    now_us = world.writer.clock.now_us()
    asks = [Ask(now_us, key="AB"), Ask(now_us, values=(1.0, 2.0)), Ask(now_us, key="ABCD")]

    scores = asyncio.run(_answers(lane, asks))

    assert engine.batches == [3]
    assert [s.prediction for s in scores if isinstance(s, Score)] == [2.5, 3.0, 4.5]
    assert [s.origin for s in scores if isinstance(s, Score)] == ["online", "request", "online"]
    assert scores[1].progress == {}  # type: ignore[union-attr]  # it is a score


def test_how_long_a_row_may_wait_is_said_of_the_lane(world: LaneWorld) -> None:
    async def refused(queue_us: int) -> int:
        lane = Lane("champion", world.version(3, row_us=1_000), world.writer)
        lane.queue_us = queue_us
        object.__setattr__(lane, "_row_us", 1_000.0)  # what rows are known to take
        now_us = world.writer.clock.now_us()
        rows = [lane.submit(Ask(now_us + n, values=(1.0, 1.0))) for n in range(300)]
        found = await asyncio.gather(*rows, return_exceptions=True)
        return sum(isinstance(one, OverloadedError) for one in found)

    assert [asyncio.run(refused(limit_us)) for limit_us in (100_000, 250_000, 400_000)] == [
        199, 49, 0,
    ]  # fmt: skip


def test_a_bad_row_does_not_fail_its_neighbours(world: LaneWorld) -> None:
    lane = Lane("champion", world.version(3), world.writer)

    found = asyncio.run(_answers(lane, _asks(world, [(1.0, 1.0), (13.0, 0.0), (2.0, NAN)])))

    assert isinstance(found[0], Score)
    assert isinstance(found[1], UserCodeError)
    assert "13 is not lucky" in str(found[1])
    assert isinstance(found[2], InputError)
    assert len(world.logged()) == 1


NEAR, FAR = [-5e-5, 0.0, 1.0, 1.00005], [1.7, -0.7]


@pytest.mark.parametrize("classifies", [True, False])
def test_what_is_no_probability_is_no_answer_of_a_classification(
    world: LaneWorld, *, classifies: bool
) -> None:
    version = world.classifier(3) if classifies else world.version(3)
    lane = Lane("champion", version, world.writer)
    rows = [(one, 0.0) for one in [*NEAR, *FAR, NAN, float("inf"), -float("inf")]]

    found = asyncio.run(_answers(lane, _asks(world, rows)))

    answered = NEAR if classifies else NEAR + FAR
    assert [one.prediction for one in found if isinstance(one, Score)] == answered
    assert [score.prediction for score in world.logged()] == answered
    refused = [one.message for one in found if isinstance(one, InputError)]
    assert len(refused) == len(rows) - len(answered)
    assert all("direction@3 has no finite prediction" in one for one in refused[-3:])
    if classifies:
        assert "direction@3 predicts 1.7 for these features, which is no prob" in refused[0]
        assert "direction@3 predicts -0.7 for" in refused[1]


def test_a_slow_version_computes_in_a_thread_while_the_next_batch_gathers(world: LaneWorld) -> None:
    engine = Summing()
    version = world.version(3, engine, slow=True)
    lane = Lane("champion", version, world.writer)

    async def scenario() -> list[float]:
        engine.gate.clear()
        first = lane.submit(_asks(world, [(1.0, 1.0)])[0])
        await asyncio.sleep(0.02)
        later = [lane.submit(ask) for ask in _asks(world, [(n, 0.0) for n in range(9)])]
        await asyncio.sleep(0.02)
        assert not first.done()
        engine.gate.set()
        return [score.prediction for score in await asyncio.gather(first, *later)]

    assert asyncio.run(scenario()) == [2.0, *map(float, range(9))]
    assert engine.batches == [1, 9]
    assert all(name.startswith("lane-direction@3") for name in engine.threads)
    lane.close()


def test_rows_nobody_waits_for_any_more_are_left_out(world: LaneWorld) -> None:
    engine = Summing()
    version = world.version(3, engine)
    lane = Lane("champion", version, world.writer)

    async def scenario() -> None:
        futures = [lane.submit(ask) for ask in _asks(world, [(1.0, 0.0), (2.0, 0.0)])]
        futures[0].set_exception(TimeoutError())
        assert (await futures[1]).prediction == 2.0
        with pytest.raises(TimeoutError):
            await futures[0]

    asyncio.run(scenario())

    assert engine.batches == [1]
    assert len(world.logged()) == 1


class _Slow(Summing):
    """Takes half a millisecond for a row."""

    def predict(self, x: NDArray[np.float64]) -> NDArray[np.float64]:
        time.sleep(0.0005 * len(x))
        return super().predict(x)


def _apart(count: int) -> list[Ask]:
    """Rows of as many requests."""
    return [Ask(number, values=(1.0, 1.0)) for number in range(count)]


def test_too_many_rows_are_refused_at_once(world: LaneWorld) -> None:
    lane = Lane("champion", world.version(3), world.writer)

    found = asyncio.run(_answers(lane, _apart(4_100)))

    refused = [one for one in found if isinstance(one, OverloadedError)]
    assert len(refused) == 4
    assert refused[0].facts["retry_after_s"] == 1


def test_rows_that_would_wait_too_long_are_refused_at_once(world: LaneWorld) -> None:
    lane = Lane("champion", world.version(3, _Slow()), world.writer)
    now_us = world.writer.clock.now_us

    async def scenario() -> list[int]:
        for _ in range(20):
            await asyncio.gather(*[lane.submit(ask) for ask in _asks(world, [(1.0, 1.0)] * 64)])
        accepted: list[int] = []
        for _ in range(3):  # at each the same: it recovers at once
            asks = [Ask(now_us() + n, values=(1.0, 1.0)) for n in range(1_000)]
            found = await asyncio.gather(
                *[lane.submit(ask) for ask in asks], return_exceptions=True
            )
            accepted.append(sum(isinstance(one, Score) for one in found))
        return accepted

    # What a row takes is measured, and the machine may be slow: it cannot be quicker.
    assert all(64 <= accepted <= 110 for accepted in asyncio.run(scenario()))


def test_the_rows_of_a_request_are_let_in_together(world: LaneWorld) -> None:
    lane = Lane("champion", world.version(3, _Slow()), world.writer)

    async def scenario() -> list[Score | BaseException]:
        await asyncio.gather(*[lane.submit(ask) for ask in _asks(world, [(1.0, 1.0)] * 64)])
        request = [Ask(7, values=(1.0, 1.0)) for _ in range(500)]
        after = [Ask(8, values=(1.0, 1.0))]
        return await asyncio.gather(
            *[lane.submit(ask) for ask in request + after], return_exceptions=True
        )

    found = asyncio.run(scenario())
    assert all(isinstance(one, Score) for one in found[:500])
    assert isinstance(found[500], OverloadedError)


def test_an_answer_that_cannot_be_logged_is_not_given(world: LaneWorld) -> None:
    world.folder.parent.mkdir(parents=True)
    world.folder.write_text("in the way")
    lane = Lane("champion", world.version(3), world.writer)

    (found,) = asyncio.run(_answers(lane, _asks(world, [(1.0, 1.0)])))

    assert isinstance(found, UnavailableError)
    assert "Nothing is answered that is not logged" in found.message


class _Miscounting(Summing):
    def predict(self, x: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.zeros(len(x) + 1)


def test_a_version_that_miscounts_fails_its_rows(world: LaneWorld) -> None:
    lane = Lane("champion", world.version(3, _Miscounting()), world.writer)

    found = asyncio.run(_answers(lane, _asks(world, [(1.0, 1.0)] * 3)))

    assert all(isinstance(one, UserCodeError) for one in found)


def test_a_lane_goes_on_after_what_nobody_foresaw(
    world: LaneWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    lane = Lane("champion", world.version(3), world.writer)

    def burst(_scores: object) -> None:
        raise RuntimeError("a fuse")

    with monkeypatch.context() as patched:
        patched.setattr(world.writer.log, "append", burst)
        (found,) = asyncio.run(_answers(lane, _asks(world, [(1.0, 1.0)])))
    assert "a fuse" in str(found)

    (score,) = asyncio.run(_answers(lane, _asks(world, [(1.0, 1.0)])))
    assert isinstance(score, Score)


def test_a_version_that_turns_slow_moves_to_a_thread_and_back(
    world: LaneWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    lane = Lane("champion", world.version(3), world.writer)

    def ask(times: int) -> None:
        for _ in range(times):
            asyncio.run(_answers(lane, _asks(world, [(1.0, 1.0)])))

    monkeypatch.setattr("penstock.features.gathering.SLOW_BATCH_US", -1)
    ask(7)
    assert not lane.slow
    ask(1)
    assert lane.slow
    monkeypatch.setattr("penstock.features.gathering.QUICK_BATCH_US", 10**9)
    monkeypatch.setattr("penstock.features.gathering.QUICK_IN_A_ROW", 3)
    ask(3)
    assert not lane.slow
    lane.close()


def test_a_thousand_rows_of_any_company_have_their_own_answers(world: LaneWorld) -> None:
    lane = Lane("champion", world.version(3), world.writer)
    rows = np.random.default_rng(1).normal(size=(1_000, 2))

    async def client(part: NDArray[np.float64]) -> list[tuple[float, float]]:
        found: list[tuple[float, float]] = []
        for row in part:
            score = await lane.submit(_asks(world, [tuple(row.tolist())])[0])
            found.append((float(row.sum()), score.prediction))
        return found

    async def all_of_them() -> list[list[tuple[float, float]]]:
        return await asyncio.gather(*[client(rows[start::40]) for start in range(40)])

    pairs = [pair for part in asyncio.run(all_of_them()) for pair in part]

    assert len(pairs) == 1_000
    assert all(expected == got for expected, got in pairs)
    assert len({score.prediction_id for score in world.logged()}) == 1_000
