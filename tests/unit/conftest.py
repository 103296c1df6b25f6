"""A deployment with versions and scores, without the training of either: what is watched."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import numpy as np
import pytest

import penstock as ps
from penstock.algebra import reference_bins
from penstock.ports import Put
from penstock.records import Aliases, AppliedDeclaration, Manifest, ModelVersion, Score
from penstock.registry import write_manifest
from penstock.runtime import open_services
from penstock.scoring import score_frame
from penstock.spec import (
    Declaration,
    Deployment,
    Trainer,
    declarations_in,
    fingerprint,
    kind_of,
    to_document,
)
from penstock.testing.manifests import manifest_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from penstock.runtime import LocalServices

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
APPLIED = datetime(2026, 1, 1, tzinfo=UTC)
NAMES = ("momentum.last_close", "momentum.count_1d")


class Watched:
    """A deployment ``btc`` of the model ``direction``, with two features.

    Attributes:
        services: The ports of its project.
        endpoint: The deployment.
        reference: The training rows, ``[1000, 2]``.
    """

    def __init__(self, services: LocalServices) -> None:
        self.services = services
        self.endpoint = _endpoint()
        self.reference = np.random.default_rng(1).normal(size=(1000, 2))
        self._appends = 0

    def apply(self, *declarations: Declaration, at: datetime = APPLIED) -> None:
        """Store declarations and what they refer to, as if applied at that time."""
        for position, value in enumerate(declarations_in([self.endpoint, *declarations])):
            record = AppliedDeclaration(
                declared_kind=kind_of(value),
                name=value.name,
                document=to_document(value),
                fingerprint=fingerprint(value),
                version=1,
                position=position,
                applied_at=at,
                applied_by="tester",
            )
            self.services.metadata.write(Put(record))

    def version(self, number: int) -> ModelVersion:
        """Store a version with a package that holds a manifest and nothing else."""
        folder = self.services.scratch / f"package-{number}"
        folder.mkdir(parents=True)
        write_manifest(folder, self.manifest(number))
        record = ModelVersion(
            model="direction",
            version=number,
            candidate="linear",
            run_id=f"run-{number}",
            dataset_id="d",
            params={},
            metrics={},
            created_at=APPLIED,
            fingerprint="f",
            ready=True,
            package=self.services.artifacts.put(folder),
            engine="native",
        )
        self.services.metadata.write(Put(record))
        return record

    def manifest(self, number: int) -> Manifest:
        columns = zip(NAMES, self.reference.T, strict=True)
        return manifest_of(
            *NAMES,
            version=number,
            task="classification",
            candidate="linear",
            estimator="sklearn.linear_model:LogisticRegression",
            prepare="scale",
            bins={name: reference_bins(column) for name, column in columns},
            created_at=APPLIED,
        )

    def answers(self, champion: int, *, previous: int = 0, at_us: int = 0) -> Aliases:
        """Point the aliases, and store the versions where they are missing."""
        known = {one.version for one in self.services.metadata.find(ModelVersion)}
        for number in {champion, previous} - known - {0}:
            self.version(number)
        now = Aliases(
            model="direction",
            champion=champion,
            previous=previous,
            revision=1,
            changed_at=EPOCH + timedelta(microseconds=at_us),
        )
        self.services.metadata.write(Put(now))
        return now

    def scored(
        self,
        features: np.ndarray,
        *,
        at_us: int,
        version: int = 1,
        route: str = "champion",
        prediction: Sequence[float] | None = None,
        duration_us: int = 1_000,
        of_us: int | None = None,
    ) -> list[str]:
        """Store one score per row; returns their ids."""
        ids = [self.services.ids.new() for _ in features]
        rows = [
            Score(
                prediction_id=prediction_id,
                deployment="btc",
                model="direction",
                version=version,
                route=route,
                engine="native",
                entity="A",
                at_us=at_us if of_us is None else of_us,
                features=tuple(None if np.isnan(value) else float(value) for value in row),
                prediction=0.5 if prediction is None else prediction[place],
                scored_at_us=at_us,
                duration_us=duration_us,
            )
            for place, (prediction_id, row) in enumerate(zip(ids, features, strict=True))
        ]
        self._appends += 1
        self.services.tables.append(
            "scores/btc", score_frame(rows), app="test", number=self._appends
        )
        return ids


@pytest.fixture
def watched(tmp_path: Path) -> Iterator[Watched]:
    home = tmp_path / "watched"
    (home / ".penstock").mkdir(parents=True)
    with open_services(home, actor="tester") as services:
        made = Watched(services)
        made.apply()
        yield made


def _endpoint() -> Deployment:
    candles = ps.Source(
        "candles",
        entity=ps.Entity("symbol"),
        timestamp="ts",
        schema={"symbol": ps.String, "ts": ps.Timestamp, "close": ps.Float64},
        known_after="1h",
    )
    momentum = ps.FeatureView(
        "momentum", source=candles, features=[ps.last("close"), ps.count(over="1d")]
    )
    dataset = ps.Dataset(
        "hourly",
        spine=candles,
        features=[momentum],
        label=ps.Label("up", ps.lead("close", "1h") > ps.col("close")),
        split=ps.TimeSplit(embargo="1h"),
    )
    linear = Trainer(kind="sklearn", estimator="sklearn.linear_model:LogisticRegression")
    model = ps.Model("direction", dataset=dataset, candidates=[linear])
    return ps.Deployment("btc", model=model)
