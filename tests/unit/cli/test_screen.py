from __future__ import annotations

import json
import math
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from penstock.cli.screen import Screen, table
from penstock.records import Aliases

if TYPE_CHECKING:
    import pytest


def test_json_is_the_only_thing_on_standard_output(capsys: pytest.CaptureFixture[str]) -> None:
    screen = Screen(as_json=True)
    value = {
        "aliases": Aliases(model="m", changed_at=datetime(2026, 1, 1, tzinfo=UTC)),
        "nan": math.nan,
        "far": [math.inf],
        "path": Path("a/b"),
    }

    screen.say("in passing")
    screen.show(value, "for people")
    screen.hint("for people too")

    said = capsys.readouterr()
    told = json.loads(said.out)
    assert (told["nan"], told["far"], told["path"]) == (None, [None], "a/b")
    assert told["aliases"]["model"] == "m"
    assert said.err == ""


def test_people_get_what_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    screen = Screen()

    screen.show({"a": 1}, table(["name", "rows"], [("[x]", 5), ("b", 10_000)], right=["rows"]))

    lines = [line.rstrip() for line in capsys.readouterr().out.splitlines()]
    assert lines == ["name   rows", "[x]       5", "b     10000"]


def test_progress_without_a_terminal_is_silent_for_quick_work(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with Screen().progress("train") as report:
        report("half", 0.5)

    assert capsys.readouterr().err == ""
