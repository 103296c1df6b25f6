"""Functions of the user that do not compute row by row, found before anything is stored."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from penstock.algebra import call_function, load_function, require_by_row
from penstock.errors import DeclarationError, UserCodeError
from penstock.spec import declared_expressions, functions_of, key_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from penstock.spec import Function, Project

__all__ = ["row_faults"]

PLAIN = np.array([1.5, 3.25, 0.5, 2.0, 8.0, 0.125, 5.0, 1.0])
"""Numbers that most functions take, in no order."""


def row_faults(project: Project) -> Iterator[str]:
    """Yield each function in a project whose value for a row depends on the rows beside it.

    It is tried with numbers of ours. One that does not take them, or cannot be imported here, says
    nothing: it is tried again with the first real rows (``algebra.row_checks``).

    Args:
        project: What is declared.
    """
    known: dict[tuple[str, str, str], str] = {}
    for value in project.everything:
        for place, expression in declared_expressions(value):
            for node in functions_of(expression):
                name = (node.module, node.qualname, node.sha256)
                if name not in known:
                    known[name] = _fault(node) if node.args else ""
                if known[name]:
                    yield f"{key_of(value)}: {place}: {known[name]}"


def _fault(node: Function) -> str:
    """Why a function does not compute row by row; empty where it does, as far as is known."""
    sample = [np.roll(PLAIN, turn) * (turn + 1) for turn in range(len(node.args))]
    try:
        body = load_function(node)
        result = call_function(node, body, sample)
    except (DeclarationError, UserCodeError):
        return ""
    try:
        require_by_row(node, body, sample, result, len(result))
    except UserCodeError as error:
        return error.message
    return ""
