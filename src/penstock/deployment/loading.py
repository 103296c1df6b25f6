"""What serves a package, loaded from its files."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from penstock.registry import NATIVE_FILES, check_file, load_native, open_graph

from .compiled import TreesEngine
from .engine import Engine, GraphEngine, NativeEngine, OnnxEngine, SplitEngine
from .forest import unpack_forest

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

    from penstock.records import EngineName, Manifest

__all__ = ["ENGINE_FILES", "load_engine", "load_graph"]

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
    if manifest.native == "graph":
        return load_graph(folder, manifest, native=choice is None or choice.engine == "native")
    if choice is None:
        return NativeEngine(load_native(folder, manifest))
    few = _load(choice.engine, folder, manifest)
    if not choice.batch_engine:
        return few
    return SplitEngine(few, _load(choice.batch_engine, folder, manifest), choice.batch_from)


def load_graph(folder: Path, manifest: Manifest, *, native: bool) -> GraphEngine:
    """Load the graph of a package.

    Args:
        folder: The package.
        manifest: Its manifest.
        native: Whether its models are loaded as they were trained, and not what was proved equal.

    Raises:
        StateError: A file is missing, or is not the one the manifest names by hash.
        NotSupportedError: It needs a library that is not installed.
        DeclarationError: A function of it cannot be found again, or has changed since.
    """
    engines: list[Engine] = []

    def load(inner: Path, of: Manifest) -> Callable[[NDArray[np.float64]], NDArray[np.float64]]:
        engines.append(_part(inner, of, native=native))
        return engines[-1].predict

    content = check_file(folder, manifest, NATIVE_FILES["graph"]).read_bytes()
    parts = open_graph(content, load, clock=time.perf_counter_ns)
    apart = any(one.native == "custom" for one in parts.manifests.values()) or any(
        isinstance(engine, GraphEngine) and engine.apart for engine in engines
    )
    plain = all(engine.name == "native" for engine in engines)
    return GraphEngine(parts, "native" if plain else "graph", apart=apart)


def _part(folder: Path, manifest: Manifest, *, native: bool) -> Engine:
    """What predicts for a step: one engine for batches of every size."""
    if manifest.native == "graph":
        chosen = manifest.engine is None or manifest.engine.engine == "native"
        return load_graph(folder, manifest, native=native or chosen)
    if native or manifest.engine is None:
        return NativeEngine(load_native(folder, manifest))
    return _load(manifest.engine.engine, folder, manifest)


def _load(name: EngineName, folder: Path, manifest: Manifest) -> Engine:
    if name == "native":
        return NativeEngine(load_native(folder, manifest))
    content = check_file(folder, manifest, ENGINE_FILES[name]).read_bytes()
    if name == "trees":
        return TreesEngine(unpack_forest(content))
    return OnnxEngine(content)
