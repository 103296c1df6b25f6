"""Every expression that a declaration itself states, and where."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .datasets import Dataset
from .graphs import Average, Explain, Graph, Predict, Switch, Vote
from .on_demand import OnDemandView
from .sources import FeatureView

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .base import Declared
    from .expressions import Expression

__all__ = ["declared_expressions"]


def declared_expressions(value: Declared) -> Iterator[tuple[str, Expression]]:
    """Yield each expression of a declaration with its place, such as ``derive.ret``.

    What it refers to has its own, and is left out; so are the expectations of a source.

    Args:
        value: The declaration.
    """
    match value:
        case FeatureView():
            yield from ((f"derive.{name}", each) for name, each in value.derive.items())
            for feature in value.features:
                if feature.where is not None:
                    yield f"{feature.name}.where", feature.where
        case OnDemandView():
            yield from ((f"features.{name}", each) for name, each in value.expressions.items())
        case Dataset() if value.label is not None:
            yield "label", value.label.expression
        case Graph():
            for name, step in value.steps.items():
                if isinstance(step, Switch):
                    yield from ((f"steps.{name}", condition) for condition, _ in step.cases)
                elif not isinstance(step, (Predict, Average, Vote, Explain)):
                    yield f"steps.{name}", step
        case _:
            return
