"""The greatest body of a request to the control plane."""

from __future__ import annotations

from typing import TYPE_CHECKING

from starlette.exceptions import HTTPException

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

__all__ = ["BODY_LIMIT_BYTES", "TOO_LARGE", "BodyLimit"]

BODY_LIMIT_BYTES = 16 * 1024 * 1024
TOO_LARGE = 413


class BodyLimit:
    """Lets no route read a body past the limit, whether its length was said before or not.

    Args:
        app: What answers.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or follow the server's start and stop."""
        read_bytes = 0

        async def limited() -> Message:
            nonlocal read_bytes
            message = await receive()
            read_bytes += len(message.get("body", b""))
            if read_bytes > BODY_LIMIT_BYTES:
                raise HTTPException(TOO_LARGE)
            return message

        await self._app(scope, limited if scope["type"] == "http" else receive, send)
