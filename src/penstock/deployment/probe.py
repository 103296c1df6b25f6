"""Unit checks of a package, in a process of its own: ``python -m penstock.deployment.probe``.

Nothing of the process that asks is in it: what loads here loads in a serving process that starts
anew, and a model that crashes or fills the memory takes nothing with it. It reads ``Question`` as
JSON from standard input and writes the checks as JSON to standard output; a check of the user that
prints does so on standard error.
"""

from __future__ import annotations

import contextlib
import gc
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import numpy as np
import psutil

from penstock.algebra import load_function
from penstock.errors import PenstockError
from penstock.records import DeployCheck
from penstock.registry import read_manifest
from penstock.spec import Checks, Function, duration_us

from .loading import load_engine
from .proof import TOLERANCE, prediction_bounds
from .sample import sample_rows

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from numpy.typing import NDArray

    from penstock.records import Manifest

    from .engine import Engine

    Floats = NDArray[np.float64]

__all__ = ["Question", "probe"]

BATCH_ROWS = 64
CALLS = 50
MEGABYTE = 1e6


class Question(msgspec.Struct, frozen=True, kw_only=True):
    """What is to be checked.

    Attributes:
        package: Path of the package.
        home: The project folder, where functions of the user are imported from.
        checks: The declared checks.
    """

    package: str
    home: str
    checks: Checks


def main() -> None:
    """Answer the question on standard input."""
    question = msgspec.json.decode(sys.stdin.buffer.read(), type=Question)
    with contextlib.redirect_stdout(sys.stderr):
        found = list(probe(question))
    sys.stdout.buffer.write(msgspec.json.encode(found))


def probe(question: Question) -> Iterator[DeployCheck]:
    """Check a package; ends with the first check without which the others mean nothing.

    Args:
        question: The package and the declared checks.
    """
    before_bytes = _memory_bytes()
    folder = Path(question.package)
    try:
        manifest = read_manifest(folder)
        engine = load_engine(folder, manifest)
        x, trained = sample_rows(folder, manifest)
        predicted = engine.predict(x)
    except PenstockError as error:
        yield _unit("loads", error.message, passed=False)
        return
    except Exception as error:  # noqa: BLE001 - whatever a model's library raises
        yield _unit("loads", f"it failed with {type(error).__name__}: {error}", passed=False)
        return
    grown_mb = max(0.0, (_memory_bytes() - before_bytes) / MEGABYTE)
    yield _unit("loads", f"{engine.name}, in a process of its own", passed=True)
    yield _signature(manifest, x, predicted)
    if predicted.shape != (len(x),):
        return
    checks = question.checks
    yield _sample(manifest, predicted, trained)
    yield _bounds(manifest, predicted, checks)
    yield _nulls(engine, x)
    yield from _latencies(engine, x, checks)
    yield _within("memory, MB", grown_mb, checks.memory_mb, "MB more than before it was loaded")
    yield from _functions(question, manifest, x, predicted)


def _unit(
    name: str,
    reason: str,
    *,
    passed: bool,
    value: float | None = None,
    bound: float | None = None,
) -> DeployCheck:
    return DeployCheck(
        kind="unit", name=name, passed=passed, reason=reason, value=value, bound=bound
    )


def _signature(manifest: Manifest, x: Floats, predicted: Floats) -> DeployCheck:
    rows, width = x.shape
    passed = predicted.shape == (rows,) and width == len(manifest.features)
    said = f"{width} features in, shape {predicted.shape} out for {rows} rows"
    reason = said if passed else f"{said}; expected one prediction a row"
    return _unit("signature", reason, passed=passed)


def _sample(manifest: Manifest, predicted: Floats, trained: Floats) -> DeployCheck:
    bound = np.full(len(predicted), TOLERANCE)
    if manifest.task == "regression":
        bound *= np.maximum(1.0, np.abs(trained))
    difference = np.abs(predicted - trained)
    off = int((~(difference <= bound)).sum())
    finite = difference[np.isfinite(difference)]
    greatest = float(finite.max(initial=0.0))
    reason = (
        f"{off} of {len(predicted)} sample rows otherwise than when it was trained, by up to "
        f"{greatest:.1e}"
    )
    return _unit("sample", reason, passed=not off, value=greatest, bound=TOLERANCE)


