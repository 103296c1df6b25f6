"""The page for people: one file, the same for whoever asks, and of itself it tells nothing.

What it shows it asks for with the token that its reader enters, by the paths that programs use.
"""

from __future__ import annotations

import base64
import hashlib
import re
from importlib.resources import files
from typing import TYPE_CHECKING

from .serve_errors import Answer

if TYPE_CHECKING:
    from .serve_call import Call

__all__ = ["Page"]

DEPLOYMENT = re.compile(r"/v1/deployments/[^/]+")


class Page:
    """The page, with a policy that lets nothing run but what is in it."""

    def __init__(self) -> None:
        body = (files("penstock.http") / "pages" / "serve.html").read_bytes()
        script, style = (_hash(body, tag) for tag in (b"script", b"style"))
        policy = (
            f"default-src 'none'; script-src {script}; style-src {style}; connect-src 'self'; "
            "img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
        )
        self._answer = Answer(
            200,
            body,
            (
                (b"content-type", b"text/html; charset=utf-8"),
                (b"content-security-policy", policy.encode()),
                (b"cache-control", b"no-cache"),
                (b"referrer-policy", b"no-referrer"),
                (b"x-content-type-options", b"nosniff"),
                (b"vary", b"accept"),
            ),
        )

    def answer(self, call: Call, path: str) -> Answer | None:
        """The page where a browser asks for it; none where something else is asked."""
        asked = call.scope["method"] in {"GET", "HEAD"} and b"text/html" in call.accept
        if asked and (path == "/" or DEPLOYMENT.fullmatch(path)):
            return self._answer
        return None


def _hash(body: bytes, tag: bytes) -> str:
    inside = body.partition(b"<%s>" % tag)[2].partition(b"</%s>" % tag)[0]
    return f"'sha256-{base64.b64encode(hashlib.sha256(inside).digest()).decode()}'"
