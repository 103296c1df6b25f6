"""What worker processes do for a feature selection: measure, weigh, draw.

Plain JSON values in and out. Only these processes load scikit-learn and matplotlib.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Literal

import msgspec
import numpy as np
import polars as pl

from penstock.errors import InputError
from penstock.evaluation.choosing import group, mean_ranks
from penstock.evaluation.ranking import correlations, importances, is_constant, relevance
from penstock.evaluation.selection_report import draw_selection, write_report
from penstock.records import FeatureRank, FeatureSelection

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

__all__ = ["Rows", "measure", "report", "weigh"]

MEASURED_ROWS = 50_000
SHUFFLED_ROWS = 10_000
DRAWN = 40


class Rows(msgspec.Struct, frozen=True, kw_only=True):
    """The rows of a dataset that are looked at.

    Attributes:
        path: Its Parquet file.
        features: Columns to rank, in order.
        label: The label's column.
        task: The task.
        seed: Of samples, model and shuffles.
    """

    path: str
    features: tuple[str, ...]
    label: str
    task: Literal["classification", "regression"]
    seed: int


def measure(*, rows: object) -> object:
    """Measure each feature by itself on the train part, and group those that correlate.

    Of more than 50,000 rows a random sample of that size is looked at.

    Args:
        rows: ``Rows`` as plain values.

    Returns:
        ``ranks``: a ``FeatureRank`` for each feature in their order, without rank; ``rows``.
    """
    wanted = msgspec.convert(rows, Rows)
    x, y = _part(wanted, "train", wanted.features, MEASURED_ROWS)
    live = [place for place, column in enumerate(x.T) if not is_constant(column)]
    ranks = [FeatureRank(name=name, rank=0, verdict="constant") for name in wanted.features]
    if live:
        told = relevance(x[:, live], y, wanted.task, wanted.seed)
        scores = mean_ranks([[one.chi2 for one in told], [one.mutual_information for one in told]])
        order = [int(place) for place in np.argsort(scores, kind="stable")]
        rho = correlations(x[:, live])
        leads = [int(lead) for lead in group(order, rho)]
        numbers = {lead: number for number, lead in enumerate(dict.fromkeys(leads), 1)}
        for index, (one, lead) in enumerate(zip(told, leads, strict=True)):
            ranks[live[index]] = FeatureRank(
                name=wanted.features[live[index]],
                rank=0,
                verdict="kept" if lead == index else "redundant",
                chi2=one.chi2,
                chi2_p=one.p,
                mutual_information=one.mutual_information,
                group=numbers[lead],
                redundant_with="" if lead == index else wanted.features[live[lead]],
                correlation=None if lead == index else float(rho[index, lead]),
            )
    return {"ranks": msgspec.to_builtins(ranks), "rows": len(y)}


def weigh(*, rows: object, features: Sequence[str]) -> object:
    """Permutation importance of a quick model: learned on train, measured on validation.

    Of more than 50,000 rows to learn from, and 10,000 to measure on, random samples of that size
    are looked at.

    Args:
        rows: ``Rows`` as plain values.
        features: The features the model gets.

    Returns:
        ``mean`` and ``std`` per feature, the model's ``score`` and ``rows``.
    """
    wanted = msgspec.convert(rows, Rows)
    train = _part(wanted, "train", features, MEASURED_ROWS)
    validation = _part(wanted, "validation", features, SHUFFLED_ROWS)
    if wanted.task == "classification" and len(np.unique(validation[1])) == 1:
        raise InputError(
            "The labels of the validation part are all alike, so no model can be scored on it. "
            "Ingest more records, or change the split."
        )
    found = importances(train, validation, wanted.task, wanted.seed)
    return {
        "mean": list(found.mean),
        "std": list(found.std),
        "score": found.score,
        "rows": len(validation[1]),
    }


def report(*, rows: object, selection: object, folder: str) -> None:
    """Write ``report.html``, ``ranking.png`` and ``correlation.png`` into a folder.

    Args:
        rows: ``Rows`` as plain values.
        selection: A ``FeatureSelection`` as plain values, without its artifact.
        folder: Where to write.
    """
    wanted = msgspec.convert(rows, Rows)
    found = msgspec.convert(selection, FeatureSelection)
    shown = [one for one in found.ranks if one.verdict != "constant"][:DRAWN]
    by_group = [one.name for one in sorted(shown, key=lambda one: (one.group, one.rank))]
    rho = np.empty((0, 0))
    if by_group:
        rho = correlations(_part(wanted, "train", by_group, MEASURED_ROWS)[0])
    draw_selection(Path(folder), found, shown, by_group, rho)
    write_report(Path(folder), found)


def _part(
    rows: Rows, part: str, features: Sequence[str], most: int
) -> tuple[Floats, NDArray[np.float64]]:
    """Features and label of a part as float64, NaN for null; a random sample when it is large."""
    frame = pl.scan_parquet(rows.path).filter(pl.col("part") == part)
    length = int(frame.select(pl.len()).collect().item())
    frame = frame.select(pl.col(*features, rows.label).cast(pl.Float64)).with_row_index("_place")
    if length > most:
        chosen = np.random.default_rng(rows.seed).choice(length, most, replace=False)
        places = pl.Series("_place", np.sort(chosen), dtype=pl.UInt32)
        frame = frame.filter(pl.col("_place").is_in(places.implode()))
    found = frame.collect()
    x = found.select(pl.col(*features).fill_null(float("nan"))).to_numpy()
    return np.ascontiguousarray(x), found[rows.label].to_numpy()