def _bounds(manifest: Manifest, predicted: Floats, checks: Checks) -> DeployCheck:
    least, greatest = prediction_bounds(classification=manifest.task == "classification")
    low = least if checks.low is None else max(least, checks.low)
    high = greatest if checks.high is None else min(greatest, checks.high)
    inside = (predicted >= low) & (predicted <= high)  # NaN is not
    finite = predicted[np.isfinite(predicted)]
    spread = f"{finite.min():.4g} to {finite.max():.4g}" if len(finite) else "none finite"
    outside = int((~inside).sum())
    reason = f"predictions {spread}" + (
        f"; {outside} of {len(predicted)} outside of {low:g} to {high:g}" if outside else ""
    )
    return _unit("bounds", reason, passed=not outside)


def _nulls(engine: Engine, x: Floats) -> DeployCheck:
    """Each feature null by itself, then all: a prediction or a clean refusal, and no crash.

    A model that takes no nulls is sound where its sample has none: a request with one is refused.
    """
    width = x.shape[1]
    rows = np.repeat(x[:1], width + 1, axis=0)
    rows[np.arange(width), np.arange(width)] = np.nan
    rows[width] = np.nan
    try:
        wrong = int((~np.isfinite(engine.predict(rows))).sum())
    except (ValueError, PenstockError) as error:
        seen = bool(np.isnan(x).any())
        reason = f"refuses rows with a null: {error}"
        return _unit("nulls", reason if seen else "takes no nulls", passed=not seen)
    said = f"{wrong} of {width + 1} rows with nulls have no finite prediction"
    return _unit("nulls", said, passed=not wrong, value=float(wrong))


def _latencies(engine: Engine, x: Floats, checks: Checks) -> Iterator[DeployCheck]:
    batch = x[np.arange(BATCH_ROWS) % len(x)]
    for name, rows, text in (
        ("latency of 1 row, us", x[:1], checks.latency),
        (f"latency of {BATCH_ROWS} rows, us", batch, checks.latency_64),
    ):
        bound = float(duration_us(text)) if text else None
        yield _within(name, _median_us(engine, rows), bound, "us, the median of many calls")


def _median_us(engine: Engine, rows: Floats) -> float:
    times: list[float] = []
    engine.predict(rows)
    for _ in range(CALLS):
        start_s = time.perf_counter()
        engine.predict(rows)
        times.append(time.perf_counter() - start_s)
    return float(np.median(times)) * 1e6


def _within(name: str, value: float, bound: float | None, unit: str) -> DeployCheck:
    passed = bound is None or value <= bound
    allowed = "" if bound is None else f", {'within' if passed else 'above'} {bound:,.0f}"
    return _unit(name, f"{value:,.1f} {unit}{allowed}", passed=passed, value=value, bound=bound)


def _functions(
    question: Question, manifest: Manifest, x: Floats, predicted: Floats
) -> Iterator[DeployCheck]:
    if question.checks.functions:
        sys.path.insert(0, question.home)
    features = dict(zip(manifest.features, x.T.copy(), strict=True))
    for one in question.checks.functions:
        passed, reason = _called(one, predicted.copy(), features)
        yield DeployCheck(kind="user", name=one.qualname, passed=passed, reason=reason)


def _called(node: Function, predicted: Floats, features: Mapping[str, Floats]) -> tuple[bool, str]:
    """What a function of the user says; one that fails says no."""
    try:
        body = load_function(node)
    except PenstockError as error:
        return False, error.message
    try:
        said = body(predicted, features)
    except Exception as error:  # noqa: BLE001 - the boundary around code that is not ours
        return False, f"it failed with {type(error).__name__}: {error}"
    if said is None or said is True or (isinstance(said, np.bool_) and bool(said)):
        return True, "holds"
    if isinstance(said, str):
        return not said, said or "holds"
    if said is False or isinstance(said, np.bool_):
        return False, "it returned False"
    expected = "None or True where all is well, False or a text where not"
    return False, f"it returned {said!r}; expected {expected}"


def _memory_bytes() -> int:
    """What the process holds now; its greatest would count that of the process it came from."""
    gc.collect()
    return int(psutil.Process().memory_info().rss)


if __name__ == "__main__":
    main()
