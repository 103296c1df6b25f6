"""Messages to webhooks, received by a real server."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import threading
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, cast

import msgspec
import pytest

from penstock.control import BACK_OFF
from penstock.errors import InputError
from penstock.ports import Put
from penstock.records import Delivery
from penstock.runtime import LocalServices, Settings, Targets, init_project, open_services
from penstock.runtime.webhooks import WebhookLane, secret_in

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


class Receiver(ThreadingHTTPServer):
    """Takes messages in, and answers what it is told to."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.received: list[tuple[dict[str, str], bytes]] = []
        self.answers: list[int] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/hook"


class _Handler(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        server = cast("Receiver", self.server)
        body = self.rfile.read(int(self.headers["content-length"]))
        server.received.append(({k.lower(): v for k, v in self.headers.items()}, body))
        status = server.answers.pop(0) if server.answers else 204
        self.send_response(status)
        if status == 302:
            self.send_header("location", server.url)
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the library's name
        """Say nothing."""


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with Receiver() as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def services(tmp_path: Path) -> Iterator[LocalServices]:
    init_project(tmp_path)
    with open_services(
        tmp_path, kind="worker", settings=Settings(webhook_hosts="127.0.0.1")
    ) as one:
        yield one


def _delivery(services: LocalServices, url: str) -> Delivery:
    now = services.clock.now()
    body = json.dumps({"type": "scores.ready", "name": "ä"})
    made = Delivery(delivery_id="job-btc-1.ended", url=url, body=body, created_at=now, next_at=now)
    services.metadata.write(Put(made))
    return made


def _now(services: LocalServices) -> Delivery:
    found = services.metadata.read(Delivery, "job-btc-1.ended")
    assert found is not None
    return found


def _hurry(services: LocalServices) -> None:
    """Let the wait be over."""
    waiting = _now(services)
    services.metadata.write(Put(msgspec.structs.replace(waiting, next_at=services.clock.now())))


def test_a_message_is_signed_and_sent_once(services: LocalServices, receiver: Receiver) -> None:
    sent = _delivery(services, receiver.url)
    lane = WebhookLane(services)
    lane.turn()
    lane.turn()

    ((headers, body),) = receiver.received
    assert body == sent.body.encode()
    text = services.layout.webhook_secret.read_text().strip()
    assert services.layout.webhook_secret.stat().st_mode & 0o777 == 0o600
    secret = base64.b64decode(text.removeprefix("whsec_"))
    signed = b".".join([b"job-btc-1.ended", headers["webhook-timestamp"].encode(), body])
    digest = hmac.new(secret, signed, hashlib.sha256).digest()
    assert headers["webhook-signature"] == "v1," + base64.b64encode(digest).decode()
    assert headers["webhook-id"] == "job-btc-1.ended"
    assert abs(int(headers["webhook-timestamp"]) - services.clock.now_us() / 1e6) < 60
    assert (_now(services).state, _now(services).attempts) == ("delivered", 1)
    (entry,) = [one for one in services.metadata.audit() if one.action == "deliver"]
    assert entry.difference["state"] == "delivered"


def test_it_is_sent_again_after_longer_and_longer_waits(
    services: LocalServices, receiver: Receiver
) -> None:
    receiver.answers = [500, 302, 404]
    _delivery(services, receiver.url)
    lane = WebhookLane(services)
    waits: list[timedelta] = []
    for _ in range(3):
        lane.turn()
        assert _now(services).state == "waiting"
        waits.append(_now(services).next_at - services.clock.now())
        lane.turn()  # not due yet
        _hurry(services)
    lane.turn()

    assert len(receiver.received) == 4  # a redirection is not followed
    assert {headers["webhook-id"] for headers, _ in receiver.received} == {"job-btc-1.ended"}
    for wait, expected in zip(waits, BACK_OFF, strict=False):
        assert expected - timedelta(seconds=3) < wait <= expected
    assert (_now(services).state, _now(services).attempts) == ("delivered", 4)


@pytest.mark.parametrize(
    ("answers", "attempts"), [([410], 1), ([500] * 9, 9)], ids=["gone", "never"]
)
def test_at_some_point_it_is_given_up(
    services: LocalServices, receiver: Receiver, answers: list[int], attempts: int
) -> None:
    receiver.answers = list(answers)
    _delivery(services, receiver.url)
    lane = WebhookLane(services)
    for _ in range(20):
        lane.turn()
        if _now(services).state == "waiting":
            _hurry(services)

    assert (_now(services).state, _now(services).attempts) == ("failed", attempts)
    assert len(receiver.received) == attempts
    (entry,) = [one for one in services.metadata.audit() if one.action == "deliver"]
    assert entry.difference["state"] == "failed"


def test_a_host_that_is_allowed_no_more_is_not_asked(
    services: LocalServices, receiver: Receiver, tmp_path: Path
) -> None:
    _delivery(services, receiver.url)
    settings = Settings(webhook_hosts="hooks.example.com")
    with open_services(tmp_path, kind="worker", settings=settings) as other:
        WebhookLane(other).turn()

    assert receiver.received == []
    assert _now(services).state == "failed"
    assert "not allowed" in _now(services).said


def test_nobody_listens(services: LocalServices, receiver: Receiver) -> None:
    _delivery(services, receiver.url.replace(str(receiver.server_port), "1"))
    WebhookLane(services).turn()

    assert _now(services).state == "waiting"
    assert "ConnectError" in _now(services).said


def test_the_secret_is_made_once(tmp_path: Path) -> None:
    first = secret_in(tmp_path / "secret")
    assert len(first) == 32
    assert secret_in(tmp_path / "secret") == first


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1", "10.1.2.3", "172.16.0.1", "192.168.1.1", "169.254.169.254", "0.0.0.0",  # noqa: S104 - refused
        "100.64.0.1", "224.0.0.1", "255.255.255.255", "[::1]", "[fe80::1]", "[fc00::1]",
        "[::ffff:127.0.0.1]", "[64:ff9b::7f00:1]", "[2002:7f00:1::]", "localhost", "2130706433",
    ],
)  # fmt: skip
def test_the_inside_of_the_house_is_out_of_reach(address: str) -> None:
    with pytest.raises(InputError, match="not public"):
        Targets("").address(f"https://{address}/x")


