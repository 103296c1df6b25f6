"""The engines that may serve a version in place of the native model."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import msgspec

from penstock.errors import NotSupportedError, StateError
from penstock.records import EngineName

from .compiled import TreesEngine
from .convert import to_onnx
from .engine import Engine, OnnxEngine
from .forest import pack_forest, read_forest
from .forest_onnx import forest_to_onnx

if TYPE_CHECKING:
    from collections.abc import Callable

    from penstock.records import Manifest
    from penstock.registry import NativeModel

    from .forest import Forest

__all__ = ["Candidate", "candidates"]

FloatName = Literal["float32", "float64"]


class Candidate(msgspec.Struct, frozen=True, kw_only=True):
    """An engine to be proved, or why there is none.

    Attributes:
        name: What it is.
        dtype: Type of its input.
        engine: The engine; none where it cannot be made.
        content: Bytes of its file in the package.
        reason: Why there is none.
    """

    name: EngineName
    dtype: FloatName
    engine: Engine | None = None
    content: bytes = b""
    reason: str = ""


def candidates(native: NativeModel, manifest: Manifest) -> list[Candidate]:
    """Make every engine there is for a model, the native one left out.

    Args:
        native: The model.
        manifest: Says what it is.
    """
    found: list[Candidate] = []
    if manifest.native == "custom":
        return found
    if manifest.native != "lgb":  # its trees compare in float64, which no converter writes
        found.append(_made("onnx", lambda: _converted(native, manifest)))
    try:
        forest = read_forest(native.estimator, manifest)
    except NotSupportedError:
        return found  # no trees, so no engines for trees
    found.append(_made("onnx", lambda: _own_onnx(forest)))
    found.append(_made("trees", lambda: _compiled(forest)))
    return found


def _made(name: EngineName, make: Callable[[], Candidate]) -> Candidate:
    try:
        return make()
    except (NotSupportedError, StateError) as error:
        return Candidate(name=name, dtype="float64", reason=error.message)


def _converted(native: NativeModel, manifest: Manifest) -> Candidate:
    made = to_onnx(native.estimator, manifest)
    engine = OnnxEngine(made.model)
    return Candidate(name="onnx", dtype=engine.dtype, engine=engine, content=made.model)


def _own_onnx(forest: Forest) -> Candidate:
    content = forest_to_onnx(forest)
    return Candidate(name="onnx", dtype="float64", engine=OnnxEngine(content), content=content)


def _compiled(forest: Forest) -> Candidate:
    content = pack_forest(forest)
    return Candidate(name="trees", dtype="float64", engine=TreesEngine(forest), content=content)
