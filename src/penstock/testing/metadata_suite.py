"""What every implementation of ``Metadata`` must keep."""
# ruff: noqa: S101, PLR2004 - a suite asserts, and literal expectations are its point

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from typing import TYPE_CHECKING, ClassVar

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from penstock.errors import ConflictError, InputError, StateError
from penstock.ports import Audit, Delete, Put
from penstock.records import Record

from .children import child

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from multiprocessing.connection import Connection

    from penstock.ports import Metadata

__all__ = ["MetadataSuite"]

_THREADS = 4
_ROUNDS = 8


class Note(Record, frozen=True):
    """A record of the suite."""

    KIND: ClassVar[str] = "note"
    INDEXED: ClassVar[tuple[str, ...]] = ("topic", "number")

    topic: str
    number: int
    text: str = ""
    weight: float = 0.0

    @property
    def key(self) -> str:
        """``topic/number``."""
        return f"{self.topic}/{self.number:04d}"


class NewerNote(Note, frozen=True):
    """The same kind, as a later version writes it."""

    SCHEMA: ClassVar[int] = 2

    colour: str = "red"


class Counter(Record, frozen=True):
    """A record that is changed by whoever expected its value."""

    KIND: ClassVar[str] = "counter"

    count: int

    @property
    def key(self) -> str:
        """There is one."""
        return "only"


