"""Bad requests, one by one, to one control plane and one serving process of a project."""

from __future__ import annotations

import shutil
import socket
import subprocess
import sys
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from penstock.access import token_hash
from penstock.deployment import deploy
from penstock.ingest import ingest_log
from penstock.plan import Catalogue
from penstock.ports import Put
from penstock.records import Identity
from penstock.runtime import open_services

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from penstock.testing.served_project import ServedProject

    from .conftest import Said

pytestmark = pytest.mark.slow

READY_S = 60.0
JSON, LINES = "application/json", "application/x-ndjson"
EVENTS, OUTCOMES = "/v1/sources/candles/events", "/v1/observations"
PREDICT, INFER = "/v1/deployments/btc/predict", "/v2/models/btc/infer"
CANDLE = '{"symbol":"SOL","ts":"2026-03-01T00:00:00Z","open":1,"close":2,"volume":3}'
FEATURES = ("last_close", "mean_ret_6h", "std_ret_1d", "max_close_2d", "count_1d")


class Doors:
    """Both servers of a project, and the folder behind them."""

    def __init__(self, home: Path, token: str) -> None:
        self.home = home
        self.token = token
        self.ports = {"api": _free_port(), "serve": _free_port()}

    def send(self, door: str, method: str, path: str, **given: Any) -> httpx.Response:  # noqa: ANN401 - httpx's
        headers = {"Authorization": f"Bearer {self.token}"} | given.pop("headers", {})
        url = f"http://127.0.0.1:{self.ports[door]}{path}"
        return httpx.request(method, url, headers=headers, timeout=60, **given)

    def start(self, door: str) -> subprocess.Popen[bytes]:
        line = [door, "--home", str(self.home), "--port", str(self.ports[door])]
        return subprocess.Popen(
            [sys.executable, "-m", "penstock.cli", *line],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )

    def wait(self, door: str) -> None:
        end = time.monotonic() + READY_S
        while time.monotonic() < end:
            try:
                if self.send(door, "GET", "/v2/health/ready").is_success:
                    return
            except httpx.TransportError:
                time.sleep(0.05)
        raise TimeoutError(door)


@pytest.fixture(scope="module")
def doors(
    served_template: ServedProject, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Doors]:
    home = tmp_path_factory.mktemp("doors") / "home"
    shutil.copytree(served_template.home, home)
    with open_services(home) as services:
        deploy(services, "btc", version=1)
        now = datetime(2026, 1, 1, tzinfo=UTC)
        reader = Identity(
            name="rea", role="reader", token_sha256=token_hash("reads"), created_at=now
        )
        services.metadata.write(Put(reader))
    made = Doors(home, served_template.token)
    running = [made.start(door) for door in made.ports]
    try:
        for door in made.ports:
            made.wait(door)
        yield made
    finally:
        for process in running:
            process.terminate()
        for process in running:
            process.wait(30)


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        return int(taken.getsockname()[1])


def _refused(answer: httpx.Response) -> tuple[int, str, str]:
    told = answer.json()
    # The inference protocol has the text alone there, and the kind beside it.
    fault = told["error"] if isinstance(told["error"], dict) else {**told, "message": told["error"]}
    return answer.status_code, fault["kind"], fault["message"]


@pytest.mark.parametrize(
    ("door", "method", "path"),
    [("api", "GET", "/v1/models"), ("api", "POST", EVENTS), ("serve", "POST", PREDICT),
     ("serve", "GET", "/v1/deployments"), ("serve", "GET", "/nope")],
)  # fmt: skip
@pytest.mark.parametrize("header", ["", "Bearer wrong", "Basic abc", "Bearer "])
def test_nobody_comes_in_without_a_token(
    doors: Doors, door: str, method: str, path: str, header: str
) -> None:
    answer = doors.send(door, method, path, headers={"Authorization": header.strip()})

    assert _refused(answer)[:2] == (401, "access")
    assert answer.headers["WWW-Authenticate"] == "Bearer"


@pytest.mark.parametrize(
    ("door", "path"),
    [("api", EVENTS), ("api", "/v1/deployments/btc/deploy"), ("serve", PREDICT), ("serve", INFER)],
)
def test_a_role_that_does_not_reach_is_forbidden(doors: Doors, door: str, path: str) -> None:
    answer = doors.send(door, "POST", path, content="{}", headers={"Authorization": "Bearer reads"})

    status, kind, message = _refused(answer)
    assert (status, kind) == (403, "access")
    assert "'rea' is reader, but this takes the role" in message


