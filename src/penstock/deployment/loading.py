"""What serves a package, loaded from its files."""

from __future__ import annotations

from typing import TYPE_CHECKING

from penstock.registry import check_file, load_native

from .compiled import TreesEngine
from .engine import Engine, NativeEngine, OnnxEngine, SplitEngine
from .forest import unpack_forest

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from penstock.records import EngineName, Manifest

__all__ = ["ENGINE_FILES", "load_engine"]

ENGINE_FILES: Mapping[EngineName, str] = {"onnx": "model.onnx", "trees": "trees.npz"}
"""The file of each engine but the native model."""


def load_engine(folder: Path, manifest: Manifest) -> Engine:
    """Load what serves a package: what was proved equal, else the native model.

    Args:
        folder: The package.
        manifest: Its manifest; one without an engine is served natively.

    Raises:
        StateError: A file is missing, or is not the one the manifest names by hash.
        NotSupportedError: It needs a library that is not installed.
    """
    choice = manifest.engine
    if choice is None:
        return NativeEngine(load_native(folder, manifest))
    few = _load(choice.engine, folder, manifest)
    if not choice.batch_engine:
        return few
    return SplitEngine(few, _load(choice.batch_engine, folder, manifest), choice.batch_from)


def _load(name: EngineName, folder: Path, manifest: Manifest) -> Engine:
    if name == "native":
        return NativeEngine(load_native(folder, manifest))
    content = check_file(folder, manifest, ENGINE_FILES[name]).read_bytes()
    if name == "trees":
        return TreesEngine(unpack_forest(content))
    return OnnxEngine(content)
