"""Event log: durable topics, read by offset."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from collections.abc import Sequence

    from penstock.records import Event

__all__ = ["EVENTS_TOPIC", "EventLog", "LogEntry", "announce"]

EVENTS_TOPIC = "events"


class LogEntry(msgspec.Struct, frozen=True):
    """One message.

    Attributes:
        offset: Its place in the topic: 1, 2, 3 ... without gaps.
        at_us: When it was appended, in microseconds since 1970 UTC.
        payload: Its bytes.
        sender: Who sent it; empty where nobody said so.
    """

    offset: int
    at_us: int
    payload: bytes
    sender: str = ""


class EventLog(ABC):
    """Keeps messages by topic, in the order they were appended.

    Durable: what ``publish`` returned for survives kill -9 of any process. Atomic: the messages of
        one call are appended together and contiguous, or not at all. A message published with an id
        that the topic has had is not appended again. Safe across threads and processes. A topic
        exists from its first message; reading an unknown one gives nothing. A log that is locked
        too long or cannot be reached raises ``UnavailableError``.
    """

    @abstractmethod
    def publish(
        self,
        topic: str,
        payloads: Sequence[bytes],
        *,
        ids: Sequence[str] | None = None,
        sender: str = "",
    ) -> int:
        """Append messages; returns the topic's last offset.

        Args:
            topic: The topic.
            payloads: The messages, in order.
            ids: One id per message; messages whose id is known are left out.
            sender: Who sends them; kept with each.
        """

    @abstractmethod
    def read(self, topic: str, *, after: int, limit: int) -> list[LogEntry]:
        """At most ``limit`` messages with a greater offset, oldest first."""

    @abstractmethod
    def end(self, topic: str) -> int:
        """Offset of the last message; 0 for none."""

    @abstractmethod
    def commit(self, topic: str, group: str, offset: int) -> None:
        """Remember how far a group of consumers has come; never goes back."""

    @abstractmethod
    def committed(self, topic: str, group: str) -> int:
        """How far the group has come; 0 for a new one."""

    @abstractmethod
    def topics(self) -> list[str]:
        """Names of all topics, sorted."""

    @abstractmethod
    def close(self) -> None:
        """Give connections back; the object is not used afterwards."""


def announce(log: EventLog, event: Event) -> None:
    """Publish an event of the platform; one with the same id is published once."""
    log.publish(EVENTS_TOPIC, [msgspec.json.encode(event)], ids=[event.event_id])
