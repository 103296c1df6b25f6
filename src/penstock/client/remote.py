"""The client of a serving process: one entity as JSON, frames as Arrow, over one pool."""

from __future__ import annotations

import io
import time
from contextlib import suppress
from datetime import datetime
from typing import TYPE_CHECKING, Any, NoReturn, TypeAlias
from urllib.parse import quote

import httpx
import msgspec
import polars as pl

from penstock import errors
from penstock.errors import (
    InputError,
    NotSupportedError,
    PenstockError,
    RetryableError,
    UnavailableError,
)
from penstock.spec import DType

from .interface import AS_OF, Client
from .takes import Takes
from .told import Told, stale_views, unknown_online

if TYPE_CHECKING:
    from collections.abc import Mapping

    from .frames import Row

__all__ = ["RemoteClient"]

PATH = "/v1/features"
ARROW = "application/vnd.apache.arrow.stream"
UNKNOWN, STALE = "x-penstock-unknown", "x-penstock-stale"
Until: TypeAlias = dict[str, datetime]
ROWS_AT_ONCE = 1_000
TRIES = 3
SHORT_WAIT_S, LONGEST_WAIT_S = 0.1, 5.0
OK, UNAVAILABLE = 200, 503


class RemoteClient(Client):
    """A client of a serving process.

    A request that finds the process busy, restarting or gone is sent again, twice at most, after
    the time that the answer names; the rest is raised as the error that it is.

    Args:
        url: Address of the process, such as ``http://host:8001``.
        token: The caller's token.
        timeout_s: How long to wait for each answer.

    Raises:
        InputError: It is no address.
    """

    def __init__(self, url: str, *, token: str | None = None, timeout_s: float = 30.0) -> None:
        headers = {"authorization": f"Bearer {token}"} if token else {}
        self._url = url.rstrip("/")
        self._known: dict[str, Takes] = {}
        try:
            self._http = httpx.Client(base_url=self._url, headers=headers, timeout=timeout_s)
        except httpx.InvalidURL as error:
            raise InputError(f"{url!r} is no address: {error}. Write http://host:8001.") from None

    def services(self) -> list[str]:
        """Names of the feature services."""
        found = msgspec.json.decode(self._send("GET", PATH).content)
        return [str(service["name"]) for service in found["services"]]

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def _past(
        self, service: str, spine: pl.DataFrame, *, as_known: bool, stored: Mapping[str, str]
    ) -> NoReturn:
        del as_known, stored  # nothing of the past is told over HTTP
        raise NotSupportedError(
            f"Features of {service!r} at {len(spine):,} past times are computed where the tables "
            "are. Connect to the project's folder: penstock.connect('/path/to/project').",
            service=service,
        )

    def _one(self, service: str, keys: Row, request: Row, *, at: datetime | None) -> Told[Row]:
        body: dict[str, Any] = {"entity": keys}
        if request:
            body["request"] = request
        if at is not None:
            body["at"] = at
        sent = self._send("POST", _path(service), msgspec.json.encode(body, enc_hook=_plain))
        told = msgspec.json.decode(sent.content)
        notes = unknown_online(service, told.get("unknown", 0), 1)
        stale = msgspec.convert(told.get("stale", {}), Until)
        features = {**told["features"], AS_OF: datetime.fromisoformat(told["as_of"])}
        return Told(features, (*stale_views(stale), *notes))

    def _many(self, service: str, rows: pl.DataFrame) -> Told[pl.DataFrame]:
        starts = range(0, max(len(rows), 1), ROWS_AT_ONCE)
        parts = [self._part(service, rows, start) for start in starts]
        unknown = sum(int(part.headers.get(UNKNOWN, "0")) for part in parts)
        frames = [pl.read_ipc_stream(part.content) for part in parts]
        notes = unknown_online(service, unknown, len(rows))
        stale: dict[str, datetime] = {}
        for part in parts:
            stale |= msgspec.json.decode(part.headers.get(STALE, "{}"), type=Until)
        return Told(pl.concat(frames), (*stale_views(stale), *notes))

    def _takes(self, service: str, *, again: bool = False) -> Takes:
        """What a service takes, as it describes itself; asked once, and where that may be old."""
        known = self._known.get(service)
        if known is None or again:
            told = msgspec.json.decode(self._send("GET", _path(service)).content)
            keys, fields = (
                {str(name): DType(kind) for name, kind in told[part].items()}
                for part in ("entities", "request")
            )
            known = self._known[service] = Takes(service, keys, fields)
        return known

    def _part(self, service: str, rows: pl.DataFrame, start: int) -> httpx.Response:
        """The answer to as many rows as go at once, from one on."""
        body = io.BytesIO()
        part = rows[start : start + ROWS_AT_ONCE]
        part.write_ipc_stream(body, compat_level=pl.CompatLevel.oldest())
        try:
            return self._send("POST", _path(service), body.getvalue(), {"content-type": ARROW})
        except InputError as error:
            if not start:
                raise
            message = f"Of the rows from {start:,} on, counted from there: {error.message}"
            raise InputError(message, **error.facts) from error

    def _send(
        self, method: str, path: str, body: bytes = b"", headers: Mapping[str, str] | None = None
    ) -> httpx.Response:
        """The answer to a request, which is sent again where that may help."""
        left = TRIES
        while True:
            left -= 1
            try:
                answer = self._http.request(method, path, content=body, headers=headers)
            except httpx.TimeoutException as error:
                raise _late(self._url, error) from error
            except httpx.TransportError as error:
                if not left:
                    raise _unreachable(self._url, error) from error
                time.sleep(SHORT_WAIT_S)
                continue
            if answer.status_code == OK:
                return answer
            found = _error_of(answer)
            if not left or not isinstance(found, RetryableError):
                raise found
            time.sleep(_wait_s(answer))


