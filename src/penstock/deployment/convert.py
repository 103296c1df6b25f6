"""Conversion of a native model to ONNX.

What stands before the estimator (filling of nulls, scaling) is written here, in float64, since
onnxruntime fills nulls in float32 only; the estimator itself is converted by skl2onnx or
onnxmltools, in the float type that its family computes in: trees in float32, all others in float64.
"""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any, Literal

import msgspec
import numpy as np

from penstock.errors import NotSupportedError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from penstock.records import Manifest

__all__ = ["Converted", "to_onnx"]

FloatName = Literal["float32", "float64"]
INPUT = "x"
PREPARED = "prepared"
TREES = ("sklearn.ensemble", "sklearn.tree", "xgboost")


class Converted(msgspec.Struct, frozen=True):
    """A model in ONNX form.

    Attributes:
        model: The serialised graph: one input ``[n, features]``, one output whose last column is
            the prediction.
        dtype: Type of its input.
    """

    model: bytes
    dtype: FloatName


def to_onnx(estimator: object, manifest: Manifest) -> Converted:
    """Convert a native model.

    Args:
        estimator: The fitted estimator or pipeline, or the XGBoost booster.
        manifest: Says what it is and how many features it takes.

    Raises:
        NotSupportedError: It has no ONNX form here; says why.
    """
    steps, final = _parts(estimator)
    inner: FloatName = "float32" if manifest.estimator.startswith(TREES) else "float64"
    # The converters raise whatever their internals raise for a model they do not know, and warn
    # of what their own libraries deprecate, which a user can do nothing about.
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            graph = _convert(final, manifest, inner)
            model = _assemble(graph, steps, inner, len(manifest.features))
    except NotSupportedError:
        raise
    except Exception as error:
        text = str(error).strip().splitlines()
        raise NotSupportedError(
            f"{manifest.estimator} has no ONNX form: {type(error).__name__}: "
            f"{text[0][:200] if text else 'no reason given'}"
        ) from error
    return Converted(model, "float64" if steps else inner)


def _parts(estimator: Any) -> tuple[list[Any], Any]:  # noqa: ANN401 - models have no common type
    """The steps before the estimator, and the estimator."""
    named = getattr(estimator, "steps", None)
    if named is None:
        return [], estimator
    return [step for _, step in named[:-1] if step != "passthrough"], named[-1][1]


def _convert(final: Any, manifest: Manifest, inner: FloatName) -> Any:  # noqa: ANN401 - see _parts
    width = len(manifest.features)
    if manifest.native == "ubj":
        return _convert_booster(final, width)
    # 2 s to load, and only packaging needs it: the serving process never gets here.
    from skl2onnx import to_onnx as convert  # noqa: PLC0415
    from skl2onnx.common.data_types import (  # noqa: PLC0415
        DoubleTensorType,
        FloatTensorType,
    )

    kind = FloatTensorType if inner == "float32" else DoubleTensorType
    options = {id(final): {"zipmap": False}} if manifest.task == "classification" else None
    inputs: Any = [(INPUT, kind([None, width]))]
    return convert(final, initial_types=inputs, options=options)


def _convert_booster(final: Any, width: int) -> Any:  # noqa: ANN401 - see _parts
    # An extra that may be absent.
    try:
        from onnxmltools import convert_xgboost  # noqa: PLC0415
        from onnxmltools.convert.common.data_types import FloatTensorType  # noqa: PLC0415
    except ImportError as error:
        raise NotSupportedError(
            "XGBoost models are converted by onnxmltools, which is not installed; "
            "install penstock[xgboost]"
        ) from error
    booster = final.copy()
    booster.feature_names = None  # the converter takes no names but its own
    return convert_xgboost(booster, initial_types=[(INPUT, FloatTensorType([None, width]))])


def _assemble(graph: Any, steps: Sequence[Any], inner: FloatName, width: int) -> bytes:  # noqa: ANN401 - protobuf
    """Put the steps before the estimator's graph and keep only its last output."""
    import onnx  # noqa: PLC0415 - as skl2onnx above

    value = graph.graph.output[-1]
    nodes, constants = _prepare(steps, inner)
    body = list(graph.graph.node)
    if steps:
        for node in body:
            node.input[:] = [PREPARED if name == INPUT else name for name in node.input]
    outer = onnx.TensorProto.DOUBLE if steps or inner == "float64" else onnx.TensorProto.FLOAT
    made = onnx.helper.make_graph(
        [*nodes, *body],
        "penstock",
        [onnx.helper.make_tensor_value_info(INPUT, outer, [None, width])],
        [value],
        [*constants, *graph.graph.initializer],
    )
    opsets = {item.domain: item.version for item in graph.opset_import}
    opsets[""] = max(opsets.get("", 0), 15)
    imports = [onnx.helper.make_opsetid(domain, number) for domain, number in opsets.items()]
    model = onnx.helper.make_model(made, opset_imports=imports, ir_version=graph.ir_version)
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString())


def _prepare(steps: Sequence[Any], inner: FloatName) -> tuple[list[Any], list[Any]]:
    """Nodes and constants of the steps, from ``INPUT`` to ``PREPARED``, all in float64."""
    from onnx import TensorProto, helper, numpy_helper  # noqa: PLC0415 - as skl2onnx above

    nodes: list[Any] = []
    constants: list[Any] = []
    here = INPUT

    def constant(name: str, values: object) -> str:
        row = np.asarray(values, dtype=np.float64).reshape(1, -1)
        constants.append(numpy_helper.from_array(row, name))
        return name

    for place, step in enumerate(steps):
        there = f"step{place}"
        kind = type(step).__name__
        if kind == "SimpleImputer":
            fill = constant(f"{there}_fill", _fills(step))
            nodes.append(helper.make_node("IsNaN", [here], [f"{there}_null"]))
            nodes.append(helper.make_node("Where", [f"{there}_null", fill, here], [there]))
        elif kind == "StandardScaler":
            mean = constant(f"{there}_mean", step.mean_)
            scale = constant(f"{there}_scale", step.scale_)
            nodes.append(helper.make_node("Sub", [here, mean], [f"{there}_centred"]))
            nodes.append(helper.make_node("Div", [f"{there}_centred", scale], [there]))
        else:
            raise NotSupportedError(f"the step {kind} before the estimator has no ONNX form here")
        here = there
    if steps:
        to = TensorProto.FLOAT if inner == "float32" else TensorProto.DOUBLE
        nodes.append(helper.make_node("Cast", [here], [PREPARED], to=to))
    return nodes, constants


def _fills(imputer: Any) -> Any:  # noqa: ANN401 - a library without types
    if imputer.add_indicator or np.isnan(imputer.statistics_).any():
        raise NotSupportedError("the filling of nulls adds or drops columns")
    return imputer.statistics_
