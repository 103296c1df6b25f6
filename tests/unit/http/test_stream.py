"""Scores of many rows come batch by batch, as fast as the client takes them and no further."""

from __future__ import annotations

import asyncio
import io
from typing import TYPE_CHECKING, Any

import msgspec
import polars as pl
import pytest

from penstock.deployment import deploy
from penstock.errors import UnavailableError
from penstock.records import Score
from penstock.testing.serving import serving

if TYPE_CHECKING:
    from collections.abc import Callable

    from penstock.runtime import LocalServices
    from penstock.scoring import Ask, Lane
    from penstock.testing.served_project import ServedProject

    from .conftest import Client

    Talk = Callable[..., None]

PREDICT = "/v1/deployments/btc/predict"
EVENTS, LINES = "text/event-stream", "application/x-ndjson"
SYMBOLS = ("BTC", "ETH", "ADA")


def rows(count: int) -> bytes:
    asked = [{"entity": {"symbol": SYMBOLS[row % 3]}} for row in range(count)]
    return msgspec.json.encode({"rows": asked})


class Stream:
    """A client of ASGI that takes what is sent when it likes to.

    Attributes:
        sent: What it has taken.
        may: Set while it takes more.
        gone: Set when it hangs up.
    """

    def __init__(self, client: Client, body: bytes, accept: str) -> None:
        self.sent: list[dict[str, Any]] = []
        self.may, self.gone = asyncio.Event(), asyncio.Event()
        self.waiting = asyncio.Event()
        self.may.set()
        self._body: bytes | None = body
        self._scope = {
            "type": "http", "method": "POST", "path": PREDICT, "query_string": b"",
            "headers": [(b"authorization", f"Bearer {client.token}".encode()),
                        (b"accept", accept.encode())],
        }  # fmt: skip
        self._app = client.app

    async def run(self) -> None:
        await self._app(self._scope, self._receive, self._send)

    async def _receive(self) -> dict[str, object]:
        if self._body is not None:
            body, self._body = self._body, None
            return {"type": "http.request", "body": body, "more_body": False}
        await self.gone.wait()
        return {"type": "http.disconnect"}

    async def _send(self, message: Any) -> None:  # noqa: ANN401 - as ASGI has it
        if not self.may.is_set():
            self.waiting.set()
        await self.may.wait()
        self.sent.append(message)

    @property
    def text(self) -> str:
        return b"".join(message["body"] for message in self.sent[1:]).decode()


def events_of(text: str) -> list[tuple[str, Any]]:
    found: list[tuple[str, Any]] = []
    for part in text.split("\n\n")[:-1]:
        name, data = part.split("\n")
        found.append((name.removeprefix("event: "), msgspec.json.decode(data[len("data: ") :])))
    return found


def test_each_batch_is_an_event_and_the_last_sums_up(talk: Talk, services: LocalServices) -> None:
    deploy(services, "btc", version=2)

    async def conversation(client: Client) -> None:
        stream = Stream(client, rows(200), EVENTS)
        await stream.run()
        assert stream.sent[0]["status"] == 200
        assert (b"content-type", EVENTS.encode()) in stream.sent[0]["headers"]
        assert stream.sent[-1].get("more_body", False) is False
        *batches, (last, summary) = events_of(stream.text)
        assert [(name, one["from"], len(one["predictions"])) for name, one in batches] == [
            ("scores", 0, 64), ("scores", 64, 64), ("scores", 128, 64), ("scores", 192, 8),
        ]  # fmt: skip
        assert (last, summary["rows"], summary["versions"]) == ("end", 200, {"direction@2": 200})
        whole = (await client.post(PREDICT, rows(200))).json["predictions"]
        told = [row for _, one in batches for row in one["predictions"]]
        # A batch of another size may be computed by another engine, proved equal to 1e-6.
        likely = [pytest.approx(row["probability"]["true"], abs=1e-6) for row in whole]
        assert [row["probability"]["true"] for row in told] == likely

        lines = Stream(client, rows(130), LINES)
        await lines.run()
        *predictions, end = [msgspec.json.decode(line) for line in lines.text.splitlines()]
        assert [row["probability"]["true"] for row in predictions] == likely[:130]
        assert end["end"]["rows"] == 130

    talk(conversation)


