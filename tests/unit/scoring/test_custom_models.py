"""A custom model that crashes or hangs is its version's fault, and holds up nothing."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import msgspec
import numpy as np
import psutil
import pytest

import penstock as ps
from penstock.deployment import NativeEngine
from penstock.errors import UnavailableError
from penstock.registry import CustomModel, CustomPlace, open_native
from penstock.scoring import Ask, Counters, Endpoint, Lane, ServedVersion
from penstock.spec import Trainer
from penstock.testing.custom_models import write_custom_module

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from penstock.records import Score
    from penstock.spec import Deployment
    from penstock.testing.lanes import LaneWorld

    Open = Callable[..., CustomModel]

pytestmark = pytest.mark.slow


@pytest.fixture
def custom(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Open]:
    """Trains a custom model, read back from its file."""
    write_custom_module(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    opened: list[CustomModel] = []

    def make(timeout_s: float = 10.0) -> CustomModel:
        model = CustomModel(CustomPlace(path="slopes:Slope", timeout_s=timeout_s))
        opened.append(model)
        model.make({}, 1)
        x = np.linspace(-1, 1, 40).repeat(2).reshape(-1, 2)
        model.fit(x, (x[:, 0] > 0).astype(int))
        return model

    def reopened(timeout_s: float = 10.0) -> CustomModel:
        make(timeout_s).save(tmp_path / "model.custom")
        model = open_native(tmp_path / "model.custom", "custom", classifies=True)
        assert isinstance(model, CustomModel)
        opened.append(model)
        return model

    yield reopened
    for model in opened:
        model.close()


def _version(world: LaneWorld, model: CustomModel) -> ServedVersion:
    engine = NativeEngine(model)
    made = world.version(2, engine, slow=True)
    return ServedVersion(
        msgspec.structs.replace(made.manifest, native="custom"), engine, None, slow=True
    )


def _declared(*, fallback: bool) -> Deployment:
    source = ps.Source(
        "s",
        entity=ps.Entity("k"),
        timestamp="t",
        schema={"k": ps.String, "t": ps.Timestamp, "x": ps.Float64},
    )
    view = ps.FeatureView("v", source=source, features=[ps.last("x")])
    label = ps.Label("y", ps.col("x") * 2)
    model = ps.Model(
        "m",
        dataset=ps.Dataset("d", spine=source, features=[view], label=label),
        candidates=[Trainer(kind="custom", estimator="slopes:Slope")],
        select=ps.minimise("rmse"),
    )
    other = ps.Fallback(deadline="300ms", to="previous") if fallback else None
    return ps.Deployment("btc", model=model, routes=[ps.champion()], fallback=other)


def _endpoint(world: LaneWorld, champion: ServedVersion, *, fallback: bool) -> Endpoint:
    lanes = {"champion": Lane("champion", champion, world.writer)}
    if fallback:
        lanes["previous"] = Lane("fallback", world.version(1), world.writer)
    return Endpoint(_declared(fallback=fallback), lanes, world.writer, Counters(), {})


def _ask(world: LaneWorld, *values: float) -> Ask:
    return Ask(world.writer.clock.now_us(), values=values)


def test_rows_are_answered_by_the_process_together(
    world: LaneWorld, custom: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("penstock.features.gathering.QUICK_IN_A_ROW", 1)
    monkeypatch.setattr("penstock.features.gathering.QUICK_BATCH_US", 10**9)
    model = custom()
    endpoint = _endpoint(world, _version(world, model), fallback=False)

    async def scenario() -> list[Score]:
        asks = [_ask(world, value, 0.0) for value in np.linspace(-1, 1, 300).tolist()]
        return await asyncio.gather(*[endpoint.score(ask) for ask in asks])

    scores = asyncio.run(scenario())

    rows = np.column_stack([np.linspace(-1, 1, 300), np.zeros(300)])
    assert [one.prediction for one in scores] == pytest.approx(model.predict(rows))
    lane = endpoint.lanes["champion"]
    assert lane.slow  # quick batches do not bring it into the event loop


def test_a_process_killed_while_it_serves_is_replaced(world: LaneWorld, custom: Open) -> None:
    model = custom()
    endpoint = _endpoint(world, _version(world, model), fallback=False)

    async def scenario() -> list[Score]:
        scores = [await endpoint.score(_ask(world, 1.0, 0.0))]
        for _ in range(3):
            process = psutil.Process(model.process_id)
            process.kill()
            psutil.wait_procs([process], timeout=10)
            scores.append(await endpoint.score(_ask(world, 1.0, 0.0)))
        with pytest.raises(UnavailableError, match="died"):
            await endpoint.score(_ask(world, 1.0, 9.0))
        return [*scores, await endpoint.score(_ask(world, 1.0, 0.0))]

    scores = asyncio.run(scenario())

    assert len({one.prediction for one in scores}) == 1
    assert {one.version for one in scores} == {2}


@pytest.mark.parametrize(("flag", "said"), [(13.0, "13 is not lucky"), (9.0, "died")])
def test_a_row_that_fails_or_kills_the_process_does_not_fail_its_neighbours(
    world: LaneWorld, custom: Open, flag: float, said: str
) -> None:
    endpoint = _endpoint(world, _version(world, custom()), fallback=False)

    async def scenario() -> list[Score | BaseException]:
        asks = [_ask(world, 1.0, flag), *[_ask(world, 1.0, 0.0) for _ in range(5)]]
        return await asyncio.gather(*[endpoint.score(ask) for ask in asks], return_exceptions=True)

    bad, *good = asyncio.run(scenario())

    assert said in str(bad)
    assert all(not isinstance(one, BaseException) for one in good)


def test_the_previous_version_answers_while_the_model_hangs(world: LaneWorld, custom: Open) -> None:
    endpoint = _endpoint(world, _version(world, custom(timeout_s=1.5)), fallback=True)
    turns = 0

    async def count() -> None:
        nonlocal turns
        while True:
            await asyncio.sleep(0.01)
            turns += 1

    async def scenario() -> list[Score]:
        counting = asyncio.create_task(count())
        hung = await endpoint.score(_ask(world, 1.0, 60.0))
        counting.cancel()
        # The lane's thread waits for the process to be ended and another one to be started.
        after = hung
        while after.version != 2:
            await asyncio.sleep(0.02)
            after = await endpoint.score(_ask(world, 1.0, 0.0))
        return [hung, after]

    hung, after = asyncio.run(scenario())

    assert (hung.route, hung.version) == ("fallback", 1)
    assert "was later than" in hung.reason
    assert turns > 10  # the event loop was never held up
    assert after.version == 2
