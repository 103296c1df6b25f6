"""Rows with their features into rows of the scores table: what batch runs and jobs share."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import msgspec
import numpy as np
import polars as pl

from penstock.deployment import GraphEngine, prediction_bounds

from .frames import SCORE_SCHEMA, given_column
from .no_score import no_score

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from penstock.deployment import Engine
    from penstock.ports import Services
    from penstock.records import Manifest

    from .payloads import Payload

__all__ = ["RowScorer"]


class RowScorer:
    """Scores rows with one version, for one deployment.

    Args:
        services: The ports; uses the clock and identifiers.
        deployment: Name of the deployment.
        manifest: The version's.
        engine: What predicts.
        request_id: Who asked, as it stands in the scores.
        payload: What of the features is stored; all of them where there is none.
    """

    def __init__(  # noqa: PLR0913 - what scoring depends on
        self,
        services: Services,
        deployment: str,
        manifest: Manifest,
        engine: Engine,
        *,
        request_id: str = "",
        payload: Payload | None = None,
    ) -> None:
        self._services = services
        self._deployment = deployment
        self._manifest = manifest
        self._engine = engine
        self._request_id = request_id
        self._payload = payload

    def score(
        self,
        spine: pl.DataFrame,
        features: pl.DataFrame,
        *,
        start_us: int,
        progress: Mapping[str, int],
        origin: Literal["batch", "request"],
    ) -> pl.DataFrame:
        """Score rows.

        Args:
            spine: The key of each row's entity, its further keys and request fields, and ``at``.
            features: The features of each, in the manifest's order.
            start_us: When the work began, in microseconds since 1970 UTC.
            progress: The last raw batch in the features, by view.
            origin: Whether they were computed or handed in.

        Returns:
            A frame of ``SCORE_SCHEMA``, in the order of the rows; ids grow with it. A row for which
            the version has no prediction, or no probability where it gives those, has NaN there and
            why as its ``reason``.
        """
        values = features.select(pl.col(name).cast(pl.Float64) for name in self._manifest.features)
        x = values.fill_null(float("nan")).to_numpy()
        given, parts = self._predict(np.ascontiguousarray(x))
        predictions, reasons = self._checked(given)
        ids = self._services.ids
        now_us = self._services.clock.now_us()
        constants = {
            "deployment": self._deployment,
            "model": self._manifest.model,
            "version": self._manifest.version,
            "route": "batch",
            "engine": self._engine.name_of(len(x)),
            "scored_at_us": now_us,
            "duration_us": now_us - start_us,
            "progress": msgspec.json.encode(progress).decode(),
            "origin": origin,
            "request_id": self._request_id,
            "withheld": "",
            "trace_id": "",
        }
        frame = pl.DataFrame(
            {
                "prediction_id": [ids.new() for _ in range(len(spine))],
                "entity": spine[self._manifest.entity].cast(pl.String),
                "given": given_column(spine, self._manifest.given),
                "at_us": spine["at"].dt.epoch("us"),
                "prediction": predictions,
                "parts": parts,
                "reason": reasons,
            }
        ).with_columns(
            values.select(pl.concat_list(pl.all())).to_series().alias("features"),
            *(pl.lit(value).alias(name) for name, value in constants.items()),
        )
        found = frame.select(pl.col(name).cast(dtype) for name, dtype in SCORE_SCHEMA.items())
        return self._payload.stored_frame(found, self._manifest) if self._payload else found

    def _checked(self, given: NDArray[np.float64]) -> tuple[NDArray[np.float64], pl.Series]:
        """Predictions, NaN for what is none, and why that is, as the column ``reason``."""
        least, greatest = prediction_bounds(classification=self._manifest.task == "classification")
        wrong = np.flatnonzero(~((given >= least) & (given <= greatest)))  # NaN is
        reasons = pl.repeat("", len(given), dtype=pl.String, eager=True)
        if not len(wrong):
            return given, reasons
        label = f"{self._manifest.model}@{self._manifest.version}"
        said = [no_score(label, one).message for one in given[wrong].tolist()]
        predictions = given.copy()
        predictions[wrong] = np.nan
        return predictions, reasons.scatter(wrong, said)

    def _predict(self, x: NDArray[np.float64]) -> tuple[NDArray[np.float64], pl.Series]:
        """The predictions, and what the steps of a graph gave, as the column ``parts``."""
        if not isinstance(self._engine, GraphEngine):
            nothing = pl.repeat("{}", len(x), dtype=pl.String, eager=True)
            return self._engine.predict(x), nothing
        run = self._engine.run(x)
        parts = run.parts(self._engine.output)
        texts = [msgspec.json.encode(part).decode() for part in parts]
        return run.predictions, pl.Series(texts, dtype=pl.String)
