"""Two processes of one address, as they do what one of them was told."""

from __future__ import annotations

import asyncio
import logging
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING, NamedTuple

import pytest

from penstock.deployment import deploy
from penstock.errors import NotReadyError, UnavailableError
from penstock.http.serve_app import ServeApp
from penstock.http.serve_keeper import Keeper
from penstock.http.serve_orders import Obedience
from penstock.http.serve_scoring import door_of
from penstock.http.serve_traces import Tracing
from penstock.http.serve_waking import ByNeed
from penstock.ports import SpanCounts, Spans
from penstock.runtime import Board, OrderBook, Sampling

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Coroutine, Iterator, Mapping
    from pathlib import Path

    from penstock.ports import Traced
    from penstock.runtime import LocalServices

HERE = "http://here"


class Nowhere(Spans):
    """Where traces go: what is traced is of no matter here."""

    def emit(self, told: Traced) -> None:
        pass

    def counts(self) -> SpanCounts:
        return SpanCounts(0, 0)

    def close(self) -> None:
        pass


class Process(NamedTuple):
    keeper: Keeper
    obedience: Obedience
    tracing: Tracing
    book: OrderBook


@pytest.fixture(autouse=True)
def _level() -> Iterator[None]:
    """The least severity that is logged, put back."""
    root = logging.getLogger()
    before = root.level
    yield
    root.setLevel(before)


@asynccontextmanager
async def _process(services: LocalServices, root: Path) -> AsyncGenerator[Process]:
    """What answers on the address, with what is loaded by need."""
    keeper = Keeper(services, address=HERE, limit_bytes=1 << 20, by_need=ByNeed())
    board = Board(root, HERE, services.clock)
    board.publish([])
    book, tracing = OrderBook(board), Tracing(Nowhere(), services.clock, Sampling(0.5))
    obedience = Obedience(keeper, book, tracing)
    await keeper.start()
    await obedience.start()
    try:
        yield Process(keeper, obedience, tracing, book)
    finally:
        await obedience.stop()
        await keeper.stop()
        board.close()


def _run(
    services: LocalServices,
    root: Path,
    talk: Callable[[Process, Process], Coroutine[None, None, None]],
) -> None:
    async def whole() -> None:
        async with AsyncExitStack() as stack:
            first, second = [
                await stack.enter_async_context(_process(services, root)) for _ in range(2)
            ]
            async with asyncio.timeout(60):
                await talk(first, second)

    asyncio.run(whole())


async def _until(holds: Callable[[], object]) -> None:
    while not holds():  # noqa: ASYNC110 - another task makes it so
        await asyncio.sleep(0.01)


def test_the_first_thing_they_are_told_to_load_is_loaded_by_all(
    services: LocalServices, tmp_path: Path
) -> None:
    deploy(services, "btc", version=1, wait_s=0)

    async def talk(first: Process, second: Process) -> None:
        assert "btc" in second.keeper.resting
        await first.keeper.load("btc", actor="ann")
        assert "btc" in first.keeper.doors
        assert "btc" in second.keeper.doors
        assert "split" in second.keeper.resting

    _run(services, tmp_path, talk)


def test_who_cannot_do_it_at_once_does_it_later_and_only_then_says_so(
    services: LocalServices, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    deploy(services, "btc", version=1, wait_s=0)

    async def talk(first: Process, second: Process) -> None:
        await first.keeper.load("btc", actor="ann")
        tried = 0

        def away() -> int:
            nonlocal tried
            tried += 1
            raise UnavailableError("The metadata is away.")

        with monkeypatch.context() as patch:
            patch.setattr(second.keeper, "_look", _raising(away))
            told = asyncio.create_task(first.keeper.unload("btc", actor="ann"))
            await _until(lambda: tried > 1 or told.done())
            assert not told.done()
            assert "btc" in second.keeper.doors
        await told
        with pytest.raises(NotReadyError, match="unloaded here by ann"):
            door_of(second.keeper, "btc")

    _run(services, tmp_path, talk)


def _raising(away: Callable[[], int]) -> Callable[..., Coroutine[None, None, None]]:
    async def look(*, force: bool) -> None:
        if force:
            away()

    return look


def test_who_begins_is_waited_for_until_it_does_what_others_were_told(
    services: LocalServices, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    deploy(services, "btc", version=1, wait_s=0)
    behind: list[list[int]] = []

    async def whole() -> None:
        async with AsyncExitStack() as stack:
            first = await stack.enter_async_context(_process(services, tmp_path))
            await first.keeper.unload("btc", actor="ann")
            keeper = Keeper(services, address=HERE, limit_bytes=1 << 20)
            board = Board(tmp_path, HERE, services.clock)
            (board.folder / "1.followed").write_text("99")  # by what had the place before
            app = ServeApp(keeper, services.clock, board)
            serve_without = keeper.serve_without

            async def noted(unloaded: Mapping[str, str]) -> None:
                behind.append(first.book.behind(first.book.read().number))
                await serve_without(unloaded)

            monkeypatch.setattr(keeper, "serve_without", noted)
            await keeper.start()
            stack.push_async_callback(keeper.stop)
            for one in app.beside:
                await one.start()
                stack.push_async_callback(one.stop)
            behind.append(first.book.behind(first.book.read().number))
            assert set(keeper.doors) == {"split"}

    asyncio.run(whole())
    assert behind == [[1], []]


def test_what_is_logged_and_what_is_traced_are_two_orders(
    services: LocalServices, tmp_path: Path
) -> None:
    async def talk(first: Process, second: Process) -> None:
        first.tracing.sampling = Sampling(0.25)
        await first.obedience.share_sampling()
        assert second.tracing.sampling == Sampling(0.25)
        # It tells what it logs before it has read what the other traces by now.
        second.tracing.sampling = Sampling(0.125)
        giving = asyncio.create_task(second.obedience.share_sampling())
        logging.getLogger().setLevel(logging.ERROR)
        await asyncio.gather(first.obedience.share_log_level(), giving)
        for one in (first, second):
            assert one.tracing.sampling == Sampling(0.125)
            assert one.book.read().log_level == logging.ERROR

    _run(services, tmp_path, talk)
