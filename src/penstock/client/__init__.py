"""The Python client: features of a project, from its folder or over HTTP, by the same calls."""

from __future__ import annotations

from .interface import Client
from .opening import connect

__all__ = ["Client", "connect"]
