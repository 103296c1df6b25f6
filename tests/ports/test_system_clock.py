from __future__ import annotations

import re
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import pytest

from penstock.adapters.system import SystemClock, UlidIds
from penstock.testing.fakes import FakeClock


def test_clock_tells_one_time() -> None:
    clock = SystemClock()
    before = clock.now_us()
    now = clock.now()
    after = clock.now_us()
    assert now.tzinfo is UTC
    now_us = (now - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)
    assert before <= now_us <= after


def test_ids_are_ordered_by_time() -> None:
    clock = FakeClock()
    ids = UlidIds(clock)
    made: list[str] = []
    for step_ms in (0, 0, 1, -5, 0, 1000):
        clock.move(timedelta(milliseconds=step_ms))
        made += [ids.new() for _ in range(3)]
    assert made == sorted(set(made))
    assert all(re.fullmatch(r"[0-9A-HJKMNP-TV-Z]{26}", one) for one in made)


def test_ids_hold_the_time() -> None:
    start = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=33)
    assert UlidIds(FakeClock(start)).new().startswith("0000000011")


def test_ids_of_other_makers_differ() -> None:
    clock = FakeClock()
    assert len({UlidIds(clock).new() for _ in range(100)}) == 100


def test_ids_across_threads() -> None:
    ids = UlidIds(SystemClock())
    barrier = threading.Barrier(4)

    def make(_: int) -> list[str]:
        barrier.wait()
        return [ids.new() for _ in range(2000)]

    with ThreadPoolExecutor(4) as pool:
        made = list(pool.map(make, range(4)))
    assert all(some == sorted(some) for some in made)
    assert len({one for some in made for one in some}) == 8000


def test_random_part_does_not_overflow() -> None:
    class Full(UlidIds):
        def __init__(self) -> None:
            super().__init__(FakeClock())
            self.new()
            self._tail = (1 << 20) - 2

    ids = Full()  # one short of the greatest that is counted up to
    made = [ids.new() for _ in range(3)]
    assert made == sorted(set(made))


@pytest.mark.parametrize("left", [0, 1, 2, 5, 100])
def test_several_are_as_if_made_one_by_one(left: int) -> None:
    class Nearly(UlidIds):
        """So many are left until the random part runs over."""

        def __init__(self) -> None:
            super().__init__(FakeClock())
            self.new()
            self._tail = (1 << 20) - 1 - left

    ids = Nearly()
    made = [ids.new(), *ids.several(3), *ids.several(0), ids.new(), *ids.several(40), ids.new()]
    assert len(made) == 46
    assert made == sorted(set(made))
    assert all(re.fullmatch(r"[0-9A-HJKMNP-TV-Z]{26}", one) for one in made)
