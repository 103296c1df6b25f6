"""What every implementation of ``Locks`` must keep."""
# ruff: noqa: S101, PLR2004 - a suite asserts, and literal expectations are its point

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest

from penstock.errors import UnavailableError

from .children import child

if TYPE_CHECKING:
    from collections.abc import Callable
    from multiprocessing.connection import Connection

    from penstock.ports import Locks

__all__ = ["LocksSuite"]


class LocksSuite:
    """Subclass it and override the fixture ``opener``."""

    @pytest.fixture
    def opener(self) -> Callable[[], Locks]:
        """Opens the same locks each time; pickles, so that other processes can open them."""
        raise NotImplementedError

    @pytest.fixture
    def locks(self, opener: Callable[[], Locks]) -> Locks:
        """The locks, none held."""
        return opener()

    def test_one_holder(self, locks: Locks, opener: Callable[[], Locks]) -> None:
        """A held lock is not given again, through this object or another; others are."""
        with locks.hold("ingest/a"):
            for other in (locks, opener()):
                with pytest.raises(UnavailableError, match="'ingest/a' is held by process"):
                    other.hold("ingest/a", wait_s=0).__enter__()
            with locks.hold("ingest/b", wait_s=0), locks.hold("ingest%2Fa", wait_s=0):
                pass
        with opener().hold("ingest/a", wait_s=0):
            pass

    def test_error_of_the_body_lets_go(self, locks: Locks) -> None:
        """The lock is let go however the context ends, and the error goes on."""
        with pytest.raises(KeyError), locks.hold("a"):
            raise KeyError
        with locks.hold("a", wait_s=0):
            pass

    def test_each_holder_has_a_greater_token(
        self, locks: Locks, opener: Callable[[], Locks]
    ) -> None:
        """However often it is taken, by whomever, and whatever became of the last holder."""
        tokens: list[int] = []
        for each in (locks, opener(), locks, opener()):
            with each.hold("a") as token:
                tokens.append(token)
        with child(_hold, opener) as holder:
            tokens += [int(str(one)) for one in holder.listen(1)]
        with locks.hold("a") as token:
            tokens.append(token)
        assert tokens == sorted(set(tokens))
        assert 0 < tokens[0] <= tokens[-1] < 2**63

    def test_waits_for_its_turn(self, locks: Locks) -> None:
        """It waits as long as it is told, and takes the lock when it is let go."""
        with locks.hold("a"):
            begun = time.monotonic()
            with pytest.raises(UnavailableError, match=r"within 0\.1 s"):
                locks.hold("a", wait_s=0.1).__enter__()
            assert time.monotonic() - begun >= 0.1

    def test_threads_take_turns(self, locks: Locks) -> None:
        """Never two holders at a time among threads."""
        holders: list[int] = []
        most: list[int] = []

        def work(number: int) -> None:
            with locks.hold("a"):
                holders.append(number)
                time.sleep(0.001)
                most.append(len(holders))
                holders.remove(number)

        with ThreadPoolExecutor(4) as pool:
            list(pool.map(work, range(20)))
        assert most == [1] * 20

    @pytest.mark.slow
    def test_kill(self, locks: Locks, opener: Callable[[], Locks]) -> None:
        """Another process's lock is exclusive while it lives, and free once it is killed."""
        with child(_hold, opener) as holder:
            holder.listen(1)
            with pytest.raises(UnavailableError, match=f"process {holder.process_id} "):
                locks.hold("a", wait_s=0).__enter__()
            holder.kill()
            with locks.hold("a", wait_s=0):
                pass


def _hold(say: Connection, opener: Callable[[], Locks]) -> None:
    with opener().hold("a") as token:
        say.send(token)
        time.sleep(60)
