"""A client that asks without a pause, for tests of what happens meanwhile."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Self

import httpx

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Caller"]

TIMEOUT_S = 30.0


class Caller:
    """Asks a process over and over, in a thread, while the context is open.

    Args:
        url: Where it answers.
        token: The token to ask with.
        ask: Asks once; an answer that it raises for is a fault.
        transport: How it gets there; plainly when left out.

    Attributes:
        asked: How often it has asked.
        faults: What went wrong: the text of an answer, or the error where there was none.
    """

    def __init__(
        self,
        url: str,
        token: str,
        ask: Callable[[httpx.Client], None],
        *,
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        self.asked = 0
        self.faults: list[str] = []
        self._ask = ask
        self._stop = threading.Event()
        headers = {"Authorization": f"Bearer {token}"}
        self._http = httpx.Client(
            base_url=url, headers=headers, timeout=TIMEOUT_S, transport=transport
        )
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()
        self._http.close()

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                self._ask(self._http)
            except httpx.HTTPStatusError as error:
                self.faults.append(error.response.text)
            except httpx.HTTPError as error:
                self.faults.append(repr(error))
            self.asked += 1
