"""Where the URL of a request leads, and whether it takes the short way there."""

from __future__ import annotations

from typing import NamedTuple

from .serve_aliases import is_alias
from .serve_explain import is_explain
from .serve_features import FEATURES

__all__ = ["DEPLOYMENTS", "PREDICT", "Way", "Ways", "kind_of", "model_named"]

DEPLOYMENTS, PREDICT = "/v1/deployments/", "/predict"
MODELS, INFER = "/v2/models/", "/infer"
BEGINNINGS = (b"/v1/deployments/", b"/v2/models/", b"/v1/models/")
READS = f"{FEATURES}/".encode()
ENDINGS = (b"/predict", b"/infer", b":predict", b"/invocations")
REMEMBERED, LONGEST_BYTES = 1_024, 256


class Way(NamedTuple):
    """Where a URL leads.

    Attributes:
        path: Its path.
        query: What comes after it.
        is_short: Whether a ``POST`` there may be answered without a round through ASGI.
        kind: What a request there is counted as.
        name: The deployment that is asked to ``predict`` or ``infer``; else empty.
        number: The version that ``infer`` names; empty for none.
    """

    path: str
    query: bytes
    is_short: bool
    kind: str
    name: str = ""
    number: str = ""


class Ways:
    """Ways of URLs, kept: clients ask for the same few."""

    def __init__(self) -> None:
        self._known: dict[bytes, Way] = {}

    def of(self, url: bytes) -> Way:
        """Where a URL leads."""
        way = self._known.get(url)
        return self._found(url) if way is None else way

    def _found(self, url: bytes) -> Way:
        raw, _, query = url.partition(b"?")
        path = raw.decode("latin-1")
        is_read = raw.startswith(READS)
        is_short = is_read or (raw.endswith(ENDINGS) and raw.startswith(BEGINNINGS))
        kind, name, number = kind_of(path), "", ""
        if kind == "predict":
            name = path[len(DEPLOYMENTS) : -len(PREDICT)]
        elif kind == "infer":
            name, number, what = model_named(path)
            kind = kind if what == "infer" else "other"
        way = Way(path, query, is_short and b"%" not in raw, kind, name, number)
        if not query and len(url) <= LONGEST_BYTES:
            if len(self._known) >= REMEMBERED:
                self._known.clear()
            self._known[url] = way
        return way


def kind_of(path: str) -> str:
    """What a request is counted as."""
    if path.startswith(DEPLOYMENTS) and path.endswith(PREDICT):
        return "predict"
    if path == FEATURES or path.startswith(f"{FEATURES}/"):
        return "features"
    if path.startswith(MODELS) and path.endswith(INFER):
        return "infer"
    if is_explain(path):
        return "explain"
    return "alias" if is_alias(path) else "other"


def model_named(path: str) -> tuple[str, str, str]:
    """Model, version and what is wanted of it: ``{name}[/versions/{version}][/{what}]``."""
    name, _, rest = path[len(MODELS) :].partition("/")
    number = ""
    if rest == "versions" or rest.startswith("versions/"):
        number, _, rest = rest[len("versions/") :].partition("/")
        number = number or "?"
    return name, number, rest
