"""Rules of routes, compiled: conditions on what a request says."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .operators import dtype_of
from .rows import compile_row

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from penstock.spec import Deployment, Expression

__all__ = ["check_rules", "compile_rule"]


def check_rules(deployment: Deployment) -> None:
    """Check that the rules of a deployment's routes are given types that they take.

    Raises:
        DeclarationError: One is not; says which.
    """
    dataset = deployment.model.dataset
    schema = {**dataset.entity_dtypes, **dataset.request_fields}
    for route in deployment.routes:
        if route.when is not None:
            dtype_of(route.when, schema)


def compile_rule(condition: Expression) -> Callable[[Mapping[str, object]], bool]:
    """Compile a condition into a function of what a request says, by name; null is no.

    Args:
        condition: The condition.

    Raises:
        DeclarationError: One of its functions cannot be found again.
    """
    run = compile_row(condition)
    return lambda row: run(row) is True
