"""Asking over HTTP: in turn or in an event loop, with limits of time and tries."""

from __future__ import annotations

import asyncio
import time
from abc import abstractmethod
from typing import TYPE_CHECKING, ClassVar, Generic, Protocol, Self, TypeVar, cast

import httpx

from .errors import (
    Forbidden,
    InvalidRequest,
    NotThere,
    PredictionError,
    ServerFailed,
    TimedOut,
    Unauthorized,
    Unavailable,
    UnexpectedAnswer,
)
from .reading import obj

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from types import TracebackType

__all__ = ["Asked", "AskedT", "AsyncExchange", "Exchange", "PredictionT"]

MOST_ROWS = 1_000
FIRST_WAIT_S, LONGEST_WAIT_S = 0.1, 10.0
BUSY, BROKEN = 503, 500
ERRORS: Mapping[int, type[PredictionError]] = {
    401: Unauthorized,
    403: Forbidden,
    404: NotThere,
    503: Unavailable,
}


class Asked(Protocol):
    """A row to ask for."""

    def to_json(self) -> dict[str, object]:
        """The row as the server takes it."""
        ...


AskedT = TypeVar("AskedT", bound=Asked)
PredictionT = TypeVar("PredictionT")


class _Shared(Generic[AskedT, PredictionT]):
    """What both ways of asking have.

    Args:
        base_url: Where the server answers, such as ``http://localhost:8001``.
        token: The caller's.
        timeout_s: How long to wait for one answer, in seconds.
        retries: How often to ask again where the server is busy, starting or not reached. A server
            that says when to come back is asked then.
    """

    PATH: ClassVar[str]

    def __init__(
        self, base_url: str, token: str, *, timeout_s: float = 10.0, retries: int = 3
    ) -> None:
        self._base_url = base_url.rstrip("/")
        self._headers = {"authorization": f"Bearer {token}"}
        self._timeout_s = timeout_s
        self._retries = retries

    @abstractmethod
    def _read(self, told: Mapping[str, object]) -> PredictionT:
        """A prediction from its JSON."""

    def _bodies(self, rows: Sequence[AskedT]) -> Iterator[dict[str, object]]:
        """Rows in requests that the server takes."""
        for start in range(0, len(rows), MOST_ROWS):
            yield {"rows": [row.to_json() for row in rows[start : start + MOST_ROWS]]}

    def _several(self, told: Mapping[str, object]) -> list[PredictionT]:
        predictions = told.get("predictions")
        if not isinstance(predictions, list):
            raise UnexpectedAnswer("The answer has no 'predictions'. Make this client again.")
        return [self._read(obj(one)) for one in cast("list[object]", predictions)]

    def _wait_s(self, error: Unavailable, tried: int) -> float:
        """How long to wait before the next try.

        Raises:
            Unavailable: There is none.
        """
        if tried >= self._retries:
            raise error
        return min(max(error.retry_after_s, FIRST_WAIT_S * (1 << tried)), LONGEST_WAIT_S)


class Exchange(_Shared[AskedT, PredictionT]):
    """Asks, and waits for the answer; safe across threads."""

    def __init__(
        self, base_url: str, token: str, *, timeout_s: float = 10.0, retries: int = 3
    ) -> None:
        super().__init__(base_url, token, timeout_s=timeout_s, retries=retries)
        self._http = httpx.Client(base_url=self._base_url, headers=self._headers, timeout=timeout_s)

    def predict(self, row: AskedT, *, with_features: bool = False) -> PredictionT:
        """Predict one row.

        Args:
            row: What to predict.
            with_features: Whether to tell the values the model saw.

        Raises:
            PredictionError: It was refused, or no answer came; its class says which.
        """
        return self._read(self._ask(row.to_json(), with_features=with_features))

    def predict_many(
        self, rows: Sequence[AskedT], *, with_features: bool = False
    ) -> list[PredictionT]:
        """Predict rows, in their order; see ``predict``."""
        found: list[PredictionT] = []
        for body in self._bodies(rows):
            found += self._several(self._ask(body, with_features=with_features))
        return found

    def close(self) -> None:
        """Give the connections back."""
        self._http.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def _ask(self, body: dict[str, object], *, with_features: bool) -> Mapping[str, object]:
        tried = 0
        while True:
            try:
                return self._once(body, with_features=with_features)
            except Unavailable as error:
                wait_s = self._wait_s(error, tried)
            tried += 1
            time.sleep(wait_s)

    def _once(self, body: dict[str, object], *, with_features: bool) -> Mapping[str, object]:
        try:
            response = self._http.post(self.PATH, json=body, params=_params(with_features))
        except httpx.HTTPError as error:
            raise _unanswered(error, self._base_url, self._timeout_s) from error
        return _told(response)


