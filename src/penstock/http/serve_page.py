"""What answers at the address itself: a page for people, and a few words for programs.

Both are the same for whoever asks, and name nothing of the project. What the page shows it asks for
with the token that its reader enters, by the paths that programs use.
"""

from __future__ import annotations

import base64
import hashlib
import re
from importlib.resources import files
from typing import TYPE_CHECKING

import msgspec

from .serve_errors import PLAIN, Answer

if TYPE_CHECKING:
    from .serve_call import Call

__all__ = ["Page"]

DEPLOYMENT = re.compile(r"/v1/deployments/[^/]+")
VARIES = (b"vary", b"accept")
PATHS = {
    "/openapi.json": "every path of this process, with the types of what is deployed",
    "/v1/deployments": "what is deployed",
    "/v1/deployments/{name}/predict": "predictions, by POST",
    "/v1/features": "feature services",
    "/v2": "the Open Inference Protocol",
    "/v2/health/ready": "whether it answers; takes no token",
    "/metrics": "metrics for Prometheus",
    "/": "this; in a browser, a page to look around and try predictions",
}
ENTRY = (
    "Send 'Authorization: Bearer TOKEN'. The project's own is in .penstock/token of its folder; "
    "'penstock users add NAME' makes others."
)


class Page:
    """The page, with a policy that lets nothing run but what is in it, and the words.

    Args:
        version: Penstock's.
    """

    def __init__(self, version: str) -> None:
        words = {"name": "penstock", "process": "online scoring", "version": version,
                 "paths": PATHS, "token": ENTRY}  # fmt: skip
        self._words = Answer(200, msgspec.json.encode(words), (*PLAIN, VARIES))
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
                VARIES,
            ),
        )

    def answer(self, call: Call, path: str) -> Answer | None:
        """The page where a browser asks for it, the words to others; none for anything else."""
        if call.scope["method"] not in {"GET", "HEAD"}:
            return None
        if b"text/html" in call.accept and (path == "/" or DEPLOYMENT.fullmatch(path)):
            return self._answer
        return self._words if path == "/" else None


def _hash(body: bytes, tag: bytes) -> str:
    inside = body.partition(b"<%s>" % tag)[2].partition(b"</%s>" % tag)[0]
    return f"'sha256-{base64.b64encode(hashlib.sha256(inside).digest()).decode()}'"