def test_more_rows_than_a_whole_answer_has(talk: Talk, services: LocalServices) -> None:
    deploy(services, "btc", version=2)

    async def conversation(client: Client) -> None:
        assert (await client.post(PREDICT, rows(1_500))).status == 422
        stream = Stream(client, rows(1_500), EVENTS)
        await stream.run()
        assert events_of(stream.text)[-1][1]["rows"] == 1_500
        asked = io.BytesIO()
        pl.DataFrame({"symbol": ["BTC"] * 1_500}).write_ipc_stream(asked)
        arrow = (b"content-type", b"application/vnd.apache.arrow.stream")
        by_arrow = Stream(client, asked.getvalue(), LINES)
        by_arrow._scope["headers"].append(arrow)  # type: ignore[attr-defined]  # noqa: SLF001 - the test's own
        await by_arrow.run()
        assert len(by_arrow.text.splitlines()) == 1_501

    talk(conversation)


def test_who_takes_nothing_or_hangs_up_has_nothing_scored(
    talk: Talk, services: LocalServices
) -> None:
    deploy(services, "btc", version=2)

    async def conversation(client: Client) -> None:
        counts = client.keeper.doors["btc"].endpoint.lanes["champion"].counts
        stream = Stream(client, rows(1_000), EVENTS)
        stream.may.clear()
        task = asyncio.create_task(stream.run())
        await stream.waiting.wait()
        for _ in range(50):
            await asyncio.sleep(0)
        assert counts.rows == 64  # the first batch waits to be taken, and with it all others
        stream.gone.set()
        await asyncio.sleep(0)
        stream.may.set()
        await task
        assert counts.rows <= 192
        assert "event: end" not in stream.text

    talk(conversation)


def test_the_time_a_client_takes_is_counted_as_nobodys(talk: Talk, services: LocalServices) -> None:
    deploy(services, "btc", version=2)

    async def conversation(client: Client) -> None:
        stream = Stream(client, rows(130), LINES)
        stream.may.clear()
        task = asyncio.create_task(stream.run())
        await stream.waiting.wait()
        taken_us = services.clock.now_us()
        stream.may.set()
        await task
        (log,) = (services.score_log / "btc").glob("*.jsonl")
        scores = msgspec.json.Decoder(Score).decode_lines(log.read_bytes())
        arrivals = [score.scored_at_us - score.duration_us for score in scores]
        assert max(arrivals[:64]) < taken_us <= min(arrivals[64:])
        end = msgspec.json.decode(stream.text.splitlines()[-1])["end"]
        assert end["duration_ms"] * 1000 >= taken_us - arrivals[0]

    talk(conversation)


def test_what_fails_first_is_an_answer_and_what_fails_later_an_event(
    talk: Talk, services: LocalServices, monkeypatch: pytest.MonkeyPatch
) -> None:
    deploy(services, "btc", version=2)

    async def conversation(client: Client) -> None:
        refused = await client.post(PREDICT, b"{}", headers=[(b"accept", EVENTS.encode())])
        assert (refused.status, refused.json["error"]["kind"]) == (422, "input")

        endpoint = client.keeper.doors["btc"].endpoint
        lane_of, done = endpoint.lane_of, [0]

        def failing(ask: Ask) -> Lane | None:
            done[0] += 1
            if done[0] > 100:
                raise UnavailableError("It is too busy.", retry_after_s=1)
            return lane_of(ask)

        monkeypatch.setattr(endpoint, "lane_of", failing)
        for accept in (EVENTS, LINES):
            done[0] = 0
            stream = Stream(client, rows(200), accept)
            await stream.run()
            last = msgspec.json.decode(stream.text.rstrip().splitlines()[-1].removeprefix("data: "))
            assert last["error"] == {"kind": "unavailable", "message": "It is too busy."}
            assert last["rows"] == 64
        monkeypatch.undo()

    talk(conversation)


@pytest.mark.slow
def test_events_over_a_real_connection(served: ServedProject, services: LocalServices) -> None:
    deploy(services, "btc", version=2)
    with serving(served) as http:
        stats = "/v2/models/btc/stats"

        def scored() -> int:
            found: int = http.get(stats).json()["model_stats"][0]["inference_count"]
            return found

        headers = {"accept": EVENTS}
        with http.stream("POST", PREDICT, content=rows(20_000), headers=headers) as answer:
            names = [line for line in answer.iter_lines() if line.startswith("event: ")]
        assert names == ["event: scores"] * 313 + ["event: end"]
        before = scored()
        with http.stream("POST", PREDICT, content=rows(30_000), headers=headers) as answer:
            assert next(answer.iter_lines()) == "event: scores"
        # The connection is closed: what was on its way is finished, and no more is begun.
        count = scored()
        while (now := scored()) != count:
            count = now
        assert 64 <= count - before < 30_000
