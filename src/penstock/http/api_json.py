"""Bodies of which nobody said what they are."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Receive, Scope, Send

__all__ = ["JsonBody"]

NAME = b"content-type"
UNSAID = (b"", b"application/x-www-form-urlencoded")  # the latter is what curl -d says by itself
EVENTS = "/events"


class JsonBody:
    """Takes a body as JSON where its sender said nothing else, as the serving process does.

    Events have several formats, so theirs has to be said.

    Args:
        app: What answers.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or follow the server's start and stop."""
        if scope["type"] == "http" and not scope["path"].endswith(EVENTS):
            said = dict(scope["headers"]).get(NAME, b"").partition(b";")[0].strip().lower()
            if said in UNSAID:
                rest = [pair for pair in scope["headers"] if pair[0] != NAME]
                # In the scope itself: whoever measures reads there which route it was.
                scope["headers"] = [*rest, (NAME, b"application/json")]
        await self._app(scope, receive, send)
