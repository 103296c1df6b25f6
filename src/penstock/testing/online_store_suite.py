"""What every implementation of ``OnlineStore`` must keep."""
# ruff: noqa: S101, PLR2004 - a suite asserts, and literal expectations are its point

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from itertools import count
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from penstock.errors import ConflictError

from .children import child

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from multiprocessing.connection import Connection

    from penstock.ports import OnlineStore

__all__ = ["OnlineStoreSuite"]

_KEYS = [b"%d" % number for number in range(20)]

_keys = st.sampled_from([b"", b"\x00", b"a", b"a\x00", b"ab", b"\xff", b"\xff\xff", b"k" * 400])
_writes = st.lists(
    st.tuples(
        st.sampled_from(["s", "s2", "S"]),
        st.dictionaries(_keys, st.one_of(st.none(), st.binary(max_size=9))),
    ),
    max_size=6,
)


class OnlineStoreSuite:
    """Subclass it and override the fixture ``opener``."""

    @pytest.fixture
    def opener(self) -> Callable[[], OnlineStore]:
        """Opens the same store each time; pickles, so that other processes can open it."""
        raise NotImplementedError

    @pytest.fixture
    def store(self, opener: Callable[[], OnlineStore]) -> Iterator[OnlineStore]:
        """The store, empty at first."""
        with closing(opener()) as opened:
            yield opened

    @pytest.fixture
    def examples(self) -> Iterator[int]:
        """Numbers that keep the spaces of one example apart from those of another."""
        return count()

    def test_missing_reads_as_none(self, store: OnlineStore) -> None:
        """A missing key, a missing space and a key longer than any stored read as None."""
        assert store.get("none", [b"a", b"b"]) == [None, None]
        assert store.progress("none") is None
        assert list(store.items("none")) == []
        store.write("some", {b"a": b"1"}, progress=1)
        assert store.get("some", [b"b", b"a", b"k" * 5000]) == [None, b"1", None]
        assert store.get("some", []) == []

    @settings(
        max_examples=25,
        deadline=None,
        # Each adapter runs it once, and they share nothing.
        suppress_health_check=[
            HealthCheck.function_scoped_fixture,
            HealthCheck.differing_executors,
        ],
    )
    @given(writes=_writes)
    def test_store_is_a_dictionary_per_space(
        self,
        store: OnlineStore,
        examples: Iterator[int],
        writes: Sequence[tuple[str, dict[bytes, bytes | None]]],
    ) -> None:
        """Values are replaced and removed, spaces are apart, and items come by key."""
        example = next(examples)
        expected: dict[str, dict[bytes, bytes | None]] = {}
        for progress, (name, values) in enumerate(writes, start=1):
            expected.setdefault(name, {}).update(values)
            store.write(f"{name}/{example}", values, progress=progress)
            assert store.progress(f"{name}/{example}") == progress
        for name, values in expected.items():
            space = f"{name}/{example}"
            there = {key: value for key, value in values.items() if value is not None}
            assert list(store.items(space)) == sorted(there.items())
            assert store.get(space, list(values)) == list(values.values())
            assert space in store.spaces()

    def test_looking_at_several_spaces(self, store: OnlineStore) -> None:
        """Each answer has the space's progress and the keys' values, in the order asked."""
        store.write("a", {b"k": b"1", b"l": b"2"}, progress=7)
        store.write("b", {b"k": b"3"}, progress=-2)
        asks = [("b", [b"k"]), ("none", [b"k", b"l"]), ("a", [b"l", b"x", b"k"]), ("a", [])]
        assert store.look(asks) == [
            (-2, [b"3"]), (None, [None, None]), (7, [b"2", None, b"1"]), (7, []),
        ]  # fmt: skip
        assert store.look(asks[2:3]) == [(7, [b"2", None, b"1"])]
        assert store.look([]) == []

    def test_several_spaces_are_looked_at_in_one_moment(self, store: OnlineStore) -> None:
        """Of two spaces written one after the other, the second is never seen ahead."""
        keys = [*_KEYS, b"last"]

        def look(_: int) -> tuple[int, int]:
            seen: list[int] = []
            for progress, values in store.look([("a", keys), ("b", keys)]):
                assert {int(value or 0) for value in values} == {progress or 0}
                seen.append(progress or 0)
            return seen[0], seen[1]

        with ThreadPoolExecutor(4) as pool:
            seen = pool.map(look, range(400))
            for number in range(1, 40):
                for space in "ab":
                    store.write(space, dict.fromkeys(keys, b"%d" % number), progress=number)
            assert all(second <= first <= second + 1 for first, second in seen)

    def test_the_last_claim_fences_off_the_others(self, store: OnlineStore) -> None:
        """Who claimed a space before another did can write nothing, and cannot claim it again."""
        assert store.claim("a", 5) is None
        assert (store.spaces(), store.progress("a"), list(store.items("a"))) == (["a"], None, [])
        assert store.look([("a", [b"k"])]) == [(None, [None])]
        store.write("a", {b"k": b"5"}, progress=-1, token=5)
        assert store.claim("a", 5) == -1
        assert store.claim("a", 8) == -1
        with pytest.raises(ConflictError, match="is another's to write"):
            store.write("a", {b"k": b"late"}, progress=9, token=5)
        for anew in (True, False):
            with pytest.raises(ConflictError, match="is another's to write"):
                store.claim("a", 7, anew=anew)
        with pytest.raises(ConflictError, match="holds batch -1"):
            store.write("a", {}, progress=-1, token=8)
        store.write("a", {b"l": b"8"}, progress=3, token=8)
        assert dict(store.items("a")) == {b"k": b"5", b"l": b"8"}

    def test_a_claim_may_begin_anew(self, store: OnlineStore) -> None:
        """Then the space is empty and claimed at once, and the others have what they had."""
        for space in "ab":
            store.claim(space, 1)
            store.write(space, {b"%d" % n: b"v" * 300 for n in range(300)}, progress=7, token=1)
        assert store.claim("a", 1, anew=True) is None
        assert (list(store.items("a")), store.progress("a")) == ([], None)
        store.write("a", {b"k": b"1"}, progress=-3, token=1)
        assert store.claim("a", 2, anew=True) is None
        assert (list(store.items("a")), store.progress("a")) == ([], None)
        with pytest.raises(ConflictError):
            store.write("a", {b"k": b"1"}, progress=-2, token=1)
        assert len(list(store.items("b"))) == 300

    def test_a_dropped_space_is_nobody_s(self, store: OnlineStore) -> None:
        """Who had claimed it has to claim it again: it is not where it was left."""
        store.claim("a", 9)
        store.write("a", {b"k": b"1"}, progress=4, token=9)
        with pytest.raises(ConflictError, match="is another's to write"):
            store.drop("a", token=8)
        store.drop("none", token=8)
        assert store.get("a", [b"k"]) == [b"1"]
        store.drop("a", token=9)
        with pytest.raises(ConflictError, match="is another's to write"):
            store.write("a", {b"l": b"1"}, progress=5, token=9)
        assert store.spaces() == []
        assert store.claim("a", 9) is None
        store.write("a", {b"l": b"1"}, progress=1, token=9)
        assert list(store.items("a")) == [(b"l", b"1")]

    def test_what_is_written_without_a_claim_is_not_fenced(self, store: OnlineStore) -> None:
        """A writer that nobody else can be beside needs no token, before or after a claim."""
        store.write("a", {b"k": b"1"}, progress=1)
        assert store.claim("a", 3) == 1
        store.write("a", {b"k": b"2"}, progress=2)
        store.write("a", {b"k": b"3"}, progress=3, token=3)
        assert store.get("a", [b"k"]) == [b"3"]

    def test_progress_goes_forward(self, store: OnlineStore) -> None:
        """A batch that is in already is refused, and nothing of it is stored."""
        store.write("a", {b"k": b"3"}, progress=3)
        for late in (1, 3):
            with pytest.raises(ConflictError, match="batch 3"):
                store.write("a", {b"k": b"late", b"l": b"late"}, progress=late)
        assert dict(store.items("a")) == {b"k": b"3"}
        assert store.progress("a") == 3
        store.write("a", {}, progress=4)
        assert store.progress("a") == 4

    def test_progress_may_be_negative(self, store: OnlineStore) -> None:
        """A space that is being built counts up to zero and beyond, never back."""
        for number in (-3, -1, 2):
            store.write("a", {b"%d" % number: b"v"}, progress=number)
            assert store.progress("a") == number
            with pytest.raises(ConflictError):
                store.write("a", {}, progress=number - 1)
        assert len(list(store.items("a"))) == 3

    def test_spaces_are_sorted(self, store: OnlineStore) -> None:
        """Every space that was written, whether it has values or not."""
        store.write("b", {b"k": b"1"}, progress=1)
        store.write("a", {}, progress=0)
        assert store.spaces() == ["a", "b"]
        assert store.progress("a") == 0

    def test_a_removed_value_is_gone(self, store: OnlineStore) -> None:
        """Values are removed and written as one; removing what is not there does nothing."""
        store.write("a", {b"k": b"1", b"l": b"1"}, progress=1)
        store.write("a", {b"k": None, b"none": None, b"l": b"2"}, progress=2)
        assert store.get("a", [b"k", b"none", b"l"]) == [None, None, b"2"]
        assert list(store.items("a")) == [(b"l", b"2")]
        with pytest.raises(ConflictError):
            store.write("a", {b"l": None}, progress=2)
        assert store.get("a", [b"l"]) == [b"2"]
        store.write("a", dict.fromkeys([b"l", *_KEYS]), progress=3)
        assert list(store.items("a")) == []
        assert (store.progress("a"), store.spaces()) == (3, ["a"])
        store.write("a", {b"k": b"4"}, progress=4)
        assert list(store.items("a")) == [(b"k", b"4")]

    def test_drop(self, store: OnlineStore) -> None:
        """A dropped space is gone with its progress; the others stay; it can be written again."""
        for space in ("a", "b"):
            store.write(space, {b"%d" % n: b"v" * 300 for n in range(300)}, progress=7)
        store.drop("a")
        store.drop("a")
        assert store.spaces() == ["b"]
        assert store.get("a", [b"1"]) == [None]
        assert store.progress("a") is None
        assert len(list(store.items("b"))) == 300
        store.write("a", {b"new": b"1"}, progress=1)
        assert list(store.items("a")) == [(b"new", b"1")]

    def test_items_are_as_of_one_moment(self, store: OnlineStore) -> None:
        """What is written while the items are read is not among them."""
        store.write("a", dict.fromkeys(_KEYS, b"old"), progress=1)
        items = store.items("a")
        first = next(items)
        store.write("a", dict.fromkeys([*_KEYS, b"zz"], b"new"), progress=2)
        assert {value for _, value in [first, *items]} == {b"old"}

    @pytest.mark.parametrize("size", [1, 7, 900])
    def test_some_after_some_give_all(self, store: OnlineStore, size: int) -> None:
        """One call after the other gives every key with its value, an empty and a long one too."""
        keys = [b"", b"\x00", b"\xff", b"k" * 500, *(b"%d" % number for number in range(900))]
        expected = {key: b"v" * 70 + key for key in keys}
        store.write("a", expected, progress=1)
        store.write("b", {b"k": b"other"}, progress=1)
        items, after, calls = dict[bytes, bytes](), b"", 0
        while after or not calls:
            found, after = store.some("a", after, size)
            items.update(found)
            calls += 1
        assert items == expected
        assert calls > len(keys) // (10 * size)
        assert store.some("none", b"", 5) == ([], b"")

    def test_some_go_on_beside_writes(self, store: OnlineStore) -> None:
        """What is there all the while is given; what comes and goes does no harm."""
        stay = {b"%d" % number: b"v" * 70 for number in range(900)}
        store.write("a", stay, progress=0)
        seen, after, calls = set[bytes](), b"", 0
        while after or not calls:
            found, after = store.some("a", after, 100)
            seen.update(key for key, _ in found)
            calls += 1
            more = {key + b"x": b"v" for key, _ in found}
            gone = dict.fromkeys(key for key, _ in found if key not in stay)
            store.write("a", {**more, **gone}, progress=calls)
            assert calls < 100
        assert seen >= stay.keys()

    def test_some_go_on_while_most_is_removed(self, store: OnlineStore) -> None:
        """What stays is given, though the store shrinks to a part of what it was on the way."""
        keys = [b"%d" % number for number in range(9_000)]
        stay = set(keys[::50])
        store.write("a", dict.fromkeys(keys, b"v" * 70), progress=0)
        seen, after, calls = set[bytes](), b"", 0
        while after or not calls:
            found, after = store.some("a", after, 100)
            seen.update(key for key, _ in found)
            calls += 1
            gone = dict.fromkeys(key for key, _ in found if key not in stay)
            store.write("a", gone, progress=calls)
        assert seen == {*keys}
        assert {key for key, _ in store.items("a")} == stay

    def test_values_stay_after_reopening(
        self, store: OnlineStore, opener: Callable[[], OnlineStore]
    ) -> None:
        """The next object reads what the last one wrote."""
        store.write("a", {b"k": b"v" * 100_000}, progress=5)
        store.close()
        with closing(opener()) as other:
            assert other.get("a", [b"k"]) == [b"v" * 100_000]
            assert other.progress("a") == 5

    def test_threads_share_one_object(self, store: OnlineStore) -> None:
        """Readers see each write wholly or not at all."""
        store.write("a", dict.fromkeys(_KEYS, b"0"), progress=0)

        def read(_: int) -> int:
            values = set(store.get("a", _KEYS))
            assert len(values) == 1
            return int(values.pop() or b"")

        with ThreadPoolExecutor(4) as pool:
            seen = pool.map(read, range(200))
            for number in range(1, 20):
                store.write("a", dict.fromkeys(_KEYS, b"%d" % number), progress=number)
            assert set(seen) <= set(range(20))

    @pytest.mark.slow
    def test_kill(self, store: OnlineStore, opener: Callable[[], OnlineStore]) -> None:
        """Values and progress of a killed writer belong together, for readers at any moment."""
        with child(_write, opener) as writer:
            for heard in range(1, 60):
                writer.listen(heard)
                for _ in range(10):
                    before = store.progress("a") or 0
                    values = set(store.get("a", _KEYS))
                    assert len(values) == 1
                    assert before <= int(values.pop() or 0) <= (store.progress("a") or 0)
            said = writer.kill()
        progress = store.progress("a")
        assert progress is not None
        assert 0 <= progress - len(said) <= 1
        assert set(store.get("a", _KEYS)) == {b"%d" % progress}
        assert len(list(store.items("a"))) == len(_KEYS) + progress
        store.write("a", dict.fromkeys(_KEYS, b"on"), progress=progress + 1)


def _write(say: Connection, opener: Callable[[], OnlineStore]) -> None:
    store = opener()
    for number in range(1, 9999):
        values = dict.fromkeys([*_KEYS, b"only in %d" % number], b"%d" % number)
        store.write("a", values, progress=number)
        say.send(number)
