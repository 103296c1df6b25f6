"""The world outside the platform: it sends candles, asks for predictions, sees what came true.

Everything goes over HTTP, as any client would do it.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import httpx
import msgspec
import numpy as np

from penstock.errors import UnavailableError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from datetime import datetime

    import polars as pl

__all__ = ["Asked", "World", "auc"]

CHUNK_ROWS = 5_000
HOUR_US = 3_600_000_000
WAIT_S = 180.0  # a slow machine is no failure
POLL_S = 0.02
OK = range(200, 300)
JSON = "application/json"


class Asked(msgspec.Struct, frozen=True, kw_only=True):
    """One prediction that was asked for.

    Attributes:
        prediction_id: Its id.
        prediction: Probability that the next hour closes higher.
        version: ``model@version`` that answered.
        came_true: 1 when it closed higher, else 0; none at the end of the data.
        took_ms: From the request to its answer, as the client saw it.
    """

    prediction_id: str
    prediction: float
    version: str
    came_true: int | None
    took_ms: float


class World:
    """A client of the control plane and of the serving process.

    Args:
        api: Address of the control plane.
        serve: Address of the serving process.
        token: The token.
        live: The candles to come, in the order of time.
    """

    def __init__(self, api: str, serve: str, token: str, live: pl.DataFrame) -> None:
        headers = {"Authorization": f"Bearer {token}"}
        self.api = httpx.Client(base_url=api, headers=headers, timeout=WAIT_S)
        self.serve = httpx.Client(base_url=serve, headers=headers, timeout=WAIT_S)
        self._live = live
        self._hours: list[datetime] = live["ts"].unique().sort().to_list()
        self._next = 0
        self.sent = 0

    def close(self) -> None:
        """Hang up."""
        self.api.close()
        self.serve.close()

    def get(self, path: str) -> Any:  # noqa: ANN401 - whatever JSON the API answers
        """Ask the control plane.

        Raises:
            UnavailableError: It refuses.
        """
        return _said(self.api, "GET", path)

    def post(self, path: str, body: object = None) -> Any:  # noqa: ANN401 - as in get
        """Tell the control plane.

        Raises:
            UnavailableError: It refuses.
        """
        return _said(self.api, "POST", path, msgspec.json.encode(body))

    def send(self, source: str, hours: int) -> int:
        """Send the candles of the next hours as events; returns when the last is known, in us."""
        until = self._hours[self._next : self._next + hours]
        self._next += hours
        rows = self._live.filter(self._live["ts"].is_between(until[0], until[-1]))
        lines = rows.drop("up").with_columns(rows["ts"].dt.strftime("%Y-%m-%dT%H:%M:%SZ"))
        path = f"/v1/sources/{source}/events"
        for part in lines.iter_slices(CHUNK_ROWS):
            _said(self.api, "POST", path, part.write_ndjson().encode(), kind="application/x-ndjson")
        self.sent += rows.height
        return round(until[-1].timestamp() * 1e6) + HOUR_US

    def ask(self, deployment: str, symbols: Sequence[str], at_us: int) -> list[Asked]:
        """Ask for a prediction of each symbol at a time."""
        return [self._ask(deployment, symbol, at_us) for symbol in symbols]

    def observe(self, deployment: str, asked: Sequence[Asked]) -> int:
        """Report what came true of predictions."""
        told = [
            {"prediction_id": one.prediction_id, "value": one.came_true}
            for one in asked
            if one.came_true is not None
        ]
        if told:
            self.post("/v1/observations", {"deployment": deployment, "observations": told})
        return len(told)

    def answers(self) -> bool:
        """Whether both processes answer."""
        live = "/v2/health/live"
        try:
            return self.api.get(live).is_success and self.serve.get(live).is_success
        except httpx.TransportError:
            return False

    def wait_for(self, done: Callable[[], bool], what: str) -> None:
        """Wait until something has happened.

        Raises:
            UnavailableError: It has not, for long.
        """
        for _ in _patiently():
            if done():
                return
        raise UnavailableError(f"Waited {WAIT_S:.0f} s in vain: {what}. See .penstock/logs.")

    def _ask(self, deployment: str, symbol: str, at_us: int) -> Asked:
        body = {"entity": {"symbol": symbol}, "at": _iso(at_us)}
        path = f"/v1/deployments/{deployment}/predict"
        began = time.perf_counter()
        said = _said(self.serve, "POST", path, msgspec.json.encode(body))
        took_ms = (time.perf_counter() - began) * 1e3
        return Asked(
            prediction_id=said["prediction_id"],
            prediction=said["probability"]["true"],
            version=f"{said['model']}@{said['version']}",
            came_true=self._came_true(symbol, at_us),
            took_ms=took_ms,
        )

    def _came_true(self, symbol: str, at_us: int) -> int | None:
        stamp = self._live["ts"].dt.epoch("us") == at_us - HOUR_US
        found = self._live.filter(stamp & (self._live["symbol"] == symbol))["up"]
        return None if not len(found) or found[0] is None else int(found[0])


def auc(asked: Sequence[Asked]) -> float | None:
    """Share of pairs of a rise and a fall that are ordered rightly; none without any pair."""
    known = [one for one in asked if one.came_true is not None]
    rises = np.array([one.prediction for one in known if one.came_true == 1])
    falls = np.array([one.prediction for one in known if one.came_true == 0])
    if not len(rises) or not len(falls):
        return None
    above = (rises[:, None] > falls[None, :]).mean()
    level = (rises[:, None] == falls[None, :]).mean()
    return float(above + level / 2)


def _said(
    client: httpx.Client, method: str, path: str, body: bytes = b"", *, kind: str = JSON
) -> Any:  # noqa: ANN401 - whatever JSON it answers
    headers = {"Content-Type": kind} if body else {}
    try:
        answer = client.request(method, path, content=body, headers=headers)
    except httpx.TransportError as error:
        raise UnavailableError(f"{method} {path} was not answered: {error}.") from error
    if answer.status_code in OK:
        return answer.json()
    raise UnavailableError(
        f"{method} {path} answered {answer.status_code}: {answer.text[:500]}",
        status=answer.status_code,
    )


def _patiently() -> Iterator[None]:
    """Go round until the time is over."""
    end = time.monotonic() + WAIT_S
    while time.monotonic() < end:
        yield
        time.sleep(POLL_S)


def _iso(at_us: int) -> str:
    stamp = np.datetime64(at_us, "us")
    return f"{stamp}Z"
