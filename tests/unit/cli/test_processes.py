from __future__ import annotations

import json
from typing import TYPE_CHECKING

from penstock.cli.processes import Board
from penstock.cli.screen import Screen
from penstock.runtime import ProcessStatus

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Literal

    import pytest

    State = Literal["starting", "ready", "restarting", "stopping", "stopped"]


def statuses(*states: State) -> list[ProcessStatus]:
    names = ("api", "worker")
    return [
        ProcessStatus(name=name, state=state, process_id=7, detail="signal 9")
        for name, state in zip(names, states, strict=True)
    ]


def test_one_screen_when_all_are_ready_and_a_line_for_what_happens_later(
    capsys: pytest.CaptureFixture[str],
) -> None:
    board = Board(Screen())

    story: Sequence[tuple[State, State]] = (
        ("starting", "starting"),
        ("ready", "starting"),
        ("ready", "ready"),
        ("restarting", "ready"),
        ("ready", "ready"),
        ("stopped", "stopped"),
    )
    for states in story:
        board(statuses(*states))

    said = capsys.readouterr()
    assert said.out.count("process") == 1
    assert "Stop: Ctrl-C" in said.out
    assert said.err.splitlines() == [
        "✗ api died: signal 9",
        "api ready",
        "api stopped",
        "worker stopped",
    ]


def test_as_json_each_change_is_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    board = Board(Screen(as_json=True))

    board(statuses("starting", "starting"))
    board(statuses("ready", "ready"))

    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [one["state"] for line in lines for one in line] == ["starting"] * 2 + ["ready"] * 2
