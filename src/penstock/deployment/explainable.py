"""What the steps of a graph are explained from exactly: the arrays of their models.

Packaging writes them, where the libraries of the models are at hand; a serving process reads them
with NumPy alone.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

from penstock.errors import NotSupportedError
from penstock.registry import (
    NATIVE_FILES,
    check_file,
    explainers_in,
    load_native,
    open_graph,
)

from .forest import pack_forest, read_forest, unpack_forest
from .linear import pack_linear, read_linear, unpack_linear

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

    from penstock.records import Manifest

    from .forest import Forest
    from .linear import Linear

__all__ = ["exact_form", "exact_forms"]

Make: TypeAlias = "Callable[[object, Manifest], bytes]"

TREES, SUM = "explain-{}.trees.npz", "explain-{}.linear.npz"
MAKERS: Mapping[str, Make] = {
    SUM: lambda estimator, manifest: pack_linear(read_linear(estimator, manifest)),
    TREES: lambda estimator, manifest: pack_forest(read_forest(estimator, manifest)),
}


def exact_forms(folder: Path, manifest: Manifest) -> Mapping[str, bytes]:
    """The files that explain steps of a graph exactly, by name.

    There is one for each step to explain that predicts with a linear model or a forest.

    Args:
        folder: The package of the graph.
        manifest: Its manifest.

    Raises:
        StateError: The package is damaged.
        NotSupportedError: A model needs a library that is not installed.
    """
    if not explainers_in(manifest):
        return {}
    made: dict[str, tuple[str, bytes]] = {}

    def load(inner: Path, of: Manifest) -> Callable[[NDArray[np.float64]], NDArray[np.float64]]:
        native = load_native(inner, of)
        if of.native not in {"graph", "custom"}:
            for name, make in MAKERS.items():
                try:
                    made[f"{of.model}@{of.version}"] = name, make(native.estimator, of)
                except NotSupportedError:
                    continue  # the model is not of this kind
                break
        return native.predict

    parts = open_graph(check_file(folder, manifest, NATIVE_FILES["graph"]).read_bytes(), load)
    explained = {name: step.of for name, step in parts.program.graph.explainers.items()}
    pinned = {name: made[parts.pins[of]] for name, of in explained.items()
              if parts.pins.get(of) in made}  # fmt: skip
    return {name.format(step): content for step, (name, content) in pinned.items()}


def exact_form(folder: Path, manifest: Manifest, step: str) -> Linear | Forest | None:
    """What a step to explain predicts with, as arrays; none where there is no such form.

    Args:
        folder: The package of the graph.
        manifest: Its manifest.
        step: The step that explains.

    Raises:
        StateError: The package is damaged.
    """
    for name, read in ((SUM, unpack_linear), (TREES, unpack_forest)):
        if name.format(step) in manifest.files:
            return read(check_file(folder, manifest, name.format(step)).read_bytes())
    return None
