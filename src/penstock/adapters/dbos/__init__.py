"""Durable runs by DBOS on SQLite."""

from __future__ import annotations

from .workflows import DbosWorkflows

__all__ = ["DbosWorkflows"]
