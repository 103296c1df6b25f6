"""Messages to webhooks: signed, sent until they were received, and never to whom one must not.

A message is a record before it is sent, so no kill loses it; it may come twice, with the same
``webhook-id``. Headers and signature are those of https://www.standardwebhooks.com.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import secrets
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import httpx
import msgspec

from penstock import control
from penstock.errors import ConflictError, InputError, UnavailableError
from penstock.ports import Audit, Put
from penstock.records import Delivery

from .lanes import Lane
from .targets import Targets
from .whole_files import put_secret

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from .services import LocalServices

__all__ = ["WebhookLane", "secret_in"]

PREFIX = "whsec_"
SECRET_BYTES = 32
EVERY_S = 0.5
TIMEOUT_S = 10.0
AT_ONCE = 8
LOCK = "webhooks"
GONE, OK = 410, range(200, 300)


class WebhookLane(Lane):
    """Writes a message for each job that has ended, and sends what is due; one process does.

    Args:
        services: The project.
    """

    def __init__(self, services: LocalServices) -> None:
        super().__init__(services, "webhooks", EVERY_S)
        self._targets = Targets(services.settings.webhook_hosts)

    def turn(self) -> None:
        """Settle, then send."""
        try:
            with self._services.locks.hold(LOCK, wait_s=0):
                control.settle_jobs(self._services)
                self._send(self._due())
        except UnavailableError:
            return  # another worker does it

    def _due(self) -> list[Delivery]:
        now = self._services.clock.now()
        waiting = self._services.metadata.find(Delivery, where={"state": "waiting"})
        return [one for one in waiting if one.next_at <= now]

    def _send(self, due: Sequence[Delivery]) -> None:
        if not due:
            return
        secret = secret_in(self._services.layout.webhook_secret)
        with (
            httpx.Client(timeout=TIMEOUT_S, trust_env=False) as http,
            ThreadPoolExecutor(min(AT_ONCE, len(due)), "webhook") as threads,
        ):
            said = threads.map(lambda one: self._attempt(http, one, secret), due)
            for delivery, (received, final, words) in zip(due, said, strict=True):
                self._note(delivery, received=received, final=final, words=words)

    def _attempt(
        self, http: httpx.Client, delivery: Delivery, secret: bytes
    ) -> tuple[bool, bool, str]:
        """Send a message; whether it was received, whether that is the last word, and what was."""
        try:
            self._targets.check(delivery.url)
            url = httpx.URL(delivery.url)
            address = self._targets.address(delivery.url)
            status = _post(http, url, address, self._headers(delivery, secret), delivery.body)
        except InputError as error:
            return False, True, error.message
        except (UnavailableError, httpx.HTTPError) as error:
            return False, False, f"{type(error).__name__}: {error}"[:500]
        return status in OK, status == GONE, f"answered {status}"

    def _headers(self, delivery: Delivery, secret: bytes) -> dict[str, str]:
        at_s = str(self._services.clock.now_us() // 1_000_000)
        signed = f"{delivery.delivery_id}.{at_s}.{delivery.body}".encode()
        digest = hmac.new(secret, signed, hashlib.sha256).digest()
        return {
            "content-type": "application/json",
            "user-agent": "penstock",
            "webhook-id": delivery.delivery_id,
            "webhook-timestamp": at_s,
            "webhook-signature": f"v1,{base64.b64encode(digest).decode()}",
        }

    def _note(self, delivery: Delivery, *, received: bool, final: bool, words: str) -> None:
        """Remember what came of an attempt; the end of it is audited."""
        attempts = delivery.attempts + 1
        given_up = not received and (final or attempts > len(control.BACK_OFF))
        state = "delivered" if received else ("failed" if given_up else "waiting")
        wait = control.BACK_OFF[min(attempts, len(control.BACK_OFF)) - 1]
        after = msgspec.structs.replace(
            delivery,
            attempts=attempts,
            state=state,
            said=words,
            next_at=self._services.clock.now() + wait,
        )
        audit = None
        if state != "waiting":
            audit = Audit(
                actor=self._services.actor,
                action="deliver",
                subject=f"webhook/{delivery.delivery_id}",
                difference={"state": state, "attempts": attempts, "said": words},
            )
        try:
            self._services.metadata.write(Put(after, expected=delivery), audit=audit)
        except ConflictError:
            return  # it was changed meanwhile; it may be sent again
        tell = self._log.info if received else self._log.warning
        tell("webhook", id=delivery.delivery_id, state=state, attempts=attempts, said=words)


def _post(
    http: httpx.Client, url: httpx.URL, address: str, headers: dict[str, str], body: str
) -> int:
    """Post to an address by the name it was looked up by; its answer's body is not read."""
    host = url.netloc.decode("ascii")
    where = url.copy_with(host=address)
    extensions = {"sni_hostname": url.host} if url.scheme == "https" else {}
    with http.stream(
        "POST", where, content=body, headers={**headers, "host": host}, extensions=extensions
    ) as answer:
        return answer.status_code


def secret_in(path: Path) -> bytes:
    """What messages are signed with; made where there is none. The file holds ``whsec_<base64>``.

    Args:
        path: The file; only its owner can read it.
    """
    if not path.exists():
        text = PREFIX + base64.b64encode(secrets.token_bytes(SECRET_BYTES)).decode()
        put_secret(path, text)
    text = path.read_text(encoding="ascii").strip().removeprefix(PREFIX)
    return base64.b64decode(text)