class AsyncExchange(_Shared[AskedT, PredictionT]):
    """Asks within an event loop."""

    def __init__(
        self, base_url: str, token: str, *, timeout_s: float = 10.0, retries: int = 3
    ) -> None:
        super().__init__(base_url, token, timeout_s=timeout_s, retries=retries)
        self._http = httpx.AsyncClient(
            base_url=self._base_url, headers=self._headers, timeout=timeout_s
        )

    async def predict(self, row: AskedT, *, with_features: bool = False) -> PredictionT:
        """Predict one row.

        Args:
            row: What to predict.
            with_features: Whether to tell the values the model saw.

        Raises:
            PredictionError: It was refused, or no answer came; its class says which.
        """
        return self._read(await self._ask(row.to_json(), with_features=with_features))

    async def predict_many(
        self, rows: Sequence[AskedT], *, with_features: bool = False
    ) -> list[PredictionT]:
        """Predict rows, in their order; see ``predict``."""
        found: list[PredictionT] = []
        for body in self._bodies(rows):
            found += self._several(await self._ask(body, with_features=with_features))
        return found

    async def close(self) -> None:
        """Give the connections back."""
        await self._http.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()

    async def _ask(self, body: dict[str, object], *, with_features: bool) -> Mapping[str, object]:
        tried = 0
        while True:
            try:
                return await self._once(body, with_features=with_features)
            except Unavailable as error:
                wait_s = self._wait_s(error, tried)
            tried += 1
            await asyncio.sleep(wait_s)

    async def _once(self, body: dict[str, object], *, with_features: bool) -> Mapping[str, object]:
        try:
            response = await self._http.post(self.PATH, json=body, params=_params(with_features))
        except httpx.HTTPError as error:
            raise _unanswered(error, self._base_url, self._timeout_s) from error
        return _told(response)


def _params(with_features: bool) -> dict[str, str]:  # noqa: FBT001 - of the request
    return {"features": "true"} if with_features else {}


def _told(response: httpx.Response) -> Mapping[str, object]:
    """The answer in JSON.

    Raises:
        PredictionError: It is an error, or no JSON.
    """
    try:
        said: object = response.json()
    except ValueError:
        said = None
    if response.is_success:
        return obj(said)
    raise _refused(response, said)


def _refused(response: httpx.Response, said: object) -> PredictionError:
    status = response.status_code
    about = _object(_object(said).get("error"))
    message = str(about.get("message") or f"The server answered {status}.")
    kind = str(about.get("kind") or "")
    given = ServerFailed if status >= BROKEN else InvalidRequest
    refused = ERRORS.get(status, given)(message, status, kind)
    if isinstance(refused, Unavailable):
        after = response.headers.get("retry-after", "")
        refused.retry_after_s = float(after) if after.isdigit() else 0.0
    return refused


def _object(told: object) -> Mapping[str, object]:
    """An object; an empty one where it is none."""
    return cast("Mapping[str, object]", told) if isinstance(told, dict) else {}


def _unanswered(error: httpx.HTTPError, where: str, timeout_s: float) -> PredictionError:
    """What a request without an answer becomes: only one that never went out may be repeated."""
    if isinstance(error, (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout)):
        return Unavailable(f"{where} cannot be reached: {error}.")
    if isinstance(error, httpx.TimeoutException):
        return TimedOut(f"{where} did not answer within {timeout_s:g} s.")
    return ServerFailed(f"{where} broke off: {type(error).__name__}: {error}.")
