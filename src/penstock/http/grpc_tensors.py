"""Requests to infer and their answers as messages of gRPC."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from penstock.errors import InputError, NotSupportedError

from .grpc_messages import message
from .serve_v2_tensors import Output, Tensor, checked_tensor, read_tensor, write_tensor
from .serve_v2_wire import InferRequest, known_outputs

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = ["infer_answer", "infer_request"]

CONTENTS: Mapping[str, str] = {
    "BOOL": "bool_contents", "INT8": "int_contents", "INT16": "int_contents",
    "INT32": "int_contents", "INT64": "int64_contents", "UINT8": "uint_contents",
    "UINT16": "uint_contents", "UINT32": "uint_contents", "UINT64": "uint64_contents",
    "FP32": "fp32_contents", "FP64": "fp64_contents", "BYTES": "bytes_contents",
}  # fmt: skip
ANSWER = message("ModelInferResponse")


def infer_request(request: Any) -> InferRequest:  # noqa: ANN401 - a message
    """What a ``ModelInferRequest`` asks for.

    Raises:
        InputError: Its tensors do not hold what they say.
        NotSupportedError: It asks for shared memory or for sequences.
    """
    if not request.inputs:
        raise InputError("'inputs' is empty. Send the features, or the entity's keys.")
    if "sequence_id" in request.parameters:
        raise NotSupportedError(
            "Sequences of requests are not supported: a model here keeps nothing between requests."
        )
    raw = request.raw_input_contents
    if raw and len(raw) != len(request.inputs):
        raise InputError(
            f"There are {len(request.inputs)} inputs and {len(raw)} raw contents. Send as many."
        )
    tensors = [
        read_tensor(one.name, one.datatype, list(one.shape), raw[place]) if raw else _typed(one)
        for place, one in enumerate(request.inputs)
    ]
    wanted = known_outputs([one.name for one in request.outputs])
    return InferRequest(request.id, tensors, wanted, all_binary=bool(raw))


def infer_answer(
    request: Any,  # noqa: ANN401 - a message
    version: str,
    wanted: InferRequest,
    outputs: Sequence[Output],
) -> Any:  # noqa: ANN401 - a message
    """A ``ModelInferResponse``: raw where the request was, else in typed fields."""
    known = {output.name: output for output in outputs}
    answer = ANSWER(model_name=request.model_name, model_version=version, id=request.id)
    for output in [known[name] for name in wanted.wanted] or outputs:
        told = answer.outputs.add(
            name=output.name, datatype=output.datatype, shape=[len(output.values)]
        )
        if wanted.all_binary:
            answer.raw_output_contents.append(write_tensor(output))
        elif output.datatype == "BYTES":
            told.contents.bytes_contents.extend(str(value).encode() for value in output.values)
        else:
            told.contents.fp64_contents.extend(output.values)
    return answer


def _typed(one: Any) -> Tensor:  # noqa: ANN401 - a message
    if "shared_memory_region" in one.parameters:
        raise NotSupportedError(
            f"Input {one.name!r} is in shared memory, which is not supported. Send its data."
        )
    field = CONTENTS.get(one.datatype)
    values: list[Any] = list(getattr(one.contents, field)) if field else []
    if one.datatype == "BYTES":
        values = [_text(one.name, value) for value in values]
    elif one.datatype in {"FP32", "FP64"}:
        values = [None if value != value else value for value in values]  # noqa: PLR0124 - NaN
    return checked_tensor(one.name, one.datatype, list(one.shape), values)


def _text(name: str, value: bytes) -> str:
    try:
        return value.decode()
    except UnicodeDecodeError:
        raise InputError(f"Tensor {name!r} has text that is no UTF-8.") from None
