"""What is taken in first: messages of the sources that a source's records are completed from."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import structlog

from penstock import ingest

if TYPE_CHECKING:
    from penstock.ports import EventLog
    from penstock.spec import Source

__all__ = ["Preceding"]

PATIENCE_S = 30.0


class Preceding:
    """Says how far a source's messages may be taken in now.

    A record finds what had been taken in before it, and never looks again. So of two messages that
    were acknowledged one after the other, that of the source that is looked into comes first: how
    far its topic goes is looked up after how far the own one goes, and what lies before that is
    waited for. Not for ever: who cannot be taken in must not keep everybody, so after half a minute
    the source goes on, until the others have caught up once.

    Args:
        log: The event log.
        source: The source whose messages wait.
    """

    def __init__(self, log: EventLog, source: Source) -> None:
        self._log = log
        self._source = source
        self._others = [one.topic for one in source.looks_into if one.topic != source.topic]
        self._upto: int | None = None
        self._ends: dict[str, int] = {}
        self._until_s = 0.0
        self._is_late = False
        self._logger = structlog.get_logger("penstock.stream").bind(lane=source.name)

    def upto(self) -> int | None:
        """The offset up to which messages may be taken in now; none while others come first."""
        own = self._source.topic
        # Perhaps another process has taken in what this one waited with.
        if self._upto is None or self._log.committed(own, ingest.GROUP) >= self._upto:
            self._upto = self._log.end(own)
            self._ends = {topic: self._log.end(topic) for topic in self._others}
            self._until_s = time.monotonic() + PATIENCE_S
        behind = [
            topic
            for topic, end in self._ends.items()
            if self._log.committed(topic, ingest.GROUP) < end
        ]
        if not behind:
            self._is_late = False
        elif self._is_late:
            return self._upto
        elif time.monotonic() >= self._until_s:
            self._is_late = True
            self._logger.warning("goes on without what it looks into", topics=behind)
        else:
            return None
        return self._upto
