"""Replay: a score computed again, from what it saw and from raw data, and why it differs."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Literal, TypeAlias

import msgspec
import numpy as np

from penstock.deployment import GraphEngine, load_engine, prediction_bounds
from penstock.errors import (
    DeclarationError,
    NotFoundError,
    NotReadyError,
    PenstockError,
    StateError,
    UserCodeError,
)
from penstock.plan import Catalogue
from penstock.registry import get_version, read_manifest, views_of
from penstock.scoring import find_score, score_spine
from penstock.spec import Deployment

from .causes import Cause, environment_causes, feature_causes, list_causes, package_causes
from .hiding import hidden_of, hides_words
from .pruning import missing_score
from .recomputing import features_from_raw

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from penstock.ports import Services
    from penstock.records import Manifest, Score

__all__ = ["FeatureReplay", "PartReplay", "Replay", "replay"]

TOLERANCE = 1e-6
FEATURE_TOLERANCE = 1e-9
UNSTORED = (
    "the features came with the request, and the deployment's log does not store them (its 'log')"
)

Values: TypeAlias = "Sequence[float | None]"


class FeatureReplay(msgspec.Struct, frozen=True, kw_only=True):
    """One feature of the score.

    Attributes:
        name: Its full name.
        logged: What the model saw; null for none.
        raw: What raw data gives for it.
        same: Whether they are equal, sums of floats to 1e-9.
    """

    name: str
    logged: float | None
    raw: float | None
    same: bool


class PartReplay(msgspec.Struct, frozen=True, kw_only=True):
    """One step of a graph.

    Attributes:
        name: Its name.
        logged: What it gave; null for none.
        again: What it gives for the features that were logged; null for none, or where it is not
            computed.
        same: Whether they are equal.
    """

    name: str
    logged: float | None
    again: float | None
    same: bool


class Replay(msgspec.Struct, frozen=True, kw_only=True):
    """A score computed again.

    Attributes:
        prediction_id: The score.
        version: ``model@version`` that answered; empty for a constant.
        logged: What was answered; NaN where a batch run had no prediction to store.
        from_stored: What the model gives for the features that were logged; None where it cannot
            be computed.
        from_raw: What it gives for the features computed again from raw data; None where it cannot
            be computed, or where the features came with the request.
        features: The features, logged and from raw data; empty where they came with the request.
        hidden: Those that whoever asked may not read: compared, and not among ``features``.
        withheld: What of the features was not stored, so that the score was computed from raw data
            alone: their names with commas between them, ``*`` for all; empty where all were.
        same: Whether everything that can be computed again is what it was.
        causes: What explains the difference; empty when there is none.
        parts: The steps of a graph, logged and from the logged features; empty for what is none,
            and where they are withheld or whoever asked may not read every feature.
    """

    prediction_id: str
    version: str
    logged: float
    from_stored: float | None
    from_raw: float | None
    features: tuple[FeatureReplay, ...]
    same: bool
    causes: tuple[Cause, ...]
    hidden: tuple[str, ...] = ()
    withheld: str = ""
    parts: tuple[PartReplay, ...] = ()


def replay(services: Services, prediction_id: str) -> Replay:
    """Compute a score again and say what explains a difference.

    The prediction is computed twice by the version that answered: from the features that were
    logged, and, where they were looked up, from features computed from raw data as of the score's
    time, out of no other batches than the score had seen. What differs is searched for among the
    five causes: model binary, feature list, feature code, feature data, environment.

    Args:
        services: The ports.
        prediction_id: The score.

    Raises:
        NotFoundError: There is no such score, or its version is gone.
    """
    score = find_score(services, prediction_id)
    if score is None:
        raise missing_score(services.tables, prediction_id)
    if not score.version:
        return _constant(services, score)
    return _Replayer(services, score).run()


class _Replayer:
    """One replay of a score that a version answered."""

    def __init__(self, services: Services, score: Score) -> None:
        self._services = services
        self._score = score
        self._version = get_version(services.metadata, score.model, score.version)
        self._causes: list[Cause] = []
        self._parts: tuple[PartReplay, ...] = ()

    def run(self) -> Replay:
        try:
            folder = self._services.artifacts.path(self._version.package)
            manifest = read_manifest(folder)
        except (StateError, NotFoundError) as error:
            self._blame("model binary", error)
            return self._outcome(None, None, ())
        stored = None
        if not self._score.withheld:
            stored = self._predict(folder, manifest, self._score.features, keep=True)
        if self._score.origin == "request":
            if self._score.withheld:
                self._causes.append(Cause(kind="feature data", reason=UNSTORED))
            return self._judged(folder, manifest, stored, None, ())
        values = self._from_raw(manifest)
        if values is None:
            return self._judged(folder, manifest, stored, None, ())
        features = _compared(manifest, self._score, values)
        again = self._predict(folder, manifest, values)
        return self._judged(folder, manifest, stored, again, features)

    def _predict(
        self, folder: Path, manifest: Manifest, values: Values, *, keep: bool = False
    ) -> float | None:
        """What the version gives for features; of a graph the steps are kept where wanted."""
        self._causes += list_causes(manifest, values)
        if len(values) != len(manifest.features):
            return None
        row = [math.nan if value is None else value for value in values]
        try:
            engine, x = load_engine(folder, manifest), np.array([row], dtype=np.float64)
            if not isinstance(engine, GraphEngine):
                return float(engine.predict(x)[0])
            run = engine.run(x)
        except PenstockError as error:
            self._blame("model binary", error)
            return None
        if keep:
            self._parts = self._same_parts(manifest, run.parts(engine.output)[0])
        return float(run.predictions[0])

    def _same_parts(
        self, manifest: Manifest, again: Mapping[str, float | None]
    ) -> tuple[PartReplay, ...]:
        logged = self._score.parts
        return tuple(
            PartReplay(
                name=name,
                logged=logged.get(name),
                again=again.get(name),
                same=(name in logged) == (name in again)
                and _near(manifest, logged.get(name), again.get(name)),
            )
            for name in dict.fromkeys((*logged, *again))
        )

    def _from_raw(self, manifest: Manifest) -> Values | None:
        """The features from raw data, in the manifest's order; None where there is no way."""
        score = self._score
        try:
            spine = score_spine(manifest, [score.entity], [score.at_us], [score.given])
            frame = features_from_raw(self._services, manifest, spine, [score.progress])
        except (DeclarationError, UserCodeError) as error:
            self._blame("feature code", error)
            return None
        except NotReadyError as error:
            self._blame("feature data", error)
            return None
        except StateError as error:
            self._blame("feature list", error)
            return None
        return frame.row(0)

    def _judged(
        self,
        folder: Path,
        manifest: Manifest,
        stored: float | None,
        raw: float | None,
        features: tuple[FeatureReplay, ...],
    ) -> Replay:
        """Search for the causes of what differs, and say so."""
        computed = raw if self._score.withheld else stored
        if not self._close(manifest, computed) and not (self._score.withheld and raw is None):
            self._causes += package_causes(folder, manifest, self._score)
            if not self._causes:
                self._causes += environment_causes(manifest)
        if not all(feature.same for feature in features):
            views = views_of(manifest)
            self._causes += feature_causes(self._services, manifest, views, self._score)
        return self._outcome(stored, raw, features, manifest)

    def _close(self, manifest: Manifest, value: float | None) -> bool:
        if value is None:
            return False
        return _near(manifest, self._score.prediction, value)

    def _outcome(
        self,
        stored: float | None,
        raw: float | None,
        features: tuple[FeatureReplay, ...],
        manifest: Manifest | None = None,
    ) -> Replay:
        looked_up = self._score.origin != "request"
        same = (
            manifest is not None
            and (bool(self._score.withheld) or self._close(manifest, stored))
            and not (self._score.withheld and not looked_up)
            and (not looked_up or self._close(manifest, raw))
            and all(feature.same for feature in features)
            and all(part.same for part in self._parts)
        )
        hidden = hidden_of(self._services, manifest) if manifest and features else frozenset()
        return Replay(
            prediction_id=self._score.prediction_id,
            version=self._version.label,
            logged=self._score.prediction,
            from_stored=stored,
            from_raw=raw,
            features=tuple(one for one in features if one.name not in hidden),
            hidden=tuple(one.name for one in features if one.name in hidden),
            same=same,
            causes=tuple(dict.fromkeys(self._causes)),
            withheld=self._score.withheld,
            parts=() if self._hides(manifest) else self._parts,
        )

    def _hides(self, manifest: Manifest | None) -> bool:
        """Whether whoever asked may not read every feature, and so none of the steps."""
        return not self._parts or manifest is None or bool(hidden_of(self._services, manifest))

    def _blame(
        self,
        kind: Literal["model binary", "feature list", "feature code", "feature data"],
        error: PenstockError,
    ) -> None:
        reason = error.message
        if isinstance(error, UserCodeError) and hides_words(self._services):
            reason = error.plain
        self._causes.append(Cause(kind=kind, reason=reason))


