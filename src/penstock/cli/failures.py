"""How a command that fails says so: one readable block on standard error, and an exit code."""

from __future__ import annotations

import json
import traceback
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import typer
from rich.markup import escape

from penstock.errors import InputError, PenstockError, RetryableError

if TYPE_CHECKING:
    from .screen import Screen

__all__ = ["FAILED", "INTERRUPTED", "WRONG_USE", "UsageError", "exit_code_of"]

FAILED, WRONG_USE, INTERRUPTED = 1, 2, 130
LOG = Path(".penstock") / "logs" / "cli.log"


class UsageError(InputError):
    """The command line itself is wrong; exit code 2."""


def exit_code_of(screen: Screen, error: BaseException) -> int:
    """Say what went wrong and return the exit code.

    Args:
        screen: Where to say it.
        error: What was raised.
    """
    if isinstance(error, KeyboardInterrupt | typer.Abort):  # Ctrl-C, also where we asked
        screen.say("Stopped.")
        return INTERRUPTED
    if isinstance(error, typer.Exit):
        return error.exit_code
    if isinstance(error, PenstockError):
        _expected(screen, error)
        return WRONG_USE if isinstance(error, UsageError) else FAILED
    _unexpected(screen, error)
    return FAILED


def _expected(screen: Screen, error: PenstockError) -> None:
    if screen.as_json:
        facts = {name: repr(value) for name, value in error.facts.items()}
        _as_json(screen, error.kind, error.message, facts)
        return
    first, _, rest = error.message.partition("\n")
    screen.err.print(f"[bold red]error[/] [dim]{error.kind}[/]  {escape(first)}", soft_wrap=True)
    if rest:
        screen.err.print(rest, markup=False, soft_wrap=True)
    if isinstance(error, RetryableError):
        screen.err.print("[dim]It may pass: try again.[/]")


def _unexpected(screen: Screen, error: BaseException) -> None:
    text = "".join(traceback.format_exception(error))
    where = _keep(screen.home, text)
    line = f"{type(error).__name__}: {error}".splitlines()[0]
    if screen.as_json:
        _as_json(screen, "unexpected", line, {"log": where})
    else:
        hint = f"The traceback is in {where}" if where else "See the traceback"
        screen.err.print(f"[bold red]unexpected error[/]  {escape(line)}", soft_wrap=True)
        screen.err.print(f"{hint}; --traceback shows it here.", markup=False, soft_wrap=True)
    if screen.traceback:
        screen.err.print(text, markup=False, soft_wrap=True)


def _as_json(screen: Screen, kind: str, message: str, facts: dict[str, str]) -> None:
    body = {"error": {"kind": kind, "message": message, "facts": facts}}
    screen.err.file.write(json.dumps(msgspec.to_builtins(body), ensure_ascii=False) + "\n")


def _keep(home: Path, text: str) -> str:
    """Append the traceback to the log of the project; where that cannot be, nowhere."""
    path = home / LOG
    if not path.parent.parent.is_dir():
        return ""
    try:
        path.parent.mkdir(exist_ok=True)
        with path.open("a", encoding="utf-8") as file:
            file.write(text + "\n")
    except OSError:
        return ""
    return str(path)
