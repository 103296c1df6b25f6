"""The deployments as they are served: each with what it takes and gives."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from penstock.scoring import Endpoint

from .serve_schema import Schema

if TYPE_CHECKING:
    from penstock.ports import Spans

__all__ = ["Door", "open_door"]


class Door(msgspec.Struct, frozen=True):
    """A deployment with what it takes and gives.

    Attributes:
        endpoint: Answers.
        schema: What the champion takes; none before there is one.
        instead: By what requests are read while the champion cannot be loaded, and something
            else answers; none where nobody knows what they say.
    """

    endpoint: Endpoint
    schema: Schema | None
    instead: Schema | None = None


def open_door(endpoint: Endpoint, spans: Spans | None) -> Door:
    """Make the door of a deployment; any thread may do it.

    Args:
        endpoint: What answers for it.
        spans: Where traces go; none where nothing is traced.
    """
    endpoint.writer.spans = spans
    schema = Schema(endpoint.reads) if endpoint.reads else None
    if endpoint.absent is None:
        return Door(endpoint, schema)
    return Door(endpoint, None, schema)
