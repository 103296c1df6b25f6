"""What a client does with the answers of a server in trouble."""

from __future__ import annotations

import json
import socket
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, TypeAlias

import msgspec
import pytest

import penstock as ps
from penstock import errors
from penstock.errors import (
    InputError,
    NotFoundError,
    NotReadyError,
    PenstockError,
    UnavailableError,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

Answer: TypeAlias = tuple[int, dict[str, str], str]
AS_OF = "2026-01-11T00:30:00Z"
GOOD: Answer = (200, {}, json.dumps({"features": {"v.x": 1.5}, "as_of": AS_OF}))
ASK = {"symbol": "A"}
TAKES = json.dumps({"entities": {"symbol": "string"}, "request": {}})


class Scripted:
    """A server that answers what it is told to, one after the other, the last one for ever."""

    def __init__(self) -> None:
        self.answers: list[Answer | None] = []
        self.asked = 0
        self.delay_s = 0.0
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                """Say what the service takes, of which no retry is told here."""
                self.send_response(200)
                self.send_header("content-length", str(len(TAKES)))
                self.end_headers()
                self.wfile.write(TAKES.encode())

            def do_POST(self) -> None:
                self.rfile.read(int(self.headers["content-length"]))
                answer = outer.answers[min(outer.asked, len(outer.answers) - 1)]
                outer.asked += 1
                time.sleep(outer.delay_s)
                if answer is None:
                    self.connection.shutdown(socket.SHUT_RDWR)
                    self.close_connection = True
                    return
                status, headers, text = answer
                self.send_response(status)
                for name, value in (headers | {"content-length": str(len(text))}).items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(text.encode())

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base's name
                """Say nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))
        self._thread.start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


@pytest.fixture
def server() -> Iterator[Scripted]:
    scripted = Scripted()
    yield scripted
    scripted.close()


def error(kind: str, message: str = "so it is") -> str:
    return json.dumps({"error": {"kind": kind, "message": message}})


BUSY: Answer = (503, {"retry-after": "0"}, error("unavailable"))


def test_a_busy_server_is_asked_again(server: Scripted) -> None:
    server.answers = [BUSY, (503, {"retry-after": "0"}, "<html>proxy</html>"), GOOD]
    with ps.connect(server.url) as client:
        assert client.online("s", ASK) == {"v.x": 1.5}
    assert server.asked == 3


def test_it_is_asked_three_times_at_most(server: Scripted) -> None:
    server.answers = [BUSY]
    with ps.connect(server.url) as client, pytest.raises(UnavailableError, match="so it is"):
        client.online("s", ASK)
    assert server.asked == 3


def test_the_time_that_it_names_is_waited(server: Scripted) -> None:
    server.answers = [(503, {"retry-after": "0.4"}, error("unavailable")), GOOD]
    start = time.monotonic()
    with ps.connect(server.url) as client:
        client.online("s", ASK)
    assert time.monotonic() - start >= 0.4


def test_a_connection_that_was_cut_is_made_again(server: Scripted) -> None:
    server.answers = [None, GOOD]
    with ps.connect(server.url) as client:
        assert client.online("s", ASK) == {"v.x": 1.5}
    assert server.asked == 2


def test_what_waiting_does_not_mend_is_raised_at_once(server: Scripted) -> None:
    server.answers = [(503, {"retry-after": "1"}, error("not_ready", "build it first"))]
    with ps.connect(server.url) as client, pytest.raises(NotReadyError, match="build it first"):
        client.online("s", ASK)
    assert server.asked == 1


def test_an_answer_that_is_late_is_given_up(server: Scripted) -> None:
    server.answers = [GOOD]
    server.delay_s = 1.0
    start = time.monotonic()
    with (
        ps.connect(server.url, timeout_s=0.2) as client,
        pytest.raises(UnavailableError, match="timeout_s"),
    ):
        client.online("s", ASK)
    assert time.monotonic() - start < 0.9


CLASSES = [
    one for one in vars(errors).values() if isinstance(one, type) and issubclass(one, PenstockError)
]


@pytest.mark.parametrize("kind", CLASSES, ids=lambda one: one.__name__)
def test_every_error_comes_back_as_its_class(server: Scripted, kind: type[PenstockError]) -> None:
    server.answers = [(422, {}, error(kind("x").kind))]
    with ps.connect(server.url) as client, pytest.raises(PenstockError) as caught:
        client.online("s", ASK)
    assert type(caught.value) is kind
    assert caught.value.facts["status"] == 422


@pytest.mark.parametrize(
    ("status", "body", "kind", "words"),
    [
        (400, error("malformed", "no JSON"), InputError, "no JSON"),
        (500, error("internal", "look at the log"), PenstockError, "look at the log"),
        (404, "nothing here", InputError, "not as Penstock does"),
        (502, "bad gateway", PenstockError, "answered 502"),
        (404, error("not_found", "no such service"), NotFoundError, "no such service"),
    ],
)
def test_other_answers_are_errors_too(
    server: Scripted, status: int, body: str, kind: type[PenstockError], words: str
) -> None:
    server.answers = [(status, {}, body)]
    with ps.connect(server.url) as client, pytest.raises(kind, match=words) as caught:
        client.online("s", ASK)
    assert type(caught.value) is kind
    assert msgspec.json.encode(caught.value.facts["status"]) == str(status).encode()
