"""What evaluation finds: plain values, fit to travel between steps."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from penstock.records import GateVerdict

__all__ = ["CandidateResult", "Evaluation", "Rival"]


class CandidateResult(msgspec.Struct, frozen=True, kw_only=True):
    """One trained candidate, measured.

    Attributes:
        candidate: Name of the trainer.
        metrics: ``validation.<metric>`` and ``test.<metric>``; those the rows do not define are
            left out.
        selected: Whether it is the best by the model's objective on the validation part.
        ready: Whether it was selected and passed every gate.
        verdicts: What the gates said; empty unless it was selected.
        tracking_run: Id of its MLflow run.
    """

    candidate: str
    metrics: Mapping[str, float]
    selected: bool = False
    ready: bool = False
    verdicts: tuple[GateVerdict, ...] = ()
    tracking_run: str = ""

    @property
    def test_metrics(self) -> dict[str, float]:
        """The metrics on the test part, by plain name."""
        prefix = "test."
        return {
            name.removeprefix(prefix): value
            for name, value in self.metrics.items()
            if name.startswith(prefix)
        }


class Rival(msgspec.Struct, frozen=True, kw_only=True):
    """The model behind an alias, measured on the same test rows.

    Attributes:
        alias: The alias.
        version: The version it points to.
        metrics: Its metrics on the test part, by plain name.
    """

    alias: str
    version: int
    metrics: Mapping[str, float]


class Evaluation(msgspec.Struct, frozen=True, kw_only=True):
    """A training run, measured and judged.

    Attributes:
        run_id: The training run.
        results: The candidates that were trained, in the order they are declared.
        rivals: The champion, where there is one, and whom else the gates name.
        tracking_run: Id of the MLflow run that holds the candidates' runs.
        warnings: What a reader of the metrics should know.
    """

    run_id: str
    results: tuple[CandidateResult, ...]
    rivals: tuple[Rival, ...] = ()
    tracking_run: str = ""
    warnings: tuple[str, ...] = ()

    @property
    def best(self) -> CandidateResult:
        """The candidate that was selected."""
        return next(result for result in self.results if result.selected)
