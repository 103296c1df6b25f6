"""Explanations: what each feature of a row adds to a prediction, beside a background of real rows.

One meaning for all models: the value of a set of features is the mean prediction of the background
with these features taken from the row, and each feature gets its Shapley value of that. Forests and
linear models have it exactly, of the sum before their link; any other model has it estimated.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Literal, Protocol, TypeAlias

import msgspec
import numpy as np

from penstock.deployment import load_engine, read_forest, sample_rows
from penstock.errors import InputError, NotSupportedError
from penstock.registry import load_native

from .explain_linear import explainer_of_estimator
from .explain_sampled import SampledExplainer
from .explain_trees import ForestExplainer

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from penstock.records import Manifest

__all__ = [
    "CHECKED_ROWS", "SECONDS", "SEED", "Chosen", "Contribution", "Explainer", "Explanation",
    "Method", "Space", "array_of", "drawn_rows", "explain_rows", "explained", "space_of",
]  # fmt: skip

Floats: TypeAlias = "NDArray[np.float64]"
Method = Literal["linear", "trees", "sampled"]
Space = Literal["probability", "log_odds", "value", "log"]

SEED = 7
BACKGROUND_ROWS = 100
CHECKED_ROWS = 50
SECONDS = 5.0
NEAR = 1e-4


class Contribution(msgspec.Struct, frozen=True, kw_only=True):
    """What one feature adds.

    Attributes:
        feature: Its full name.
        value: Its value in the row; null for none.
        contribution: What it adds to the base, in the explanation's space.
        error: Standard error of that; 0 where it is exact.
    """

    feature: str
    value: float | None
    contribution: float
    error: float = 0.0


class Explanation(msgspec.Struct, frozen=True, kw_only=True):
    """Why a prediction is what it is: ``base`` and all contributions add up to ``output``.

    Attributes:
        method: How it was found: ``linear`` and ``trees`` are exact, ``sampled`` is estimated.
        space: What adds up: the probability of true, its log-odds, the predicted value, or the
            logarithm of that.
        base: Mean of the background in that space.
        output: The row in that space.
        prediction: The probability of true, or the value.
        contributions: Those of all features, in the model's order.
        background_rows: How many test rows of the version's package are the background.
    """

    method: Method
    space: Space
    base: float
    output: float
    prediction: float
    contributions: tuple[Contribution, ...]
    background_rows: int


def explain_rows(
    folder: Path, manifest: Manifest, rows: Sequence[Sequence[float | None]]
) -> list[Explanation]:
    """Explain what a version predicts for rows.

    The background are up to 100 rows of the package's sample, drawn with a fixed seed; a model that
    is large, or has to be sampled with many features, is held against fewer. An estimate takes up
    to five seconds a row.

    Args:
        folder: The version's package.
        manifest: Its manifest.
        rows: The features of each, in the manifest's order.

    Raises:
        InputError: A row has another number of features, or no finite prediction.
        StateError: The package is damaged.
        NotSupportedError: It needs a library that is not installed.
    """
    for row in rows:
        if len(row) != len(manifest.features):
            raise InputError(
                f"A row has {len(row)} features; {manifest.model}@{manifest.version} takes "
                f"{len(manifest.features)}."
            )
    x = array_of(rows).reshape(len(rows), len(manifest.features))
    chosen = _choose(folder, manifest)
    return [explained(chosen, manifest.features, row) for row in x]


def array_of(rows: Sequence[Sequence[float | None]]) -> Floats:
    """Rows of features as an array, NaN for null."""
    return np.array(
        [[math.nan if value is None else value for value in row] for row in rows], dtype=np.float64
    )


def drawn_rows(sample: Floats) -> Floats:
    """Rows of a package's sample to be the background, always the same."""
    count = min(BACKGROUND_ROWS, len(sample))
    drawn = np.random.default_rng(SEED).choice(len(sample), count, replace=False)
    found: Floats = sample[drawn]
    return found


