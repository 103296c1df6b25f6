"""The doors of HTTP: the control plane and online scoring, behind one identity.

``api`` and ``serve`` are loaded when they are first asked for: each process takes in only its own
web framework.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from .identity import bearer_token

if TYPE_CHECKING:
    from .api_process import api
    from .serve_start import serve

__all__ = ["api", "bearer_token", "serve"]

LAZY = {"api": ".api_process", "serve": ".serve_start"}


def __getattr__(name: str) -> object:
    if name in LAZY:
        return getattr(import_module(LAZY[name], __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