def _path(service: str) -> str:
    return f"{PATH}/{quote(service, safe='')}"


def _plain(value: object) -> object:
    raise InputError(f"A key or a request field is {value!r}. Give text, a number or a boolean.")


def _late(url: str, error: httpx.TimeoutException) -> UnavailableError:
    return UnavailableError(
        f"{url} has not answered in time: {type(error).__name__}. Give connect() a longer "
        "timeout_s, or ask for fewer rows.",
        url=url,
    )


def _unreachable(url: str, error: httpx.TransportError) -> UnavailableError:
    return UnavailableError(
        f"{url} cannot be reached: {error}. See that 'penstock serve' runs there.", url=url
    )


def _wait_s(answer: httpx.Response) -> float:
    """How long the answer asks to wait."""
    try:
        return min(max(float(answer.headers.get("retry-after", "")), 0.0), LONGEST_WAIT_S)
    except ValueError:
        return SHORT_WAIT_S


def _error_of(answer: httpx.Response) -> PenstockError:
    """The error that an answer tells of, as the class that the server raised."""
    kind, message = "", ""
    with suppress(msgspec.DecodeError, UnicodeDecodeError, KeyError, TypeError):
        told = msgspec.json.decode(answer.content)["error"]
        kind, message = str(told["kind"]), str(told["message"])
    if found := _KINDS.get(kind):
        return found(message, status=answer.status_code)
    message = message or (
        f"{answer.url} answered {answer.status_code} {answer.reason_phrase}, and not as Penstock "
        "does. See that the address is that of 'penstock serve'."
    )
    if answer.status_code == UNAVAILABLE:
        return UnavailableError(message, status=answer.status_code)
    wrong = answer.is_client_error
    return (InputError if wrong else PenstockError)(message, status=answer.status_code)


def _kinds() -> dict[str, type[PenstockError]]:
    """The classes of errors by the kind that answers name."""
    classes = [getattr(errors, name) for name in errors.__all__]
    return {
        one("").kind: one
        for one in classes
        if isinstance(one, type) and issubclass(one, PenstockError)
    }


_KINDS = _kinds()
