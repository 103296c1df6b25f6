"""The operating system's clock, and identifiers made from it."""

from __future__ import annotations

from .clock import SystemClock, UlidIds

__all__ = ["SystemClock", "UlidIds"]
