"""What every implementation of ``EventLog`` must keep."""
# ruff: noqa: S101, PLR2004 - a suite asserts, and literal expectations are its point

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from itertools import count
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from penstock.errors import InputError
from penstock.ports import EVENTS_TOPIC, announce
from penstock.records import Event

from .children import child

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from multiprocessing.connection import Connection

    from penstock.ports import EventLog

__all__ = ["EventLogSuite"]

_BATCH = 7
_EVERYTHING = 1_000_000

# One call of publish: messages, each with an id; half of the calls leave the ids out.
_calls = st.lists(
    st.tuples(
        st.sampled_from(["a", "b", "A"]),
        st.lists(st.tuples(st.binary(max_size=4), st.sampled_from("pqrst")), max_size=5),
        st.booleans(),
    ),
    max_size=8,
)


class EventLogSuite:
    """Subclass it and override the fixture ``opener``."""

    @pytest.fixture
    def opener(self) -> Callable[[], EventLog]:
        """Opens the same log each time; pickles, so that other processes can open it."""
        raise NotImplementedError

    @pytest.fixture
    def log(self, opener: Callable[[], EventLog]) -> Iterator[EventLog]:
        """The log, empty at first."""
        with closing(opener()) as opened:
            yield opened

    @pytest.fixture
    def examples(self) -> Iterator[int]:
        """Numbers that keep the topics of one example apart from those of another."""
        return count()

    def test_unknown_topic_gives_nothing(self, log: EventLog) -> None:
        """A topic exists from its first message; reading an unknown one gives nothing."""
        assert log.publish("empty", []) == 0
        assert log.read("none", after=0, limit=10) == []
        assert log.end("none") == log.committed("none", "group") == 0
        assert log.topics() == []

    @settings(
        max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
    )
    @given(calls=_calls)
    def test_log_is_a_list_per_topic(
        self,
        log: EventLog,
        examples: Iterator[int],
        calls: list[tuple[str, list[tuple[bytes, str]], bool]],
    ) -> None:
        """Offsets count 1, 2, 3 ... per topic; messages whose id the topic has had are left out."""
        space = next(examples)
        expected: dict[str, list[bytes]] = {}
        seen: set[tuple[str, str]] = set()
        for name, messages, with_ids in calls:
            kept = expected.setdefault(name, [])
            for payload, known in messages:
                if not with_ids or (name, known) not in seen:
                    kept.append(payload)
                if with_ids:
                    seen.add((name, known))
            payloads, ids = [m[0] for m in messages], [m[1] for m in messages]
            topic = f"{name}{space}"
            assert log.publish(topic, payloads, ids=ids if with_ids else None) == len(kept)
        for name, kept in expected.items():
            read = log.read(f"{name}{space}", after=0, limit=_EVERYTHING)
            assert [entry.payload for entry in read] == kept
            assert [entry.offset for entry in read] == list(range(1, len(kept) + 1))
            assert log.end(f"{name}{space}") == len(kept)

    def test_read_from_an_offset(self, log: EventLog) -> None:
        """Reading gives what comes after the offset, at most the limit, oldest first."""
        log.publish("a", [b"1", b"2", b"3", b"4"])
        log.publish("b", [b"5"])
        entries = log.read("a", after=1, limit=2)
        assert [(entry.offset, entry.payload) for entry in entries] == [(2, b"2"), (3, b"3")]
        assert log.read("a", after=4, limit=2) == []
        assert log.read("a", after=0, limit=0) == []
        assert [entry.payload for entry in log.read("b", after=0, limit=9)] == [b"5"]

    def test_messages_say_who_sent_them(
        self, log: EventLog, opener: Callable[[], EventLog]
    ) -> None:
        """Each message keeps its sender, whoever reads it; one that is known is left out whole."""
        log.publish("a", [b"1", b"2"], sender="ana")
        log.publish("a", [b"3"])
        with closing(opener()) as other:
            other.publish("a", [b"4"], ids=["x"], sender="bob")
            other.publish("a", [b"5"], ids=["x"], sender="ana")
            other.publish("b", [b"6"], sender="ana")
            other.publish("b", [b"7"], sender="çelik o'neill")
            for reader in (log, other):
                read = reader.read("a", after=0, limit=9)
                assert [entry.sender for entry in read] == ["ana", "ana", "", "bob"]
                read = reader.read("b", after=0, limit=9)
                assert [entry.sender for entry in read] == ["ana", "çelik o'neill"]

    def test_times_do_not_go_back(self, log: EventLog) -> None:
        """Messages carry when they were appended, in microseconds."""
        for _ in range(5):
            log.publish("a", [b"1", b"2"])
        times = [entry.at_us for entry in log.read("a", after=0, limit=10)]
        assert times == sorted(times)
        assert times[0] > 1_500_000_000_000_000

    def test_one_id_for_each_message(self, log: EventLog) -> None:
        """Too few or too many ids are refused, and nothing is appended."""
        with pytest.raises(InputError, match="one id for each"):
            log.publish("a", [b"1", b"2"], ids=["x"])
        assert log.end("a") == 0

    def test_large_and_empty_messages(self, log: EventLog) -> None:
        """Any bytes are a message."""
        payloads = [b"", b"\x00" * 10, b"\xff" * 3_000_000]
        log.publish("a", payloads)
        assert [entry.payload for entry in log.read("a", after=0, limit=9)] == payloads

    def test_groups(self, log: EventLog, opener: Callable[[], EventLog]) -> None:
        """A group's offset is remembered, per topic and group, and never goes back."""
        log.commit("a", "one", 5)
        log.commit("a", "one", 3)
        log.commit("a", "two", 1)
        log.commit("b", "one", 2)
        with closing(opener()) as other:
            read = [other.committed(*key) for key in (("a", "one"), ("a", "two"), ("b", "one"))]
        assert read == [5, 1, 2]
        assert log.committed("b", "two") == 0

    def test_topics_are_sorted(self, log: EventLog, opener: Callable[[], EventLog]) -> None:
        """Names of all topics, whoever made them."""
        log.publish("b", [b"1"])
        with closing(opener()) as other:
            other.publish("a", [b"1"])
        assert log.topics() == ["a", "b"]

    def test_announce_once(self, log: EventLog) -> None:
        """The same event of the platform is published once."""
        event = Event(event_id="e", kind="model.ready", subject="m", ids={"version": "1"}, at_us=1)
        announce(log, event)
        announce(log, event)
        assert log.end(EVENTS_TOPIC) == 1

    def test_threads_share_one_object(self, log: EventLog) -> None:
        """The messages of one call are contiguous, whoever else publishes."""
        with ThreadPoolExecutor(4) as pool:
            list(pool.map(lambda n: log.publish("a", [b"%d" % n] * _BATCH), range(24)))
        payloads = [entry.payload for entry in log.read("a", after=0, limit=_EVERYTHING)]
        calls = [payloads[start : start + _BATCH] for start in range(0, len(payloads), _BATCH)]
        assert all(len(set(call)) == 1 for call in calls)
        assert len({call[0] for call in calls}) == len(calls) == 24

    @pytest.mark.slow
    def test_kill(self, log: EventLog, opener: Callable[[], EventLog]) -> None:
        """What was acknowledged survives kill -9; calls are whole; repeating doubles nothing."""
        with child(_publish, opener) as publisher:
            publisher.listen(20)
            # Publishes into the same topic meanwhile, with ids of its own.
            own = [log.publish("a", [b"x"] * _BATCH, ids=_ids("own", n)) for n in range(5)]
            said = publisher.kill()
        assert own == sorted(set(own))
        entries = log.read("a", after=0, limit=_EVERYTHING)
        assert [entry.offset for entry in entries] == list(range(1, log.end("a") + 1))
        payloads = [entry.payload for entry in entries]
        calls = [payloads[start : start + _BATCH] for start in range(0, len(payloads), _BATCH)]
        assert all(call == call[:1] * _BATCH for call in calls)
        theirs = [int(call[0]) for call in calls if call[0] != b"x"]
        assert theirs == list(range(1, len(theirs) + 1))
        assert 0 <= len(theirs) - len(said) <= 1
        for number in theirs:
            log.publish("a", [b"again"] * _BATCH, ids=_ids("theirs", number))
        assert log.end("a") == len(entries)


def _ids(whose: str, number: int) -> list[str]:
    return [f"{whose}-{number}-{place}" for place in range(_BATCH)]


def _publish(say: Connection, opener: Callable[[], EventLog]) -> None:
    log = opener()
    for number in range(1, 9999):
        log.publish("a", [b"%d" % number] * _BATCH, ids=_ids("theirs", number))
        say.send(number)
