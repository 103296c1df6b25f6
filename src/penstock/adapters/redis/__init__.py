"""The online store in Redis."""

from __future__ import annotations

from .online_store import RedisOnlineStore

__all__ = ["RedisOnlineStore"]
