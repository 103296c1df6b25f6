"""Requests to infer and their answers as messages of gRPC."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any

from penstock.errors import InputError, NotSupportedError

from .grpc_messages import message
from .serve_v2_parameters import known_outputs, known_parameters
from .serve_v2_tensors import Tensor, checked_tensor, read_tensor, write_tensor
from .serve_v2_wire import InferRequest, answered_by, scored

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from penstock.records import Score

__all__ = ["chosen", "infer_answer", "infer_request"]

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
        NotSupportedError: It asks for shared memory.
    """
    if not request.inputs:
        raise InputError("'inputs' is empty. Send the features, or the entity's keys.")
    timeout_us = known_parameters(_chosen_of(request.parameters)) if request.parameters else 0
    raw = request.raw_input_contents
    if raw and len(raw) != len(request.inputs):
        raise InputError(
            f"There are {len(request.inputs)} inputs and {len(raw)} raw contents. Send as many."
        )
    tensors = [
        read_tensor(one.name, one.datatype, list(one.shape), raw[place]) if raw else _typed(one)
        for place, one in enumerate(request.inputs)
    ]
    wanted, classes = known_outputs(
        {one.name: _chosen_of(one.parameters) for one in request.outputs}
    )
    return InferRequest(
        request.id,
        tensors,
        wanted,
        all_binary=bool(raw),
        timeout_us=timeout_us,
        classes=classes,
    )


def infer_answer(
    request: Any,  # noqa: ANN401 - a message
    wanted: InferRequest,
    task: str,
    scores: Sequence[Score],
) -> Any:  # noqa: ANN401 - a message
    """A ``ModelInferResponse``: raw where the request was, else in typed fields."""
    told = scored(wanted, scores, task)
    version, parameters = answered_by(scores)
    about = tuple([(output.name, output.datatype, output.width) for output in told])
    answer = ANSWER.FromString(_without_values(request.model_name, version, len(scores), about))
    answer.id = request.id
    for name, value in parameters.items():
        answer.parameters[name].string_param = value
    if wanted.all_binary:
        answer.raw_output_contents.extend([write_tensor(output) for output in told])
        return answer
    for output, one in zip(told, answer.outputs, strict=True):
        if output.datatype == "BYTES":
            one.contents.bytes_contents.extend(str(value).encode() for value in output.values)
        else:
            one.contents.fp64_contents.extend(output.values)
    return answer


@lru_cache(maxsize=256)  # a tensor of a message takes longer to make than all of these to read
def _without_values(
    name: str, version: str, rows: int, outputs: tuple[tuple[str, str, int], ...]
) -> bytes:
    """An answer but for what differs each time."""
    answer = ANSWER(model_name=name, model_version=version)
    for title, datatype, width in outputs:
        shape = [rows, width] if width else [rows]
        answer.outputs.add(name=title, datatype=datatype, shape=shape)
    made: bytes = answer.SerializeToString()
    return made


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


def chosen(one: Any) -> Any:  # noqa: ANN401 - a message
    """The value of a parameter; none where it has none."""
    kind = one.WhichOneof("parameter_choice")
    return None if kind is None else getattr(one, kind)


def _chosen_of(parameters: Any) -> Mapping[str, Any]:  # noqa: ANN401 - a map of messages
    return {name: chosen(one) for name, one in parameters.items()}


def _text(name: str, value: bytes) -> str:
    try:
        return value.decode()
    except UnicodeDecodeError:
        raise InputError(f"Tensor {name!r} has text that is no UTF-8.") from None
