"""Explanations of steps of a graph, as it declares them: exactly from arrays, else by estimates.

A step is explained by what it reads: one that predicts by the features of its model, whatever
stands in for them; any other by the features of the graph. The background are test rows of the
graph's package, led to the step.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from penstock.deployment import Forest, GraphEngine, exact_form, load_engine, sample_rows
from penstock.errors import NotSupportedError

from .explain import (
    CHECKED_ROWS,
    SECONDS,
    SEED,
    Chosen,
    array_of,
    drawn_rows,
    explained,
    space_of,
)
from .explain_linear import explainer_of_arrays
from .explain_sampled import SampledExplainer
from .explain_trees import ForestExplainer

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

    from penstock.algebra import GraphProgram
    from penstock.deployment import Linear
    from penstock.records import Manifest

    from .explain import Explainer, Explanation, Method

    Floats = NDArray[np.float64]

__all__ = ["StepExplainer", "exact_explainer", "explain_steps"]


class StepExplainer:
    """Explains what a step gives for rows of the graph.

    Args:
        program: The graph.
        of: The step that is explained.
        chosen: How.
    """

    def __init__(self, program: GraphProgram, of: str, chosen: Chosen) -> None:
        self._program = program
        self._of = of
        self._chosen = chosen

    def explain(self, values: Sequence[float | None]) -> Explanation:
        """Explain a row.

        Args:
            values: The features of the graph, in its order.

        Raises:
            InputError: The step gives no finite number for it.
            PenstockError: A step before it fails.
        """
        (inputs,) = self._program.inputs(self._of, array_of([values]))
        return explained(self._chosen, self._program.inputs_of(self._of), inputs)


def exact_explainer(
    folder: Path, manifest: Manifest, program: GraphProgram, step: str
) -> StepExplainer | None:
    """What explains a step exactly; none where that takes estimates.

    Args:
        folder: The package of the graph.
        manifest: Its manifest.
        program: The graph, compiled.
        step: The step that explains.

    Raises:
        StateError: The package is damaged.
        PenstockError: A step before the one that is explained fails for test rows.
    """
    of = program.graph.explainers[step].of
    form = exact_form(folder, manifest, step)
    if form is None:
        return None
    rows, _ = sample_rows(folder, manifest)
    background = program.inputs(of, drawn_rows(rows))
    try:
        method, exact = _exact(form, background)
    except NotSupportedError:
        return None
    checked = program.inputs(of, rows[:CHECKED_ROWS])
    classifies = program.graph.task_of(of) == "classification"
    found = space_of(exact.output(checked), program.value(of, checked), classifies=classifies)
    return None if found is None else StepExplainer(program, of, Chosen(method, found, exact))


def explain_steps(
    folder: Path,
    manifest: Manifest,
    steps: Sequence[str],
    values: Sequence[float | None],
) -> list[Explanation]:
    """Explain steps for one row by estimates.

    Args:
        folder: The package of the graph.
        manifest: Its manifest.
        steps: The steps that explain.
        values: The features of the graph, in its order.

    Raises:
        InputError: A step gives no finite number for the row.
        StateError: The package is damaged.
        NotSupportedError: It needs a library that is not installed.
    """
    engine = load_engine(folder, manifest)
    if not isinstance(engine, GraphEngine):  # pragma: no cover - only graphs have such steps
        raise NotSupportedError(f"{manifest.model} is no graph.")
    rows, _ = sample_rows(folder, manifest)
    found: list[Explanation] = []
    for step in steps:
        program, of = engine.program, engine.program.graph.explainers[step].of
        background = program.inputs(of, drawn_rows(rows))
        sampled = SampledExplainer(
            partial(program.value, of), background, seed=SEED, seconds=SECONDS
        )
        classifies = program.graph.task_of(of) == "classification"
        chosen = Chosen("sampled", "probability" if classifies else "value", sampled)
        found.append(StepExplainer(program, of, chosen).explain(values))
    return found


def _exact(form: Linear | Forest, background: Floats) -> tuple[Method, Explainer]:
    if isinstance(form, Forest):
        return "trees", ForestExplainer(form, background)
    return "linear", explainer_of_arrays(form, background)