@pytest.mark.parametrize(
    ("door", "method", "path", "status", "message"),
    [
        ("api", "GET", "/nope", 404, "/openapi.json"),
        ("serve", "GET", "/nope", 404, "/openapi.json"),
        ("api", "DELETE", "/v1/models", 405, "/openapi.json"),
        ("serve", "GET", PREDICT, 405, "send POST"),
        ("api", "GET", "/v1/models/directoin", 404, "Did you mean 'direction'?"),
        ("api", "POST", "/v1/models/directoin/train", 404, "Did you mean 'direction'?"),
        ("api", "POST", "/v1/sources/candle/events", 404, "Did you mean 'candles'?"),
        ("api", "GET", "/v1/deployments/bt", 404, "Did you mean 'btc'?"),
        ("serve", "POST", "/v1/deployments/bt/predict", 404, "Did you mean 'btc'?"),
        ("serve", "GET", "/v2/models/bt", 404, "Did you mean 'btc'?"),
        ("api", "GET", "/v1/runs/train-1", 404, "There is no run 'train-1'"),
        ("api", "POST", "/v1/runs/train-1/retry", 404, "There is no run 'train-1'"),
        ("api", "GET", "/v1/lineage/nothing", 404, "Lineage takes a prediction id"),
        ("api", "GET", "/v1/replay/nothing", 404, "Its id is in the answer"),
        ("api", "GET", "/v1/runs?limit=0", 422, "query.limit"),
        ("api", "GET", "/v1/runs?state=lost", 422, "'queued', 'running'"),
        ("api", "POST", "/v1/deployments/split/rollback", 409, "no previous champion"),
    ],
)
def test_what_is_not_there_says_what_is(  # noqa: PLR0917 - a case
    doors: Doors, door: str, method: str, path: str, status: int, message: str
) -> None:
    content = CANDLE if method == "POST" else ""
    answer = doors.send(
        door, method, path, content=content, headers={"Content-Type": JSON} if content else {}
    )
    if "rollback" in path:
        answer = doors.send(door, method, path)

    found = _refused(answer)
    assert found[0] == status
    assert message in found[2]
    if status == 405:
        assert answer.headers["Allow"]


@pytest.mark.parametrize(
    ("path", "kind", "body", "status"),
    [
        (EVENTS, JSON, b"{bad", 400),
        (EVENTS, JSON, b"", 400),
        (EVENTS, JSON, b"[]", 400),
        (EVENTS, JSON, b"\xff\xfe", 400),
        (EVENTS, JSON, CANDLE.replace(":1", ":NaN").encode(), 400),
        (EVENTS, JSON, b"[" * 5000 + b"]" * 5000, 400),
        (EVENTS, LINES, CANDLE.encode() + b"\n{bad\n", 400),
        (EVENTS, "text/csv", b"a,b", 415),
        (EVENTS, "", CANDLE.encode(), 415),
        (EVENTS, JSON, b"[" + b" " * (17 << 20) + b"]", 413),
        (OUTCOMES, JSON, b"[" + b" " * (17 << 20) + b"]", 413),
        (OUTCOMES, JSON, b"{bad", 400),
        (OUTCOMES, JSON, b"{}", 422),
        (OUTCOMES, JSON, b'{"deployment":"btc","observations":[]}', 422),
        (OUTCOMES, JSON, b'{"deployment":"bt","observations":[{"prediction_id":"x","value":1}]}',
         404),
        (OUTCOMES, JSON, b'{"deployment":"btc","observations":[{"prediction_id":"x","value":7}]}',
         422),
        (OUTCOMES, JSON, b'{"deployment":"btc","observations":[{"prediction_id":"x","value":NaN}]}',
         422),
        ("/v1/deployments/btc/deploy", JSON, b'{"versoin":1}', 422),
        ("/v1/deployments/btc/deploy", JSON, b'{"version":9}', 404),
    ],
)  # fmt: skip
def test_a_body_that_does_not_fit_changes_nothing(
    doors: Doors, path: str, kind: str, body: bytes, status: int
) -> None:
    with open_services(doors.home) as services:
        before = services.log.end("candles"), services.log.end("observations")

    answer = doors.send("api", "POST", path, content=body, headers={"Content-Type": kind})

    assert _refused(answer)[0] == status
    with open_services(doors.home) as services:
        assert (services.log.end("candles"), services.log.end("observations")) == before


