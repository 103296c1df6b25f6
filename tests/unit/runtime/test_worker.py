from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import structlog

from penstock.errors import StateError
from penstock.runtime import open_services
from penstock.runtime.worker import LONGEST_WAIT_S, look_for_work

if TYPE_CHECKING:
    from pathlib import Path

LOOKS = 1_200  # 2 to that power is no float


class Stop:
    """Ends after so many looks."""

    def __init__(self) -> None:
        self.waits: list[float] = []

    def wait(self, wait_s: float) -> bool:
        self.waits.append(wait_s)
        return len(self.waits) > LOOKS


@pytest.mark.parametrize("error", [StateError, ValueError])
def test_a_worker_that_cannot_look_goes_on_looking(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: type[Exception]
) -> None:
    def failing(*_: object) -> None:
        raise error("the disk is full")

    monkeypatch.setattr("penstock.control.advance_canaries", failing)
    (tmp_path / ".penstock").mkdir()
    stop = Stop()
    # Captured: twelve hundred tracebacks, drawn with the values of every variable, take a minute.
    with (
        open_services(tmp_path, kind="worker") as services,
        structlog.testing.capture_logs() as logged,
    ):
        look_for_work(services, stop)
    assert stop.waits[:4] == [0.5, 1.0, 2.0, 4.0]
    assert stop.waits[-1] == LONGEST_WAIT_S
    assert [one["failures"] for one in logged] == list(range(1, LOOKS + 1))
    assert {one["event"] for one in logged} == {"could not look for work"}
