"""Where a model comes from: its declarations, functions, libraries and code."""

from __future__ import annotations

import platform
import shutil
import subprocess
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING

from penstock.spec import (
    Function,
    Graph,
    all_views,
    declarations_in,
    declared_expressions,
    functions_of,
    key_of,
    to_document,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from penstock.spec import Model

__all__ = ["code_of", "definitions_of", "functions_in", "installed"]

LIBRARIES = ("penstock", "numpy", "polars", "scikit-learn", "scipy", "optuna", "skops")
GIT_WAIT_S = 10.0


def definitions_of(model: Model) -> dict[str, object]:
    """The documents of the model and of everything it refers to, by key."""
    return {key_of(value): to_document(value) for value in declarations_in([model])}


def functions_in(model: Model) -> dict[str, str]:
    """Each Python function of the user in features, label, steps: ``module:qualname`` to sha256."""
    stating = [*all_views(model.dataset.views), model.dataset, *_graphs(model)]
    roots = [root for one in stating for _, root in declared_expressions(one)]
    found = (function for root in roots for function in functions_of(root))
    return {_path(function): function.sha256 for function in found}


def installed(extra: Iterable[str] = ()) -> dict[str, str]:
    """Versions of Python and of the libraries that take part in training.

    Args:
        extra: Further libraries; those not installed are left out.
    """
    found = {"python": platform.python_version()}
    for name in (*LIBRARIES, *extra):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def code_of(home: Path) -> tuple[str, str]:
    """Commit of the project folder, and what its tracked files differ from it by.

    Args:
        home: The project folder.

    Returns:
        Both empty where there is no git or no repository.
    """
    git = shutil.which("git")
    if git is None:
        return "", ""
    commit = _git(git, home, "rev-parse", "HEAD").strip()
    return (commit, _git(git, home, "diff", "HEAD", "--relative")) if commit else ("", "")


def _git(git: str, home: Path, *arguments: str) -> str:
    try:
        done = subprocess.run(  # noqa: S603 - git itself, with arguments of ours
            [git, "-C", str(home), *arguments],
            capture_output=True,
            text=True,
            errors="replace",
            timeout=GIT_WAIT_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout if done.returncode == 0 else ""


def _graphs(model: Model) -> Iterator[Graph]:
    """A graph, and those that it predicts with."""
    if isinstance(model, Graph):
        yield model
        for inner in model.models:
            yield from _graphs(inner)


def _path(function: Function) -> str:
    return f"{function.module}:{function.qualname}"
