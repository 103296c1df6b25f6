"""Letting go of deployments: by budget and by rest, against a naive oracle."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from penstock.scoring.shelf import Held, let_go

HELD = st.lists(
    st.builds(
        Held,
        name=st.text("abcdefgh", min_size=1, max_size=3),
        size_bytes=st.integers(0, 20),
        used_us=st.integers(0, 12),
        busy=st.booleans(),
    ),
    max_size=12,
    unique_by=lambda one: one.name,
)


def _naive(held: list[Held], now_us: int, memory_bytes: int, idle_us: int) -> list[str]:
    """One decision at a time, each looking at everything anew."""
    gone: list[Held] = []
    last = max(held, key=lambda one: (one.used_us, one.name), default=None)

    def goes(one: Held) -> bool:
        if one.busy or one in gone:
            return False
        if idle_us and one.used_us <= now_us - idle_us:
            return True
        earlier = [e for e in held if (e.used_us, e.name) < (one.used_us, one.name)]
        before = [e for e in gone if e in earlier]
        left = sum(e.size_bytes for e in held if e not in before)
        return memory_bytes > 0 and left > memory_bytes and one is not last

    for one in sorted(held, key=lambda e: (e.used_us, e.name)):
        gone.extend([one] if goes(one) else [])
    return [one.name for one in gone]


@given(HELD, st.integers(0, 15), st.integers(0, 60), st.integers(0, 12))
def test_as_one_would_decide_it_one_by_one(
    held: list[Held], now_us: int, memory_bytes: int, idle_us: int
) -> None:
    found = let_go(held, now_us=now_us, memory_bytes=memory_bytes, idle_us=idle_us)

    assert found == _naive(held, now_us, memory_bytes, idle_us)


@given(HELD, st.integers(1, 60))
def test_what_stays_fits_unless_it_must_stay(held: list[Held], memory_bytes: int) -> None:
    gone = let_go(held, now_us=100, memory_bytes=memory_bytes, idle_us=0)

    stays = [one for one in held if one.name not in gone]
    assert not any(one.busy for one in held if one.name in gone)
    total = sum(one.size_bytes for one in stays)
    last = max(held, key=lambda one: (one.used_us, one.name), default=None)
    if total > memory_bytes:
        assert all(one.busy or one is last for one in stays)
    # As few as do: the one that went last was needed, or something that went before it.
    if gone:
        least = next(one for one in held if one.name == gone[-1])
        assert total + least.size_bytes > memory_bytes
        later = [one for one in stays if not one.busy]
        assert all((one.used_us, one.name) > (least.used_us, least.name) for one in later)


def test_no_limit_and_no_rest_keep_everything() -> None:
    held = [Held(str(number), 1 << 40, 0, busy=False) for number in range(5)]

    assert let_go(held, now_us=1 << 50, memory_bytes=0, idle_us=0) == []
    assert let_go(held, now_us=1 << 50, memory_bytes=0, idle_us=1) == list("01234")
