"""Forests in ONNX form, with splits in float64.

The converters write thresholds in float32 only, which is wrong where inputs are large: unix seconds
or ids. The operator itself takes float64.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from .forest import MISSING_RIGHT

if TYPE_CHECKING:
    from .forest import Forest

__all__ = ["forest_to_onnx"]

INPUT = "x"


def forest_to_onnx(forest: Forest) -> bytes:
    """Write a forest as an ONNX model: ``x``, float64 ``[n, features]``, to one column.

    Args:
        forest: The trees and what stands before and after them.
    """
    # 1 s to load, and only packaging needs it: the serving process never gets here.
    from onnx import TensorProto, checker, helper, numpy_helper  # noqa: PLC0415

    nodes: list[Any] = []
    constants: list[Any] = []

    def constant(name: str, values: object) -> str:
        row = np.asarray(values, dtype=np.float64).reshape(1, -1)
        constants.append(numpy_helper.from_array(row, name))
        return name

    def add(kind: str, inputs: list[str], output: str, **attributes: Any) -> str:  # noqa: ANN401 - attributes of operators
        nodes.append(helper.make_node(kind, inputs, [output], **attributes))
        return output

    here = INPUT
    if forest.prepares:
        add("IsNaN", [here], "missing")
        here = add("Where", ["missing", constant("fill", forest.fill), here], "filled")
        here = add("Sub", [here, constant("mean", forest.mean)], "centred")
        here = add("Div", [here, constant("scale", forest.scale)], "scaled")
    if forest.rounded:
        add("Cast", [here], "short", to=TensorProto.FLOAT)
        here = add("Cast", ["short"], "rounded", to=TensorProto.DOUBLE)
    add("TreeEnsembleRegressor", [here], "sum32", domain="ai.onnx.ml", **_trees(forest))
    here = add("Cast", ["sum32"], "sum", to=TensorProto.DOUBLE)
    here = add("Add", [here, constant("base", forest.base)], "total")
    if forest.link == "sigmoid":
        here = add("Mul", [here, constant("slope", forest.slope)], "sloped")
        here = add("Sigmoid", [here], "prediction")
    elif forest.link == "exponential":
        here = add("Exp", [here], "prediction")
    graph = helper.make_graph(
        nodes,
        "penstock",
        [helper.make_tensor_value_info(INPUT, TensorProto.DOUBLE, [None, forest.width])],
        [helper.make_tensor_value_info(here, TensorProto.DOUBLE, [None, 1])],
        constants,
    )
    opsets = [helper.make_opsetid("", 15), helper.make_opsetid("ai.onnx.ml", 3)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=8)
    checker.check_model(model)
    return bytes(model.SerializeToString())


def _trees(forest: Forest) -> dict[str, Any]:
    """Attributes of the operator."""
    from onnx import numpy_helper  # noqa: PLC0415 - as above

    count = len(forest.threshold)
    here = np.arange(count)
    leaf = forest.left == here
    tree = np.searchsorted(forest.roots, here, side="right") - 1
    node = here - forest.roots[tree]
    left = np.where(leaf, 0, forest.left - forest.roots[tree])
    feature = forest.feature & np.int32(2**31 - 1)
    missing_left = ~leaf & ((forest.feature & MISSING_RIGHT) == 0)
    return {
        "n_targets": 1,
        "nodes_treeids": tree.tolist(),
        "nodes_nodeids": node.tolist(),
        "nodes_featureids": feature.tolist(),
        "nodes_modes": np.where(leaf, "LEAF", "BRANCH_LEQ").tolist(),
        "nodes_truenodeids": left.tolist(),
        "nodes_falsenodeids": np.where(leaf, 0, left + 1).tolist(),
        "nodes_missing_value_tracks_true": missing_left.astype(int).tolist(),
        "nodes_values_as_tensor": numpy_helper.from_array(np.where(leaf, 0.0, forest.threshold)),
        "target_treeids": tree[leaf].tolist(),
        "target_nodeids": node[leaf].tolist(),
        "target_ids": [0] * int(leaf.sum()),
        "target_weights_as_tensor": numpy_helper.from_array(forest.value[leaf]),
    }
