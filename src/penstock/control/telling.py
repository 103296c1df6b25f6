"""How far a step of a run has come, for those who follow the run from another process."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from penstock.ports import Delete, Put
from penstock.records import RunProgress

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from penstock.ports import Services

__all__ = ["telling"]

EVERY_US = 300_000
"""How often it is written down at most; who follows looks a few times a second."""


@contextmanager
def telling(services: Services, run_id: str, step: str) -> Generator[Callable[[str, float], None]]:
    """Write down what is being done while the block is open; forgotten at its end.

    Args:
        services: The ports; uses metadata and the clock.
        run_id: The run.
        step: Its step.

    Yields:
        To be told what is being done, and the share of the step that is done.
    """
    written_us = 0

    def tell(what: str, share: float) -> None:
        nonlocal written_us
        now_us = services.clock.now_us()
        if now_us - written_us >= EVERY_US:
            written_us = now_us
            found = RunProgress(run_id=run_id, step=step, what=what, share=share)
            services.metadata.write(Put(found))

    try:
        yield tell
    finally:
        if written_us:
            gone = RunProgress(run_id=run_id, step=step, what="", share=1.0)
            services.metadata.write(Delete(gone))
