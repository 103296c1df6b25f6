"""Measures of features against a label. Only worker processes import this: it loads scikit-learn.

Values are cut into bins at the quantiles of the training rows, with a bin of their own for nulls,
so that a missing value is information like any other and nothing has to be filled in.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import msgspec
import numpy as np
from scipy.stats import chi2 as chi2_distribution
from scipy.stats import rankdata
from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor
from sklearn.feature_selection import chi2, mutual_info_classif, mutual_info_regression
from sklearn.inspection import permutation_importance
from sklearn.metrics import get_scorer

from penstock.algebra import reference_bins

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Task = Literal["classification", "regression"]
    Floats = NDArray[np.float64]
    Codes = NDArray[np.int64]

__all__ = ["Importances", "Relevance", "correlations", "importances", "is_constant", "relevance"]

BINS = 10
REPEATS = 5
ITERATIONS = 100
JOBS = 1  # more would not give other values, only more memory


class Relevance(msgspec.Struct, frozen=True):
    """How much one feature, by itself, tells of the label.

    Attributes:
        chi2: Pearson's chi-square of its bins against the label's classes.
        p: Its probability by chance.
        mutual_information: In nats.
    """

    chi2: float
    p: float
    mutual_information: float


class Importances(msgspec.Struct, frozen=True):
    """What a model loses with each feature.

    Attributes:
        score: The model's score as it is.
        mean: Mean loss per feature.
        std: Its standard deviation over the shuffles.
    """

    score: float
    mean: tuple[float, ...]
    std: tuple[float, ...]


def is_constant(values: Floats) -> bool:
    """Whether a feature tells nothing: all rows have one value, or none has any."""
    known = values[~np.isnan(values)]
    return not len(known) or (len(known) == len(values) and bool((known == known[0]).all()))


def relevance(x: Floats, y: Floats, task: Task, seed: int) -> list[Relevance]:
    """Chi-square and mutual information of each feature.

    Args:
        x: Values, float64 ``[n, features]`` with NaN for null.
        y: The label, float64 ``[n]``; 0 and 1 for a classification. For chi-square, that of a
            regression is cut into ten classes at its quantiles.
        task: The task.
        seed: Of the tiny noise that tells equal labels of a regression apart.
    """
    codes = np.column_stack([_codes(column) for column in x.T])
    classes = y.astype(np.int64) if task == "classification" else _codes(y)
    how: Any = {"discrete_features": True, "random_state": seed}  # a library without types
    if task == "classification":
        told = mutual_info_classif(codes, classes, **how)
    else:
        told = mutual_info_regression(codes, y, **how)
    return [
        Relevance(*_chi_square(column, classes), float(information))
        for column, information in zip(codes.T, told, strict=True)
    ]


def correlations(x: Floats) -> Floats:
    """Spearman's correlation of every two features, ``[features, features]``.

    A null counts as the middle rank, so it speaks neither for nor against a correlation.
    """
    ranks = np.zeros(x.shape)
    for place, column in enumerate(x.T):
        known = ~np.isnan(column)
        found = rankdata(column[known])
        ranks[known, place] = found - found.mean()
    lengths = np.sqrt((ranks**2).sum(axis=0))
    found = (ranks.T @ ranks) / np.outer(lengths, lengths)
    return np.clip(found, -1.0, 1.0)


def importances(
    train: tuple[Floats, Floats], validation: tuple[Floats, Floats], task: Task, seed: int
) -> Importances:
    """Permutation importance of a quick model: learned from one part, measured on another.

    Args:
        train: Values and label to learn from, as for ``relevance``.
        validation: Values and label to measure on; of a classification, with both classes.
        task: The task; the score is ROC AUC or R².
        seed: Of the model and the shuffles.
    """
    classifies = task == "classification"
    make = HistGradientBoostingClassifier if classifies else HistGradientBoostingRegressor
    how: Any = {"max_iter": ITERATIONS, "early_stopping": False, "random_state": seed}
    model = make(**how)
    model.fit(train[0], train[1].astype(np.int64) if classifies else train[1])
    scoring = "roc_auc" if classifies else "r2"
    truth = validation[1].astype(np.int64) if classifies else validation[1]
    found: Any = permutation_importance(
        model, validation[0], truth, scoring=scoring, n_repeats=REPEATS, random_state=seed,
        n_jobs=JOBS,
    )  # fmt: skip
    return Importances(
        float(get_scorer(scoring)(model, validation[0], truth)),
        tuple(map(float, found.importances_mean)),
        tuple(map(float, found.importances_std)),
    )


def _codes(values: Floats) -> Codes:
    """The bin of each value, nulls in the last."""
    edges = np.asarray(reference_bins(values, bins=BINS).edges)
    codes = np.searchsorted(edges, values, side="left").astype(np.int64)
    codes[np.isnan(values)] = len(edges) + 1
    return codes


def _chi_square(codes: Codes, classes: Codes) -> tuple[float, float]:
    """Pearson's chi-square of two columns of codes, and its probability by chance."""
    bins = np.unique(codes)
    statistic = float(chi2((codes[:, None] == bins).astype(np.float64), classes)[0].sum())
    freedom = (len(bins) - 1) * (len(np.unique(classes)) - 1)
    return statistic, float(chi2_distribution.sf(statistic, freedom)) if freedom else 1.0
