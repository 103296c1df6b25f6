"""The Open Inference Protocol (V2) in JSON: a deployment is a model of that protocol.

``infer`` takes one tensor ``[n, features]`` of numbers, or one tensor ``[n]`` for each feature by
its name, or one tensor ``[n]`` of keys by each entity's name and one for each request field. It
answers ``prediction``
(FP64: the probability of true, or the value) and ``prediction_id`` (BYTES).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import msgspec

from penstock.errors import InputError, nearest

from .serve_schema import Row, decode_anything

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from penstock.records import Given, Manifest, Score

__all__ = ["inference_answer", "inference_rows", "model_metadata", "server_metadata"]

WHOLE = {"INT8", "INT16", "INT32", "INT64", "UINT8", "UINT16", "UINT32", "UINT64"}
NUMBERS = WHOLE | {"FP16", "FP32", "FP64"}
KINDS: Mapping[str, type | tuple[type, ...]] = {
    "string": str,
    "int64": int,
    "float64": (int, float),
    "boolean": bool,
}
MOST_ROWS = 1_000
MATRIX = 2


class _Tensor(msgspec.Struct):
    name: str
    shape: list[int]
    datatype: str
    data: list[object]


class _Request(msgspec.Struct):
    inputs: list[_Tensor]
    id: str = ""


REQUESTS = msgspec.json.Decoder(_Request)


def server_metadata(version: str) -> dict[str, object]:
    """What ``GET /v2`` says."""
    return {"name": "penstock", "version": version, "extensions": []}


def model_metadata(name: str, manifest: Manifest) -> dict[str, object]:
    """What ``GET /v2/models/<name>`` says.

    Args:
        name: Name of the deployment.
        manifest: Of the version that answers.
    """
    engine = manifest.engine.engine if manifest.engine else "native"
    inputs = [
        {
            "name": feature,
            "datatype": "INT64" if manifest.dtypes.get(feature) == "int64" else "FP64",
            "shape": [-1],
        }
        for feature in manifest.features
    ]
    return {
        "name": name,
        "versions": [str(manifest.version)],
        "platform": "onnxruntime_onnx" if engine == "onnx" else f"penstock_{manifest.native}",
        "inputs": inputs,
        "outputs": [
            {"name": "prediction", "datatype": "FP64", "shape": [-1]},
            {"name": "prediction_id", "datatype": "BYTES", "shape": [-1]},
        ],
    }


def inference_rows(manifest: Manifest, body: bytes) -> tuple[list[Row], str]:
    """The rows of an ``infer`` request, and its id.

    Raises:
        InputError: The body is no JSON, or its tensors do not fit the model.
    """
    try:
        request = REQUESTS.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        decode_anything(body)
        raise InputError(
            f"The body is no inference request: {error}. Send "
            '{"inputs": [{"name": ..., "shape": [...], "datatype": ..., "data": [...]}]}.'
        ) from None
    if not request.inputs:
        raise InputError("'inputs' is empty. Send the features, or the entity's keys.")
    first = request.inputs[0]
    if any(tensor.name in manifest.keys for tensor in request.inputs):
        return _asked_rows(manifest, request.inputs), request.id
    if len(request.inputs) == 1 and len(first.shape) == MATRIX and len(manifest.features) > 1:
        return _matrix_rows(manifest, first), request.id
    return _column_rows(manifest, request.inputs), request.id


def inference_answer(
    name: str, manifest: Manifest, scores: Sequence[Score], request_id: str
) -> dict[str, object]:
    """The answer to an ``infer`` request.

    Args:
        name: Name of the deployment.
        manifest: Of the version that answers by default.
        scores: The scores in the order of the rows.
        request_id: The request's id; empty for none.
    """
    count = len(scores)
    answer: dict[str, object] = {"model_name": name, "model_version": str(manifest.version)}
    if request_id:
        answer["id"] = request_id
    answer["outputs"] = [
        _output("prediction", "FP64", count, [score.prediction for score in scores]),
        _output("prediction_id", "BYTES", count, [score.prediction_id for score in scores]),
    ]
    return answer


def _output(name: str, datatype: str, count: int, data: object) -> dict[str, object]:
    return {"name": name, "datatype": datatype, "shape": [count], "data": data}


def _asked_rows(manifest: Manifest, tensors: Sequence[_Tensor]) -> list[Row]:
    """Rows whose features are looked up: by keys, and by request fields where there are any."""
    takes = {**manifest.keys, **manifest.request}
    columns = {tensor.name: _asked_values(tensor, manifest) for tensor in tensors}
    missing = [name for name in takes if name not in columns]
    if missing:
        raise InputError(f"The inputs {missing} are missing. Send {', '.join(takes)}.")
    _check_lengths(list(columns.values()))
    keys = cast("list[str | int]", columns.pop(manifest.entity))
    if not columns:
        return [Row(key, 0, None) for key in keys]
    rows = zip(*columns.values(), strict=True)
    return [
        Row(key, 0, None, dict(zip(columns, row, strict=True)))
        for key, row in zip(keys, rows, strict=True)
    ]


def _asked_values(tensor: _Tensor, manifest: Manifest) -> list[Given]:
    keys = manifest.keys
    takes = {**keys, **manifest.request}
    if tensor.name not in takes:
        raise InputError(
            f"There is no input {tensor.name!r} beside keys. {nearest(tensor.name, takes)}",
            input=tensor.name,
        )
    dtype = takes[tensor.name]
    values = _flat(tensor, 1)
    for value in values:
        is_boolean = isinstance(value, bool)
        if is_boolean != (dtype == "boolean") or not isinstance(value, KINDS[dtype]):
            what = "key" if tensor.name in keys else "value"
            raise InputError(
                f"Tensor {tensor.name!r} has the {what} {value!r}; its {what}s are {dtype}."
            )
    return cast("list[Given]", values)


def _matrix_rows(manifest: Manifest, tensor: _Tensor) -> list[Row]:
    width = len(manifest.features)
    if tensor.shape[1] != width:
        raise InputError(
            f"Tensor {tensor.name!r} has the shape {tensor.shape}; the model takes {width} "
            f"features a row, in this order: {', '.join(manifest.features)}."
        )
    values = _numbers(tensor, width)
    return [
        Row(None, 0, tuple(values[start : start + width])) for start in range(0, len(values), width)
    ]


def _column_rows(manifest: Manifest, tensors: Sequence[_Tensor]) -> list[Row]:
    given = {tensor.name: tensor for tensor in tensors}
    for name in given:
        if name not in manifest.features:
            known = [*manifest.features, manifest.entity]
            raise InputError(f"There is no input {name!r}. {nearest(name, known)}", input=name)
    missing = [name for name in manifest.features if name not in given]
    if missing:
        raise InputError(f"The inputs {missing[:5]} are missing. Send every feature.")
    columns = [_numbers(given[name], 1) for name in manifest.features]
    _check_lengths(columns)
    return [Row(None, 0, row) for row in zip(*columns, strict=True)]


def _check_lengths(columns: Sequence[Sequence[object]]) -> None:
    if len({len(column) for column in columns}) > 1:
        raise InputError("The tensors have different lengths. Send as many values in each.")


def _numbers(tensor: _Tensor, width: int) -> list[float | None]:
    if tensor.datatype not in NUMBERS:
        raise InputError(
            f"Tensor {tensor.name!r} is {tensor.datatype!r}. Features are numbers: send FP64, "
            "FP32 or INT64."
        )
    values = _flat(tensor, width)
    for value in values:
        if value is not None and (isinstance(value, bool) or not isinstance(value, (int, float))):
            raise InputError(f"Tensor {tensor.name!r} has {value!r}; send numbers, or null.")
    return cast("list[float | None]", values)


def _flat(tensor: _Tensor, width: int) -> list[object]:
    """The tensor's values in one list, as many as its shape says."""
    values: list[object] = []
    for item in tensor.data:
        if isinstance(item, list):
            values += item
        else:
            values.append(item)
    rows = tensor.shape[0] if tensor.shape else 0
    if not 0 < rows <= MOST_ROWS or tensor.shape[1:] not in ([], [width]):
        raise InputError(
            f"Tensor {tensor.name!r} has the shape {tensor.shape}; send [n, {width}] with n from 1 "
            f"to {MOST_ROWS}."
        )
    if len(values) != rows * width:
        raise InputError(
            f"Tensor {tensor.name!r} has {len(values)} values, its shape {tensor.shape} says "
            f"{rows * width}. Send as many as the shape says."
        )
    return values