def test_a_public_address_is_used_as_it_was_looked_up() -> None:
    assert Targets("").address("https://1.1.1.1/x") == "1.1.1.1"


@pytest.mark.parametrize(
    ("hosts", "url", "fine"),
    [
        ("", "https://example.com/x?a=1", True),
        ("", "http://example.com/x", False),
        ("", "https://user:secret@example.com/", False),
        ("", "https://user@example.com/", False),
        ("", "https://example.com/#part", False),
        ("", "https:///x", False),
        ("", "https://example.com:99999/", False),
        ("", "https://exämple.com/", False),
        ("", "https://example.com/a b", False),
        ("", "https://example.com/\r\nx: y", False),
        ("", "file:///etc/passwd", False),
        ("", "https://example.com/" + "x" * 2_000, False),
        ("hooks.example.com", "http://hooks.example.com/", True),
        ("hooks.example.com", "https://HOOKS.example.com:8443/", True),
        ("hooks.example.com", "https://example.com/", False),
        ("*.example.com", "https://a.b.example.com/", True),
        ("*.example.com", "https://badexample.com/", False),
        ("10.0.0.5:8080, b.org", "http://10.0.0.5:8080/", True),
        ("10.0.0.5:8080, b.org", "http://10.0.0.5:80/", False),
        ("10.0.0.5:8080, b.org", "https://b.org/", True),
    ],
)
def test_whom_messages_may_be_sent_to(hosts: str, url: str, fine: bool) -> None:  # noqa: FBT001
    if fine:
        Targets(hosts).check(url)
    else:
        with pytest.raises(InputError):
            Targets(hosts).check(url)
