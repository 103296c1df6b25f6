from __future__ import annotations

import importlib
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from penstock.cli.commands import COMMANDS, Command, Group

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from .conftest import Said


def every_command() -> Iterator[tuple[tuple[str, ...], Command]]:
    for name, entry in COMMANDS.items():
        if isinstance(entry, Group):
            yield from (((name, inner), command) for inner, command in entry.commands.items())
        else:
            yield (name,), entry


def test_help_lists_every_command(call: Callable[..., Said]) -> None:
    said = call("--help")

    assert said.code == 0
    assert all(name in said.out for name in COMMANDS)


GROUPS = [name for name, entry in COMMANDS.items() if isinstance(entry, Group)]


@pytest.mark.parametrize("words", [(), *((name,) for name in GROUPS)], ids=str)
def test_what_a_command_does_is_told_in_a_line(
    call: Callable[..., Said], monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...]
) -> None:
    monkeypatch.setenv("COLUMNS", "80")

    lines = call(*words, "--help").out.splitlines()

    assert [line for line in lines if line.rstrip().endswith("...") and "Usage" not in line] == []


@pytest.mark.parametrize(("words", "command"), list(every_command()), ids=lambda v: str(v)[:40])
def test_every_command_is_there_and_its_example_calls_it(
    words: tuple[str, ...], command: Command
) -> None:
    module, _, function = command.target.partition(":")

    assert callable(getattr(importlib.import_module(f"penstock.cli.{module}"), function))
    assert command.example.split()[1 : 1 + len(words)] == list(words)


@pytest.mark.parametrize("words", [("plan",), ("features", "get"), ("demo",)])
def test_help_of_a_command_has_an_example_and_the_common_options(
    call: Callable[..., Said], words: tuple[str, ...]
) -> None:
    said = call(*words, "--help")

    assert said.code == 0
    assert "Example: penstock " + " ".join(words) in said.out
    assert all(option in said.out for option in ("--home", "--json", "--traceback"))


def test_an_unknown_command_is_wrong_use_and_names_the_nearest(call: Callable[..., Said]) -> None:
    said = call("trian")

    assert said.code == 2
    assert "'train'" in said.err


def test_an_unknown_option_is_wrong_use(call: Callable[..., Said]) -> None:
    assert call("status", "--hoem", "x").code == 2


def test_version(call: Callable[..., Said]) -> None:
    said = call("--version")

    assert said.code == 0
    assert said.out.startswith("penstock ")


def test_help_imports_no_stage_and_no_screen() -> None:
    code = (
        "import sys; sys.argv = ['penstock', '--help']\n"
        "from penstock.cli import main\n"
        "try:\n    main()\nexcept SystemExit:\n    pass\n"
        "heavy = {'polars', 'rich', 'dbos', 'fastapi', 'penstock.runtime'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert done.stdout.splitlines()[-1] == "[]"
