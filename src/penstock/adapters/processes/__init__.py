"""Tasks in worker processes of this machine."""

from __future__ import annotations

from .executor import ProcessExecutor

__all__ = ["ProcessExecutor"]
