from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from penstock.control.telling import telling
from penstock.records import RunProgress
from penstock.runtime import open_services
from penstock.testing.fakes import FakeClock

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from penstock.runtime import LocalServices


@pytest.fixture
def services(tmp_path: Path) -> Iterator[LocalServices]:
    (tmp_path / ".penstock").mkdir()
    with open_services(tmp_path, actor="tester") as opened:
        yield opened


def test_what_a_step_does_is_known_while_it_does_it(
    services: LocalServices, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = FakeClock()
    monkeypatch.setattr(type(services), "clock", clock)

    def known() -> RunProgress | None:
        return services.metadata.read(RunProgress, "train-1")

    with telling(services, "train-1", "snapshot") as tell:
        assert known() is None
        tell("part 1 of 9", 1 / 9)
        first = RunProgress(run_id="train-1", step="snapshot", what="part 1 of 9", share=1 / 9)
        assert known() == first
        tell("part 2 of 9", 2 / 9)
        assert known() == first, "it is not written down each time"
        clock.move(timedelta(seconds=1))
        tell("part 3 of 9", 3 / 9)
        found = known()
        assert found is not None
        assert found.what == "part 3 of 9"
    assert known() is None


def test_nothing_is_left_of_a_step_that_failed(services: LocalServices) -> None:
    def fail() -> None:
        with telling(services, "train-1", "snapshot") as tell:
            tell("part 1 of 9", 1 / 9)
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert services.metadata.read(RunProgress, "train-1") is None