class Explainer(Protocol):
    """Explains rows of one model beside a background that it was made with."""

    base: float

    @property
    def background_rows(self) -> int:
        """How many rows of the background count."""
        ...

    def output(self, x: Floats) -> Floats:
        """The sum, or the prediction, of each row."""
        ...

    def contributions(self, x: Floats) -> tuple[Floats, Floats]:
        """What each feature of one row adds to the base, and the error of that."""
        ...


class Chosen(msgspec.Struct, frozen=True):
    """What explains a version, and in which space."""

    method: Method
    space: Space
    explainer: Explainer


def _choose(folder: Path, manifest: Manifest) -> Chosen:
    """What explains a version: exactly where there is a way, else by estimates."""
    sample, predicted = sample_rows(folder, manifest)
    background = drawn_rows(sample)
    classifies = manifest.task == "classification"
    estimator = None if manifest.native == "graph" else load_native(folder, manifest).estimator
    makers: list[tuple[Method, Callable[[], Explainer]]] = [
        ("linear", lambda: explainer_of_estimator(estimator, background)),
        ("trees", lambda: ForestExplainer(read_forest(estimator, manifest), background)),
    ]
    for method, make in makers:
        exact = _made(make)
        if exact is None:
            continue
        sums, wanted = exact.output(sample[:CHECKED_ROWS]), predicted[:CHECKED_ROWS]
        space = space_of(sums, wanted, classifies=classifies)
        if space is not None:
            return Chosen(method, space, exact)
    predict = load_engine(folder, manifest).predict
    sampled = SampledExplainer(predict, background, seed=SEED, seconds=SECONDS)
    return Chosen("sampled", "probability" if classifies else "value", sampled)


def explained(chosen: Chosen, names: Sequence[str], x: Floats) -> Explanation:
    """Explain a row.

    Args:
        chosen: How.
        names: Of its features.
        x: ``float64[features]``, NaN for null.

    Raises:
        InputError: There is no finite prediction for it.
    """
    found, errors = chosen.explainer.contributions(x)
    output = float(chosen.explainer.output(x[None, :])[0])
    if not math.isfinite(output) or not np.isfinite(found).all():
        raise InputError(
            "The model has no finite prediction for this row, so there is nothing to explain. "
            "Check the values and the nulls among them."
        )
    columns = zip(names, x.tolist(), found.tolist(), errors.tolist(), strict=True)
    return Explanation(
        method=chosen.method,
        space=chosen.space,
        base=chosen.explainer.base,
        output=output,
        prediction=float(_linked(np.array([output]), chosen.space)[0]),
        contributions=tuple(
            Contribution(
                feature=name,
                value=None if math.isnan(value) else value,
                contribution=contribution,
                error=error,
            )
            for name, value, contribution, error in columns
        ),
        background_rows=chosen.explainer.background_rows,
    )


def _made(make: Callable[[], Explainer]) -> Explainer | None:
    """An exact explainer; none where the model is not of its kind."""
    try:
        return make()
    except NotSupportedError:
        return None


def space_of(sums: Floats, predicted: Floats, *, classifies: bool) -> Space | None:
    """What the sums are of, found by what the model predicted for the same rows.

    None where no link makes the predictions of them: then the model is not what it looks like, and
    nothing is told of it that it does not compute.

    Args:
        sums: What the exact form gives.
        predicted: What the model gives for the same rows.
        classifies: Whether that is a probability.
    """
    spaces: tuple[Space, ...] = ("probability", "log_odds") if classifies else ("value", "log")
    for space in spaces:
        found = _linked(sums, space)
        if bool((np.abs(found - predicted) <= NEAR * np.maximum(1.0, np.abs(predicted))).all()):
            return space
    return None


def _linked(sums: Floats, space: Space) -> Floats:
    """Predictions from sums."""
    with np.errstate(over="ignore"):
        if space == "log_odds":
            found: Floats = 1.0 / (1.0 + np.exp(-sums))
            return found
        return np.exp(sums) if space == "log" else sums
