"""Engines: what computes a version's predictions."""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Literal

import numpy as np
import onnxruntime as ort

from penstock.errors import StateError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from penstock.algebra import GraphRun
    from penstock.records import EngineName
    from penstock.registry import GraphParts, NativeModel

FloatName = Literal["float32", "float64"]

__all__ = ["Engine", "GraphEngine", "NativeEngine", "OnnxEngine", "SplitEngine"]


class Engine(ABC):
    """Computes predictions. Safe across threads.

    Attributes:
        name: What it is; of several, what answers a single row.
    """

    name: EngineName

    @property
    def parts(self) -> tuple[Engine, ...]:
        """The engines it is made of: itself, unless it chooses among others."""
        return (self,)

    def name_of(self, rows: int) -> EngineName:  # noqa: ARG002 - for those that choose
        """What answers a batch of that many rows."""
        return self.name

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

    Attributes:
        dtype: Type of its input.

    Raises:
        StateError: onnxruntime cannot load it.
    """

    name = "onnx"

    def __init__(self, model: bytes) -> None:
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
        taken = session.get_inputs()[0]
        self._input = str(taken.name)
        self._outputs = [str(session.get_outputs()[0].name)]
        self.dtype: FloatName = "float32" if taken.type == "tensor(float)" else "float64"
        self._dtype = np.dtype(self.dtype)

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


class GraphEngine(Engine):
    """The steps of a graph, each with what predicts for it.

    Args:
        parts: The graph, open.
        name: ``graph`` where its models have engines of their own, else ``native``.

    Attributes:
        output: The step that answers.
        apart: Whether a process of its own predicts for a step.
        program: The graph, compiled.
    """

    def __init__(self, parts: GraphParts, name: EngineName, *, apart: bool) -> None:
        self.name = name
        self.apart = apart
        self.program = parts.program
        self.output = parts.program.output
        self._run = parts.program.run

    def predict(self, x: NDArray[np.float64]) -> NDArray[np.float64]:
        """Predict rows; see ``Engine``."""
        return self._run(x).predictions

    def run(self, x: NDArray[np.float64]) -> GraphRun:
        """Predict rows, and keep what each step gave."""
        return self._run(x)


class SplitEngine(Engine):
    """One engine for few rows, and another for many, both proved.

    Args:
        few: Answers batches of less than ``rows``.
        many: Answers the others.
        rows: Where they part.
    """

    def __init__(self, few: Engine, many: Engine, rows: int) -> None:
        self.name = few.name
        self._few = few
        self._many = many
        self._rows = rows

    @property
    def parts(self) -> tuple[Engine, ...]:
        """The two."""
        return (self._few, self._many)

    def name_of(self, rows: int) -> EngineName:
        """What answers a batch of that many rows."""
        return (self._few if rows < self._rows else self._many).name

    def predict(self, x: NDArray[np.float64]) -> NDArray[np.float64]:
        """Predict rows; see ``Engine``."""
        return (self._few if len(x) < self._rows else self._many).predict(x)
