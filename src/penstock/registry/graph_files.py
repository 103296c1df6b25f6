"""The file of a graph: its steps, and the packages of the versions that it is pinned to.

Everything that a version of a graph computes with is in this one file, so it goes on answering the
same whatever becomes of the versions of its models. It is a plain archive: ``graph.json``, and for
each pinned version a folder with its package, without the sample.
"""

from __future__ import annotations

import io
import tempfile
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from penstock.algebra import GraphProgram, Predictor
from penstock.errors import StateError
from penstock.records import Manifest
from penstock.spec import Graph, Predict, key_of

from .definitions import rebuild
from .packages import MANIFEST_FILE, SAMPLE_FILE, read_manifest
from .provenance import definitions_of

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import numpy as np
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]
    Load = Callable[[Path, Manifest], Callable[[Floats], Floats]]

__all__ = ["GraphAbout", "GraphModel", "GraphParts", "open_graph", "pack_graph"]

ABOUT = "graph.json"
DATE = (1980, 1, 1, 0, 0, 0)  # one for all, so that the same content makes the same file


class GraphAbout(msgspec.Struct, frozen=True, kw_only=True):
    """What a graph's file says.

    Attributes:
        key: Of the graph among ``definitions``.
        definitions: The documents of the graph and of everything it refers to, by key.
        features: Full names of the columns of its rows, in order.
        pins: ``model@version`` of each step that predicts.
    """

    key: str
    definitions: Mapping[str, object]
    features: tuple[str, ...]
    pins: Mapping[str, str]


class GraphParts(msgspec.Struct, frozen=True):
    """An open graph.

    Attributes:
        program: The graph, compiled.
        pins: ``model@version`` of each step that predicts.
        manifests: Those of the pinned versions, by ``model@version``.
    """

    program: GraphProgram
    pins: Mapping[str, str]
    manifests: Mapping[str, Manifest]


class GraphModel:
    """A graph of native models, as a native model. Safe for one thread at a time.

    Args:
        content: Of its file.
        load: Loads what predicts from a package.
    """

    def __init__(self, content: bytes, load: Load) -> None:
        self._content = content
        self._program = open_graph(content, load).program

    @property
    def estimator(self) -> object:
        """No library knows it."""
        return None

    def predict(self, x: Floats) -> Floats:
        """Predict rows; see ``NativeModel``."""
        return self._program.run(x).predictions

    def save(self, path: Path) -> None:
        """Write its file."""
        path.write_bytes(self._content)


def pack_graph(
    graph: Graph, features: Sequence[str], pins: Mapping[str, str], packages: Mapping[str, Path]
) -> bytes:
    """Make the file of a graph.

    Args:
        graph: The graph.
        features: Full names of the columns of its rows, in order.
        pins: ``model@version`` of each step that predicts.
        packages: The package of each pinned version, by ``model@version``.

    Returns:
        The same bytes for the same content.
    """
    about = GraphAbout(
        key=key_of(graph),
        definitions=definitions_of(graph),
        features=tuple(features),
        pins=dict(pins),
    )
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr(zipfile.ZipInfo(ABOUT, DATE), msgspec.json.encode(about))
        for label, folder in sorted(packages.items()):
            names = [MANIFEST_FILE, *sorted(read_manifest(folder).files)]
            for name in names:
                if name != SAMPLE_FILE:
                    inside = zipfile.ZipInfo(f"{label}/{name}", DATE)
                    archive.writestr(inside, (folder / name).read_bytes())
    return packed.getvalue()


def open_graph(content: bytes, load: Load, *, clock: Callable[[], int] | None = None) -> GraphParts:
    """Open the file of a graph.

    Args:
        content: What ``pack_graph`` made.
        load: Loads what predicts from a package; a version that two steps predict with is loaded
            once.
        clock: See ``GraphProgram``.

    Raises:
        StateError: It cannot be read, or a package in it is damaged.
        NotSupportedError: It needs a library that is not installed.
        DeclarationError: A function of it cannot be found again, or has changed since.
    """
    with tempfile.TemporaryDirectory(prefix="penstock-graph-") as scratch:
        folder = Path(scratch)
        try:
            with zipfile.ZipFile(io.BytesIO(content)) as archive:
                archive.extractall(folder)
            about = msgspec.json.decode((folder / ABOUT).read_bytes(), type=GraphAbout)
        except (OSError, zipfile.BadZipFile, msgspec.DecodeError) as error:
            raise StateError(
                f"The file of a graph cannot be read: {error}. It is damaged; train the graph "
                "again, or restore its package from a copy."
            ) from error
        labels = sorted(set(about.pins.values()))
        manifests = {label: read_manifest(folder / label) for label in labels}
        found = {label: load(folder / label, manifests[label]) for label in labels}
    graph = rebuild(about.key, about.definitions, {}, owner=about.key.partition("/")[2])
    if not isinstance(graph, Graph):  # pragma: no cover - its key says what it is
        raise StateError(f"{about.key} is no graph.")
    predictors = {
        name: Predictor(manifests[about.pins[name]].features, found[about.pins[name]])
        for name, step in graph.steps.items()
        if isinstance(step, Predict)
    }
    program = GraphProgram(graph, about.features, predictors, clock=clock)
    return GraphParts(program, about.pins, manifests)
