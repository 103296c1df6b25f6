"""Ports for the servers of tests, which no other test takes before they listen."""

from __future__ import annotations

import functools
import itertools
import os
import socket
import zlib

__all__ = ["free_port"]

FIRST, COUNT = 15_000, 17_000
"""Below those that the kernel gives to whoever connects, as most systems are set up."""
APART = 2_000
"""Workers of one run begin so far from each other."""


def free_port() -> int:
    """A port of the loopback interface that nothing uses, never the same twice in a process.

    A server is asked to listen there a second later at times. A port that the kernel chooses may
    be given to another by then.

    Raises:
        OSError: Every port is taken.
    """
    for place in itertools.islice(_places(), COUNT):
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port := FIRST + place % COUNT))
            except OSError:
                continue
            return port
    raise OSError(f"The ports {FIRST} to {FIRST + COUNT - 1} are all taken.")


@functools.cache
def _places() -> itertools.count[int]:
    """Counts on from a place of its own: the run's, and the worker's within it."""
    run = os.environ.get("PYTEST_XDIST_TESTRUNUID") or str(os.getpid())
    worker = os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw")
    return itertools.count(zlib.crc32(run.encode()) % COUNT + APART * int(worker))
