"""The command line: parse, call, render; no decisions."""

from __future__ import annotations

from .application import main

__all__ = ["main"]
