"""Which engine serves a version: the fastest of those that answer like the native model.

Every engine there is answers the package's sample of real rows, and harder ones; see ``probes``.
One row off and it serves nobody. Those that are left are timed at one row and at 64.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import msgspec
import numpy as np

from penstock.records import EngineChoice, EngineName, EngineTrial
from penstock.registry import load_native

from .candidates import Candidate, candidates
from .engine import NativeEngine
from .explainable import exact_forms
from .loading import ENGINE_FILES, load_graph
from .probes import legal_rows, probes
from .proof import compare
from .sample import ARRAYS_FILE, pack_sample, sample_rows
from .timing import BATCH_ROWS, time_engines

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from penstock.records import Manifest

    Floats = NDArray[np.float64]

__all__ = ["Choice", "choose_engine"]

GAIN = 1.2  # by how much another engine has to be faster at 64 rows to be loaded beside the first
TITLES: Mapping[EngineName, str] = {
    "onnx": "ONNX", "trees": "the compiled forest", "native": "the native model",
    "graph": "the graph of engines",
}  # fmt: skip
NATIVE_REASON = "the model as it was trained"
GRAPH_REASON = "its models as they were trained"
CUSTOM_REASON = "a class of the project, in a process of its own"


class Choice(msgspec.Struct, frozen=True):
    """An engine that was chosen.

    Attributes:
        choice: Which, why, and how it compares.
        files: The files that it needs beside those of the package, by name; the sample as arrays is
            among them.
    """

    choice: EngineChoice
    files: Mapping[str, bytes]


class _Found(msgspec.Struct, frozen=True):
    """A candidate, with what was found of it."""

    candidate: Candidate
    trial: EngineTrial
    rows: int


def choose_engine(folder: Path, manifest: Manifest) -> Choice:
    """Try every engine for the model of a package; see ``package``.

    Args:
        folder: The package.
        manifest: Its manifest.

    Raises:
        StateError: The package is damaged.
        NotSupportedError: The native model needs a library that is not installed.
    """
    if manifest.native == "graph":
        return _choose_graph(folder, manifest)
    native = load_native(folder, manifest)
    own = Candidate(name="native", dtype="float64", engine=NativeEngine(native))
    sample, predicted = sample_rows(folder, manifest)
    whole = [place for place, name in enumerate(manifest.features)
             if manifest.dtypes[name] == "int64"]  # fmt: skip
    others = candidates(native, manifest)
    # With nothing to compare it with, a model need not be troubled with rows that are hard.
    x = np.concatenate([sample, legal_rows(native, probes(sample, whole))]) if others else sample
    right = native.predict(x)
    reason = CUSTOM_REASON if manifest.native == "custom" else NATIVE_REASON
    trial = EngineTrial(engine="native", dtype="float64", proved=True, reason=reason)
    classifies = manifest.task == "classification"
    found = [_Found(own, trial, len(x))]
    found += [_try(candidate, x, right, len(sample), classifies=classifies) for candidate in others]
    made = _choose(_timed(found, sample))
    arrays = {ARRAYS_FILE: pack_sample(sample, predicted)}
    return msgspec.structs.replace(made, files={**made.files, **arrays})


def _choose_graph(folder: Path, manifest: Manifest) -> Choice:
    """Prove the engines of the models of a graph against the models themselves, through its steps.

    A difference that no model shows alone may lead a row another way. One engine answers batches
    of every size: between two, rows at the edge of a condition would go either way more often.
    """
    sample, _ = sample_rows(folder, manifest)
    native = load_graph(folder, manifest, native=True)
    trial = EngineTrial(engine="native", dtype="float64", proved=True, reason=GRAPH_REASON)
    own = Candidate(name="native", dtype="float64", engine=native)
    found = [_Found(own, trial, len(sample))]
    engine = load_graph(folder, manifest, native=False)
    if engine.name == "graph":
        whole = [place for place, name in enumerate(manifest.features)
                 if manifest.dtypes[name] == "int64"]  # fmt: skip
        x = np.concatenate([sample, legal_rows(native, probes(sample, whole))])
        other = Candidate(name="graph", dtype="float64", engine=engine)
        classifies = manifest.task == "classification"
        found.append(_try(other, x, native.predict(x), len(sample), classifies=classifies))
        found[0] = _Found(own, trial, len(x))
    made = _choose(_timed(found, sample), one=True)
    return msgspec.structs.replace(made, files={**made.files, **exact_forms(folder, manifest)})


def _try(candidate: Candidate, x: Floats, right: Floats, real: int, *, classifies: bool) -> _Found:
    """Prove one engine."""
    title = f"{TITLES[candidate.name]} in {candidate.dtype}"
    if candidate.engine is None:
        trial = _trial(candidate, proved=False, reason=candidate.reason)
        return _Found(candidate, trial, 0)
    # What a library raises for a row it does not take, where the native model does.
    try:
        got = candidate.engine.predict(x)
    except Exception as error:  # noqa: BLE001 - see above
        reason = f"{title} fails: {type(error).__name__}: {error}"
        return _Found(candidate, _trial(candidate, proved=False, reason=reason), len(x))
    proof = compare(right, got, classification=classifies, real=real)
    reason = f"{title} is {proof.text}" if proof.holds else f"{title} is not equal: {proof.text}"
    worst = proof.max_difference if np.isfinite(proof.max_difference) else -1.0
    trial = _trial(candidate, proved=proof.holds, reason=reason, worst=worst)
    return _Found(candidate, trial, len(x))


def _trial(candidate: Candidate, *, proved: bool, reason: str, worst: float = 0.0) -> EngineTrial:
    return EngineTrial(
        engine=candidate.name,
        dtype=candidate.dtype,
        proved=proved,
        reason=reason,
        max_difference=worst,
    )


def _timed(found: list[_Found], sample: Floats) -> list[_Found]:
    """The same with the times of those that were proved."""
    proved = [one for one in found if one.trial.proved]
    engines = [one.candidate.engine for one in proved if one.candidate.engine is not None]
    ones = dict(zip(map(id, proved), time_engines(engines, sample, 1), strict=True))
    batches = dict(zip(map(id, proved), time_engines(engines, sample, BATCH_ROWS), strict=True))
    return [
        msgspec.structs.replace(
            one,
            trial=msgspec.structs.replace(
                one.trial, one_us=ones.get(id(one), 0.0), batch_us=batches.get(id(one), 0.0)
            ),
        )
        for one in found
    ]


def _choose(found: list[_Found], *, one: bool = False) -> Choice:
    """The fastest of what was proved, alone or with what is faster in batches."""
    native = found[0]
    proved = [one for one in found if one.trial.proved]
    first = min(proved, key=lambda each: each.trial.one_us)
    # Of two in ONNX form there is one file.
    others = [each for each in proved if not one and each.trial.engine != first.trial.engine]
    second = min(others, key=lambda each: each.trial.batch_us, default=None)
    if second is not None and first.trial.batch_us < GAIN * second.trial.batch_us:
        second = None
    against = "; ".join(each.trial.reason for each in found if not each.trial.proved)
    reason = against or native.trial.reason if first is native else first.trial.reason
    choice = EngineChoice(
        engine=first.trial.engine,
        dtype=first.trial.dtype,
        reason=reason,
        rows=native.rows,
        max_difference=first.trial.max_difference,
        native_us=native.trial.one_us,
        engine_us=first.trial.one_us,
        batch_engine=second.trial.engine if second else "",
        batch_from=_crossing(first.trial, second.trial) if second else 0,
        tried=tuple(each.trial for each in found),
    )
    chosen = [each.candidate for each in (first, second) if each is not None]
    return Choice(
        choice,
        {ENGINE_FILES[each.name]: each.content for each in chosen if each.name in ENGINE_FILES},
    )


def _crossing(few: EngineTrial, many: EngineTrial) -> int:
    """Rows from which the second is faster, if both grow evenly from one row to 64."""
    behind = many.one_us - few.one_us
    gained = (few.batch_us - many.batch_us) + behind
    return int(np.clip(1 + np.ceil((BATCH_ROWS - 1) * behind / gained), 2, BATCH_ROWS))