class MetadataSuite:
    """Subclass it and override the fixture ``opener``."""

    @pytest.fixture
    def opener(self) -> Callable[[], Metadata]:
        """Opens the same store each time; pickles, so that other processes can open it."""
        raise NotImplementedError

    @pytest.fixture
    def store(self, opener: Callable[[], Metadata]) -> Iterator[Metadata]:
        """The store, empty at first."""
        with closing(opener()) as opened:
            yield opened

    def test_missing_key_reads_as_none(self, store: Metadata) -> None:
        """A missing key reads as None."""
        store.write(Put(Note(topic="a", number=1)))
        assert store.read(Note, "a/0002") is None
        assert store.read(Counter, "a/0001") is None

    def test_record_reads_back(self, store: Metadata, opener: Callable[[], Metadata]) -> None:
        """What was written is read by this object and by the next."""
        note = Note(topic="ä 'quoted'; --", number=1, text="\u2028 \x00 '", weight=0.1)
        store.write(Put(note))
        assert store.read(Note, note.key) == note
        with closing(opener()) as other:
            assert other.read(Note, note.key) == note

    def test_put_replaces(self, store: Metadata) -> None:
        """Putting a key again replaces the record, and what it is found by."""
        store.write(Put(Note(topic="a", number=1, text="old")))
        store.write(Put(Note(topic="a", number=1, text="new")))
        assert [note.text for note in store.find(Note)] == ["new"]
        assert len(store.find(Note, where={"topic": "a"})) == 1

    def test_delete(self, store: Metadata) -> None:
        """A deleted record is gone; deleting it again changes nothing."""
        note = Note(topic="a", number=1)
        store.write(Put(note))
        for _ in range(2):
            store.write(Delete(note))
            assert store.read(Note, note.key) is None
            assert store.find(Note, where={"topic": "a"}) == []

    @settings(
        max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
    )
    @given(data=st.data())
    def test_find_is_a_filter_of_all(self, store: Metadata, data: st.DataObject) -> None:
        """``find`` gives the records that match, ordered by key, from either end, up to a limit."""
        topics = st.sampled_from(["a", "b", "a/b", "A"])
        notes = st.builds(Note, topic=topics, number=st.integers(0, 30), text=st.text(max_size=3))
        known = data.draw(st.dictionaries(notes.map(lambda note: note.key), notes, max_size=12))
        written = {note.key: note for note in known.values()}
        store.write(*(Delete(note) for note in store.find(Note)))
        store.write(*(Put(note) for note in written.values()))
        where: Mapping[str, str | int] = data.draw(
            st.fixed_dictionaries({}, optional={"topic": topics, "number": st.integers(0, 3)})
        )
        newest_first, limit = data.draw(st.booleans()), data.draw(st.none() | st.integers(0, 5))
        matching = [
            note
            for _, note in sorted(written.items(), reverse=newest_first)
            if all(getattr(note, field) == value for field, value in where.items())
        ]
        found = store.find(Note, where=where, newest_first=newest_first, limit=limit)
        assert found == (matching if limit is None else matching[:limit])

    def test_find_by_a_field_that_is_not_indexed(self, store: Metadata) -> None:
        """Searching by another field is an InputError that names the nearest indexed one."""
        with pytest.raises(InputError, match="'topic'"):
            store.find(Note, where={"topics": "a"})

    def test_all_or_nothing(self, store: Metadata) -> None:
        """When one expectation fails, no change of the call is stored, nor its audit entry."""
        first, second = Note(topic="a", number=1), Note(topic="a", number=2)
        store.write(Put(second))
        before = store.revision()
        with pytest.raises(ConflictError):
            store.write(
                Put(first), Put(second, expected=None), Delete(second), audit=_audit("refused")
            )
        assert store.read(Note, first.key) is None
        assert store.read(Note, second.key) == second
        assert store.audit() == []
        assert store.revision() == before

    def test_expectations(self, store: Metadata) -> None:
        """``expected`` is compared field for field with what is stored."""
        old, new = Note(topic="a", number=1), Note(topic="a", number=1, weight=1e-17)
        with pytest.raises(ConflictError):
            store.write(Put(new, expected=old))
        store.write(Put(old, expected=None))
        with pytest.raises(ConflictError):
            store.write(Put(new, expected=None))
        with pytest.raises(ConflictError):
            store.write(Put(new, expected=new))
        store.write(Put(new, expected=old))
        assert store.read(Note, new.key) == new

    def test_record_that_would_not_read_back(self, store: Metadata) -> None:
        """A number that is not finite is refused when it is written, not found when it is read."""
        with pytest.raises(InputError, match="finite"):
            store.write(Put(Note(topic="a", number=1, weight=float("nan"))))
        assert store.find(Note) == []

    def test_newer_schema_is_refused(self, store: Metadata) -> None:
        """A record of a later version is refused; one of an earlier version is read."""
        store.write(Put(NewerNote(topic="a", number=1)), Put(Note(topic="b", number=1)))
        with pytest.raises(StateError, match="newer version"):
            store.read(Note, "a/0001")
        with pytest.raises(StateError, match="newer version"):
            store.find(Note)
        assert store.read(NewerNote, "b/0001") == NewerNote(topic="b", number=1)

    def test_revision_grows_with_every_write(
        self, store: Metadata, opener: Callable[[], Metadata]
    ) -> None:
        """Every write makes the revision greater, for every reader; reading does not."""
        with closing(opener()) as other:
            seen = [other.revision()]
            for number in range(3):
                store.write(Put(Note(topic="a", number=number)))
                store.find(Note)
                seen.append(other.revision())
            assert other.revision() == store.revision() == seen[-1]
        assert seen == sorted(set(seen))

    def test_audit_is_ordered(self, store: Metadata) -> None:
        """Entries count from 1, oldest first, and carry what was given."""
        for number in range(3):
            store.write(audit=_audit(str(number)))
        entries = store.audit()
        assert [(entry.sequence, entry.subject) for entry in entries] == [
            (1, "0"),
            (2, "1"),
            (3, "2"),
        ]
        assert entries[0].difference == {"b": [1, None], "a": {"x": 0.5}}
        assert entries[0].at.utcoffset() is not None
        assert entries[1].previous_hash == entries[0].hash
        assert store.audit(after=1, limit=1) == entries[1:2]
        assert store.verify_audit() == 3

    def test_threads_share_one_object(self, store: Metadata) -> None:
        """Of writers with the same expectation exactly one succeeds at a time."""
        store.write(Put(Counter(count=0)))
        with ThreadPoolExecutor(_THREADS) as pool:
            wins = sum(pool.map(lambda _: _count_up(store), range(_THREADS * _ROUNDS)))
        assert store.read(Counter, "only") == Counter(count=wins)
        assert wins > 0

    @pytest.mark.slow
    def test_processes_race(self, store: Metadata, opener: Callable[[], Metadata]) -> None:
        """The same, across processes: no increment is lost, and the chain of hashes holds."""
        store.write(Put(Counter(count=0)))
        with child(_race, opener) as first, child(_race, opener) as second:
            first.listen(1)
            second.listen(1)
            wins = [_count_up(store) for _ in range(50)]
            wins += [bool(won) for won in first.end()[1:] + second.end()[1:]]
        assert store.read(Counter, "only") == Counter(count=sum(wins))
        assert store.verify_audit() == sum(wins)

    @pytest.mark.slow
    def test_kill(self, store: Metadata, opener: Callable[[], Metadata]) -> None:
        """What was acknowledged survives kill -9, and a write is stored wholly or not at all."""
        with child(_write_pairs, opener) as writer:
            writer.listen(20)
            said = writer.kill()
        left = {note.number for note in store.find(Note, where={"topic": "left"})}
        right = {note.number for note in store.find(Note, where={"topic": "right"})}
        assert left == right
        assert set(said) <= left
        assert len(left) - len(said) <= 1
        assert store.verify_audit() == len(left)
        store.write(Put(Note(topic="left", number=0)))


def _audit(subject: str) -> Audit:
    difference = {"b": [1, None], "a": {"x": 0.5}}
    return Audit(actor="suite", action="try", subject=subject, difference=difference)


def _count_up(store: Metadata) -> bool:
    """Add one to the counter if nobody else does in between."""
    now = store.read(Counter, "only")
    if now is None:
        return False
    try:
        store.write(Put(Counter(count=now.count + 1), expected=now), audit=_audit("count"))
    except ConflictError:
        return False
    return True


def _race(say: Connection, opener: Callable[[], Metadata]) -> None:
    with closing(opener()) as store:
        say.send("open")
        for _ in range(50):
            say.send(_count_up(store))


def _write_pairs(say: Connection, opener: Callable[[], Metadata]) -> None:
    store = opener()
    for number in range(1, 9999):
        left, right = (Note(topic=topic, number=number) for topic in ("left", "right"))
        store.write(Put(left), Put(right), audit=_audit(str(number)))
        say.send(number)
