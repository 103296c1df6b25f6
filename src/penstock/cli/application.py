"""The command line's front: which commands there are, built without importing any but the called.

Help answers at once because of it: neither the stages nor the screen are loaded for it.
"""

from __future__ import annotations

import sys
from importlib import import_module
from importlib.metadata import version
from typing import TYPE_CHECKING

import typer

from .commands import COMMANDS, Command, Group

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

__all__ = ["application", "main"]

ABOUT = "Raw data in, monitored predictions out."
HELP_NAMES = {"help_option_names": ["-h", "--help"]}


def main() -> None:
    """Run the command that ``sys.argv`` names and exit with its code."""
    words = sys.argv[1:]
    application(words)(args=words, prog_name="penstock")


def application(words: Sequence[str]) -> typer.Typer:
    """Build the application; of all commands, only the one that ``words`` call is imported.

    Args:
        words: The command line without the program's name.
    """
    return _group(COMMANDS, words, ABOUT, root=True)


def _group(
    commands: Mapping[str, Command | Group], words: Sequence[str], text: str, *, root: bool = False
) -> typer.Typer:
    app = typer.Typer(
        help=text,
        no_args_is_help=True,
        add_completion=root,
        pretty_exceptions_enable=False,
        rich_markup_mode=None,  # its renderer alone takes longer to import than help may
        context_settings=HELP_NAMES,
    )
    app.callback()(_root if root else _listed)
    called = next((word for word in words if not word.startswith("-")), "")
    inner = words[words.index(called) + 1 :] if called else ()
    for name, entry in commands.items():
        if isinstance(entry, Group):
            sub = _group(entry.commands, inner if name == called else (), entry.text)
            app.add_typer(sub, name=name)
        else:
            _add(app, name, entry, load=name == called)
    return app


def _add(app: typer.Typer, name: str, entry: Command, *, load: bool) -> None:
    app.command(
        name,
        help=entry.text,
        epilog=f"Example: {entry.example}",
        context_settings=HELP_NAMES,
    )(_loaded(entry.target) if load else _listed)


def _loaded(target: str) -> Callable[..., None]:
    """The function of the command that is called, with the options every command takes."""
    calls = import_module("penstock.cli.calls")
    loaded: Callable[..., None] = calls.load(target)
    return loaded


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"penstock {version('penstock')}")
        raise typer.Exit


def _root(
    version: bool = typer.Option(
        False,
        "--version",
        help="Show the version.",
        is_eager=True,
        callback=_show_version,
    ),
) -> None:
    del version


def _listed() -> None:
    """Stand for what is listed and not called."""
