"""Loading the one command that is called, and the boundary around it."""

from __future__ import annotations

import inspect
import sys
from importlib import import_module
from typing import TYPE_CHECKING

import typer

from .failures import exit_code_of
from .screen import Screen

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["load"]

HOME = typer.Option("", "--home", help="The project folder; here when left out.", metavar="DIR")
JSON = typer.Option(False, "--json", help="Answer as JSON on standard output.")
TRACEBACK = typer.Option(False, "--traceback", help="Show the traceback of an unexpected error.")


def load(target: str) -> Callable[..., None]:
    """The command at ``module:function``, ready for Typer.

    In place of its first parameter, the screen, it takes the options of every command. Whatever it
    raises is said on standard error and becomes an exit code.
    """
    module, _, name = target.partition(":")
    try:
        return _Call(getattr(import_module(f"penstock.cli.{module}"), name))
    except Exception as error:  # noqa: BLE001 - an import that fails is said like any failure
        words = sys.argv[1:]
        screen = Screen(as_json="--json" in words, traceback="--traceback" in words)
        sys.exit(exit_code_of(screen, error))


class _Call:
    """A command's function behind the last boundary."""

    def __init__(self, function: Callable[..., None]) -> None:
        self.function = function
        names = {"Screen": Screen}
        given = inspect.signature(function, eval_str=True, locals=names).parameters.values()
        added = [
            _option("home", str, HOME),
            _option("as_json", bool, JSON),
            _option("traceback", bool, TRACEBACK),
        ]
        parameters = [
            parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY)
            for parameter in [*list(given)[1:], *added]
        ]
        self.__name__ = function.__name__
        self.__signature__ = inspect.Signature(parameters)
        self.__annotations__ = {p.name: p.annotation for p in parameters}

    def __call__(self, *, home: str, as_json: bool, traceback: bool, **given: object) -> None:
        screen = Screen(home=home, as_json=as_json, traceback=traceback)
        try:
            self.function(screen, **given)
        except (Exception, KeyboardInterrupt) as error:
            raise typer.Exit(exit_code_of(screen, error)) from error


def _option(name: str, kind: type, default: object) -> inspect.Parameter:
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=kind)
