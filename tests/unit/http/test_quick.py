"""Requests that are answered without a task: in order, each by itself, whatever happens beside."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
import pytest

import penstock as ps
from penstock.deployment import Engine, deploy
from penstock.http.serve_app import ServeApp
from penstock.http.serve_protocol import ServeProtocol
from penstock.http.serve_schema import Schema
from penstock.plan import Catalogue, apply

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Sequence

    from numpy.typing import NDArray

    from penstock.http.serve_call import Call
    from penstock.http.serve_errors import Answer
    from penstock.records import Score
    from penstock.runtime import LocalServices
    from penstock.testing.served_project import ServedProject

    from .conftest import Raw, Wire

PREDICT, INFER = "/v1/deployments/btc/predict", "/v2/models/btc/infer"
ENTITY = b'{"entity":{"symbol":"BTC"}}'
ETH = {"entity": {"symbol": "ETH"}, "at": "2026-01-11T00:00:00Z"}
UNLUCKY = 13.0
WHOLE = float(1 << 20)


class Sums(Engine):
    """Predicts a millionth of the sum of a row; fails at 13, and has no value where there is 14."""

    name = "native"

    def __init__(self) -> None:
        self.batches: list[int] = []

    def predict(self, x: NDArray[np.float64]) -> NDArray[np.float64]:
        self.batches.append(len(x))
        if (x == UNLUCKY).any():
            raise ValueError("13 is not lucky")
        return np.where((x == UNLUCKY + 1).any(axis=1), np.nan, x.sum(axis=1) / WHOLE)


@pytest.fixture(autouse=True)
def _deployed(services: LocalServices) -> None:
    deploy(services, "btc", version=1, wait_s=0)


def _tensor(row: Sequence[float], request_id: str = "") -> bytes:
    return _tensors([row], request_id)


def _tensors(rows: Sequence[Sequence[float]], request_id: str = "", *, width: int = 0) -> bytes:
    shape = [len(rows), len(rows[0]) if rows else width]
    data = [value for row in rows for value in row]
    tensor = {"name": "x", "datatype": "FP64", "shape": shape, "data": data}
    return msgspec.json.encode({"id": request_id, "inputs": [tensor]})


def _summing(wire: Wire) -> Sums:
    """Has the champion predict sums."""
    engine = Sums()
    version = wire.keeper.doors["btc"].endpoint.champion
    assert version is not None
    version.engine = engine
    return engine


@asynccontextmanager
async def _connections(wire: Wire, number: int) -> AsyncGenerator[list[Raw]]:
    async with AsyncExitStack() as stack:
        yield [await stack.enter_async_context(wire.connection()) for _ in range(number)]


async def _ask_all(connections: Sequence[Raw], requests: Sequence[bytes]) -> list[Any]:
    """Have requests come together, each on a connection of its own."""
    for raw, request in zip(connections, requests, strict=True):
        raw.writer.write(request)
    return [await raw.reply() for raw in connections]


def test_pipelined_requests_of_all_ways_are_answered_in_order(
    wire: Callable[..., None], served: ServedProject
) -> None:
    row = [1.0] * len(served.features)

    async def conversation(wire: Wire) -> None:
        requests: list[bytes] = []
        for number in range(60):
            body = _tensor(row, str(number))
            name = "b%74c" if number % 5 == 3 else "btc"
            headers = (b"x-hold: 0.01",) if number % 7 == 2 else ()
            path = f"/v2/models/{name}/infer"
            length = None
            if number % 11 == 4:
                headers, length = (*headers, b"Transfer-Encoding: chunked"), 0
                body = b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body)
            requests.append(wire.request(path, body, *headers, length=length))
        async with wire.connection() as raw:
            for _ in range(3):
                raw.writer.write(b"".join(requests))
                told = [await raw.reply() for _ in requests]
                assert [one.json["id"] for one in told] == [str(n) for n in range(60)]

    wire(conversation)


def test_rows_that_come_together_are_scored_together_and_fail_alone(
    wire: Callable[..., None], served: ServedProject
) -> None:
    width = len(served.features)

    async def conversation(wire: Wire) -> None:
        engine = _summing(wire)
        bad = {3: UNLUCKY, 17: UNLUCKY + 1}
        rows = [[float(bad.get(n, n + 100))] + [0.0] * (width - 1) for n in range(20)]
        requests = [wire.request(INFER, _tensor(row)) for row in rows]
        async with _connections(wire, len(rows)) as connections:
            told = await _ask_all(connections, requests)
            assert max(engine.batches) > 1
            assert {n: one.status for n, one in enumerate(told) if one.status != 200} == {
                3: 500,
                17: 422,
            }
            assert "failed with ValueError" in told[3].message
            assert "no finite prediction" in told[17].message
            for number, one in enumerate(told):
                if number not in bad:
                    assert one.json["outputs"][0]["data"] == [(number + 100) / WHOLE]
            # The connections go on.
            told = await _ask_all(connections, [requests[0]] * len(rows))
            assert {one.status for one in told} == {200}

    wire(conversation)


def test_an_answer_that_cannot_be_made_fails_alone(
    wire: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    told = Schema.told_one
    number = 0

    def breaks_once(self: Schema, scores: Sequence[Score]) -> Answer:
        nonlocal number
        number += 1
        if number == 3:
            raise RuntimeError("no answer")
        return told(self, scores)

    monkeypatch.setattr(Schema, "told_one", breaks_once)

    async def conversation(wire: Wire) -> None:
        async with _connections(wire, 8) as connections:
            replies = await _ask_all(connections, [wire.request(PREDICT, ENTITY)] * 8)
            replies += await _ask_all(connections, [wire.request(PREDICT, ENTITY)] * 8)
        assert sorted(one.status for one in replies) == [200] * 15 + [500]
        (failed,) = [one for one in replies if one.status == 500]
        assert failed.message == "The server failed; its log says where. Try again, or report it."

    wire(conversation)


def test_several_rows_of_a_request_take_no_task_either(
    wire: Callable[..., None], served: ServedProject, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def never(_app: ServeApp, _call: Call) -> None:
        raise AssertionError("it took a task")

    monkeypatch.setattr(ServeApp, "answer", never)
    width = len(served.features)

    async def conversation(wire: Wire) -> None:
        engine = _summing(wire)
        rows = [[number + 100] + [0] * (width - 1) for number in range(150)]
        handed = [{"features": dict(zip(served.features, row, strict=True))} for row in rows]
        requests = [
            wire.request(INFER, _tensors(rows, "mine")),
            wire.request(PREDICT, msgspec.json.encode({"rows": [*handed, ETH]})),
            wire.request(PREDICT, msgspec.json.encode({"rows": handed[:1]})),
        ]
        async with wire.connection() as raw:
            raw.writer.write(b"".join(requests))
            inferred, several, one = [await raw.reply() for _ in requests]
        assert engine.batches[:2] == [64, 64]
        assert inferred.json["id"] == "mine"
        assert inferred.json["outputs"][0]["data"] == [row[0] / WHOLE for row in rows]
        assert several.status == 200, several.body
        told = several.json["predictions"]
        assert [each["probability"]["true"] for each in told[:-1]] == [
            row[0] / WHOLE for row in rows
        ]
        assert len({each["prediction_id"] for each in told}) == 151
        assert len(one.json["predictions"]) == 1

    wire(conversation)


def test_the_first_row_that_fails_is_told_and_the_neighbours_are_not_disturbed(
    wire: Callable[..., None], served: ServedProject
) -> None:
    width = len(served.features)

    async def conversation(wire: Wire) -> None:
        _summing(wire)
        values = (100.0, UNLUCKY + 1, UNLUCKY, 101.0)
        bad, good = ([[one] + [0.0] * (width - 1) for one in each] for each in (values, (1.0, 2.0)))
        requests = [wire.request(INFER, _tensors(rows)) for rows in (bad, good, bad[2:], good)]
        async with _connections(wire, len(requests)) as connections:
            first, fine, failed, other = await _ask_all(connections, requests)
        assert first.status == 422
        assert first.message.startswith("rows[1]: direction@1 has no finite prediction")
        assert (failed.status, "failed with ValueError" in failed.message) == (500, True)
        for one in (fine, other):
            assert one.json["outputs"][0]["data"] == [1 / WHOLE, 2 / WHOLE]
        async with wire.connection() as raw:
            raw.writer.write(wire.request(INFER, _tensors([], width=width)))
            assert (await raw.reply()).status in {200, 422}  # no rows: it is answered all the same

    wire(conversation)


@pytest.mark.parametrize("together", [1, 5])
@pytest.mark.parametrize("slow", [False, True])
def test_rows_without_a_key_are_shared_out_once(
    wire: Callable[..., None],
    services: LocalServices,
    served: ServedProject,
    *,
    slow: bool,
    together: int,
) -> None:
    """A challenger that computes in a thread has its share, not its share of its share."""
    declared = msgspec.structs.replace(
        Catalogue.load(services.metadata).deployment("btc"),
        routes=[ps.champion(), ps.challenger(share=0.5, version=2)],
    )
    project = ps.Project("served", declarations=[declared])
    apply(services.metadata, project, actor="tester", now=services.clock.now())
    row = [1.0] * len(served.features)

    async def conversation(wire: Wire) -> None:
        endpoint = wire.keeper.doors["btc"].endpoint
        endpoint.lanes["challenger"].slow = slow
        number = 400
        requests = number // together
        async with wire.connection() as raw:
            raw.writer.write(wire.request(INFER, _tensors([row] * together)) * requests)
            assert {(await raw.reply()).status for _ in range(requests)} == {200}
        answered = {route: n for (route, _), n in endpoint.counters.answered.items()}
        assert sum(answered.values()) == number
        assert answered["challenger"] / number == pytest.approx(0.5, abs=0.12)

    wire(conversation)


def test_the_score_of_a_client_that_has_gone_is_logged(
    wire: Callable[..., None], services: LocalServices, monkeypatch: pytest.MonkeyPatch
) -> None:
    received = ServeProtocol.data_received
    goes = True

    def receive_and_go(self: ServeProtocol, data: bytes) -> None:
        received(self, data)
        if goes:
            self.transport.abort()

    monkeypatch.setattr(ServeProtocol, "data_received", receive_and_go)

    async def conversation(wire: Wire) -> None:
        nonlocal goes
        lane = wire.keeper.doors["btc"].endpoint.lanes["champion"]
        for _ in range(3):
            async with wire.connection() as raw:
                await raw.send(wire.request(PREDICT, ENTITY) * 3)
                assert await raw.is_closed()
        assert (lane.counts.failed, lane.counts.answers) == (0, 3)
        goes = False
        async with wire.connection() as raw:
            (told,) = await _ask_all([raw], [wire.request(PREDICT, ENTITY)])
        (file,) = (services.score_log / "btc").glob("*.jsonl")
        ids = [msgspec.json.decode(line)["prediction_id"] for line in file.read_bytes().split()]
        assert ids[3:] == [told.json["prediction_id"]]

    wire(conversation)


def test_answers_wait_for_a_client_that_does_not_read(wire: Callable[..., None]) -> None:
    """Small answers, one after the other: what the client does not take is not lost."""

    async def conversation(wire: Wire) -> None:
        request = wire.request(PREDICT, ENTITY)
        async with wire.connection() as raw:
            sending = asyncio.create_task(raw.send(request * 4_000))
            await asyncio.sleep(0.5)
            told = [await raw.reply() for _ in range(4_000)]
            await sending
            ids = [one.json["prediction_id"] for one in told]
            assert ids == sorted(set(ids))

    wire(conversation)