def _compared(manifest: Manifest, score: Score, raw: Values) -> tuple[FeatureReplay, ...]:
    """The features that were stored as they were, beside what raw data gives."""
    withheld = set(score.withheld.split(","))
    pairs = [
        pair
        for pair in zip(manifest.features, score.features, raw, strict=False)
        if pair[0] not in withheld
    ]
    return tuple(
        FeatureReplay(name=name, logged=seen, raw=found, same=_same(seen, found))
        for name, seen, found in pairs
    )


def _near(manifest: Manifest, logged: float | None, value: float | None) -> bool:
    if logged is None or value is None:
        return logged is value
    if math.isnan(logged):  # a batch run was given what is no prediction
        least, greatest = prediction_bounds(classification=manifest.task == "classification")
        return not least <= value <= greatest
    scale = 1.0 if manifest.task == "classification" else max(1.0, abs(logged))
    return abs(value - logged) <= TOLERANCE * scale


def _same(one: float | None, other: float | None) -> bool:
    if one is None or other is None:
        return one is other
    return math.isclose(one, other, rel_tol=FEATURE_TOLERANCE, abs_tol=FEATURE_TOLERANCE * 1e-3)


def _constant(services: Services, score: Score) -> Replay:
    """A constant answered: there is no model to ask, only the declaration."""
    found = {one.name: one for one in Catalogue.load(services.metadata).all(Deployment)}
    declared = found.get(score.deployment)
    value = declared.fallback.value if declared and declared.fallback else None
    same = value == score.prediction
    reason = f"the fallback of {score.deployment!r} is declared as {value!r} now"
    return Replay(
        prediction_id=score.prediction_id,
        version="",
        logged=score.prediction,
        from_stored=value,
        from_raw=None,
        features=(),
        same=same,
        causes=() if same else (Cause(kind="environment", reason=reason),),
    )
