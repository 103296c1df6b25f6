"""Engines: what computes a version's predictions."""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Literal

import numpy as np
import onnxruntime as ort

from penstock.errors import StateError
from penstock.registry import check_file, load_native

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from penstock.records import Manifest
    from penstock.registry import NativeModel

__all__ = ["ONNX_FILE", "Engine", "NativeEngine", "OnnxEngine", "load_engine"]

ONNX_FILE = "model.onnx"


class Engine(ABC):
    """Computes predictions. Safe across threads.

    Attributes:
        name: ``onnx`` or ``native``.
    """

    name: Literal["onnx", "native"]

    @abstractmethod
    def predict(self, x: NDArray[np.float64]) -> NDArray[np.float64]:
        """Predict rows.

        Args:
            x: ``float64[n, features]`` in the manifest's order, NaN for null.

        Returns:
            ``float64[n]``: the probability of true, or the regression's value.
        """


class OnnxEngine(Engine):
    """A model in ONNX form on onnxruntime, with one thread: rows gain more from company.

    Args:
        model: The serialised model; its first output has the prediction in its last column.
        dtype: Type of its input.

    Raises:
        StateError: onnxruntime cannot load it.
    """

    name = "onnx"

    def __init__(self, model: bytes, dtype: Literal["float32", "float64"]) -> None:
        options = ort.SessionOptions()
        options.intra_op_num_threads = 1
        options.inter_op_num_threads = 1
        options.log_severity_level = 4  # what fails is raised; warnings have no reader here
        # onnxruntime's exceptions share no base but Exception.
        try:
            session = ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        except Exception as error:
            raise StateError(
                f"onnxruntime cannot load the model: {error}. Package the version again.",
            ) from error
        self._run = session.run
        self._input = str(session.get_inputs()[0].name)
        self._outputs = [str(session.get_outputs()[0].name)]
        self._dtype = np.dtype(dtype)

    def predict(self, x: NDArray[np.float64]) -> NDArray[np.float64]:
        """Predict rows; see ``Engine``."""
        rows = np.ascontiguousarray(x, dtype=self._dtype)
        values = np.asarray(self._run(self._outputs, {self._input: rows})[0], dtype=np.float64)
        return values if values.ndim == 1 else values[:, -1]


class NativeEngine(Engine):
    """The model in the library that trained it, which takes one caller at a time."""

    name = "native"

    def __init__(self, model: NativeModel) -> None:
        self._model = model
        self._lock = threading.Lock()

    def predict(self, x: NDArray[np.float64]) -> NDArray[np.float64]:
        """Predict rows; see ``Engine``."""
        with self._lock:
            return self._model.predict(x)


def load_engine(folder: Path, manifest: Manifest) -> Engine:
    """Load what serves a package: ONNX where that was proved equal, else the native model.

    Args:
        folder: The package.
        manifest: Its manifest; one without an engine is served natively.

    Raises:
        StateError: A file is missing, or is not the one the manifest names by hash.
    """
    choice = manifest.engine
    if choice is None or choice.engine == "native":
        return NativeEngine(load_native(folder, manifest))
    return OnnxEngine(check_file(folder, manifest, ONNX_FILE).read_bytes(), choice.dtype)