def _features(**changed: str) -> str:
    values = dict.fromkeys((f"momentum.{name}" for name in FEATURES), "1")
    values |= {name.replace("__", "."): value for name, value in changed.items()}
    inner = ",".join(f'"{name}":{value}' for name, value in values.items())
    return f'{{"features":{{{inner}}}}}'


@pytest.mark.parametrize(
    ("path", "body", "status", "message"),
    [
        (PREDICT, "{bad", 400, "is no JSON"),
        (PREDICT, "", 400, "is no JSON"),
        (PREDICT, "[" * 5000, 400, "is no JSON"),
        (PREDICT, "[]", 422, "Send an object"),
        (PREDICT, "{}", 422, "names nothing to score"),
        (PREDICT, '{"entity":{"symbl":"BTC"}}', 422, "Did you mean 'symbol'?"),
        (PREDICT, '{"entity":{"symbol":1}}', 422, "Expected `str`, got `int`"),
        (PREDICT, '{"entity":{"symbol":"BTC"},"foo":1}', 422, "has 'foo'"),
        (PREDICT, '{"entity":{"symbol":"BTC"},"at":"2026-01-01T00:00:00"}', 422, "timezone"),
        (PREDICT, '{"features":{}}', 422, "lacks the features"),
        (PREDICT, _features(momentum__last_clos="1"), 422, "Did you mean 'momentum.last_close'?"),
        (PREDICT, _features(momentum__last_close='"a"'), 422, "is text; send a number"),
        (PREDICT, _features(momentum__last_close="NaN"), 422, "send a finite number, or null"),
        (PREDICT, _features(momentum__last_close="1e999"), 422, "send a finite number, or null"),
        (PREDICT, '{"rows":[]}', 422, "length >= 1"),
        (PREDICT, '{"x":"' + "a" * (2 << 20) + '"}', 413, "Send fewer rows at once"),
        (INFER, '{"inputs":[]}', 422, "'inputs' is empty"),
        (INFER, '{"inputs":[{"name":"f","shape":[1,5],"datatype":"FP64","data":[1]}]}', 422,
         "its shape [1, 5] says 5"),
        (INFER, '{"inputs":[{"name":"f","shape":[1,5],"datatype":"FP64","data":[1,1,1e999,1,1]}]}',
         422, "out of range"),
    ],
)  # fmt: skip
def test_a_question_that_does_not_fit_is_refused(
    doors: Doors, path: str, body: str, status: int, message: str
) -> None:
    found = _refused(doors.send("serve", "POST", path, content=body))

    assert found[0] == status
    assert message in found[2]


def test_events_that_break_the_contract_are_taken_and_set_aside(doors: Doors) -> None:
    bad = [
        "3", '{"symbol":1}', CANDLE.replace('"open":1', '"open":"abc"'),
        CANDLE.replace("00Z", "00"), CANDLE.replace('"open":1', '"open":1e999'),
        CANDLE.replace("SOL", "S" * 600), CANDLE.replace(":1", f":{'[' * 900}{']' * 900}"),
    ]  # fmt: skip
    lines = "\n".join([CANDLE, CANDLE, *bad])

    answer = doors.send("api", "POST", EVENTS, content=lines, headers={"Content-Type": LINES})
    with open_services(doors.home) as services:
        batch = ingest_log(services, Catalogue.load(services.metadata).source("candles"))

    assert (answer.status_code, answer.json()["count"]) == (202, 9)
    assert batch is not None
    assert (batch.read, batch.stored, batch.quarantined, batch.duplicates) == (9, 1, 7, 1)


def test_the_command_line_says_what_the_server_said(
    doors: Doors, call: Callable[..., Said]
) -> None:
    home = ("--home", doors.home)
    token = doors.home / ".penstock" / "token"

    answered = call("predict", "btc", "--key", "BTC", *home)
    lacking = call("predict", "btc", "--feature", "momentum.last_close=1", *home)
    token.write_text("wrong\n")
    wrong = call("predict", "btc", "--key", "BTC", *home)
    token.unlink()
    gone = call("predict", "btc", "--key", "BTC", *home)
    token.write_text(f"{doors.token}\n")

    assert answered.code == 0
    assert lacking.err.startswith("error input  ")
    assert wrong.err.startswith("error access  Nobody has that token")
    assert gone.err.startswith("error state  The token file ")
    assert (lacking.code, wrong.code, gone.code) == (1, 1, 1)
