"""Tensors of the Open Inference Protocol (V2) on the wire: JSON, and the binary extension.

With the binary extension a body is JSON of ``Inference-Header-Content-Length`` bytes and after it
the data of each tensor that says ``binary_data_size``, little-endian, in the order of the tensors.
The protocol: https://github.com/kserve/open-inference-protocol; the extension:
https://github.com/triton-inference-server/server/blob/main/docs/protocol/extension_binary_data.md.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

from penstock.errors import InputError, NotSupportedError, nearest

from .serve_schema import decode_anything

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = [
    "HEADER_LENGTH",
    "NUMBERS",
    "InferRequest",
    "Output",
    "Tensor",
    "checked_tensor",
    "floats_of",
    "read_request",
    "write_answer",
]

HEADER_LENGTH = b"inference-header-content-length"
DTYPES: Mapping[str, str] = {
    "BOOL": "?", "INT8": "<i1", "INT16": "<i2", "INT32": "<i4", "INT64": "<i8",
    "UINT8": "<u1", "UINT16": "<u2", "UINT32": "<u4", "UINT64": "<u8",
    "FP16": "<f2", "FP32": "<f4", "FP64": "<f8",
}  # fmt: skip
NUMBERS = frozenset({*DTYPES, "BF16"} - {"BOOL"})
DATATYPES = (*DTYPES, "BF16", "BYTES")
LENGTH_BYTES = 4
DEEPEST = 8
SEQUENCES = ("sequence_id", "sequence_start", "sequence_end")


class _Input(msgspec.Struct):
    name: str
    shape: list[int]
    datatype: str
    data: list[Any] | msgspec.UnsetType = msgspec.UNSET
    parameters: dict[str, Any] = {}


class _Asked(msgspec.Struct):
    name: str
    parameters: dict[str, Any] = {}


class _Request(msgspec.Struct):
    inputs: list[_Input]
    id: str = ""
    parameters: dict[str, Any] = {}
    outputs: list[_Asked] = []


class Tensor(msgspec.Struct, frozen=True):
    """A tensor of a request.

    Attributes:
        name: Its name.
        datatype: Type of its values, as the protocol has it.
        shape: Its shape.
        values: Its values in one list, row by row; None for null, which JSON and NaN can say.
    """

    name: str
    datatype: str
    shape: Sequence[int]
    values: Sequence[Any]


class Output(msgspec.Struct, frozen=True):
    """A tensor of an answer.

    Attributes:
        name: Its name.
        datatype: ``FP64`` or ``BYTES``.
        values: A number or a text for each row.
    """

    name: str
    datatype: str
    values: Sequence[float] | Sequence[str]


class InferRequest(msgspec.Struct, frozen=True):
    """A request to infer.

    Attributes:
        id: The client's id; empty for none.
        tensors: What was sent, at least one.
        wanted: Names of the outputs wanted; empty for all.
        binary: Names of those that are wanted in binary.
        all_binary: Whether every output is, unless it says otherwise.
    """

    id: str
    tensors: Sequence[Tensor]
    wanted: Sequence[str] = ()
    binary: frozenset[str] = frozenset()
    all_binary: bool = False

    def is_binary(self, name: str) -> bool:
        """Whether an output is wanted in binary."""
        return name in self.binary or (self.all_binary and name not in self.wanted)


REQUESTS = msgspec.json.Decoder(_Request)


def read_request(body: bytes, header_length: bytes = b"") -> InferRequest:
    """Read a request to infer.

    Args:
        body: The body.
        header_length: The header ``Inference-Header-Content-Length``; empty when there is none.

    Raises:
        InputError: The body is no request, or its tensors do not hold what they say.
        NotSupportedError: It asks for shared memory or for sequences.
    """
    size = _header_size(header_length, len(body))
    head, rest = (body, b"") if size is None else (body[:size], body[size:])
    try:
        request = REQUESTS.decode(head)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        decode_anything(head)
        raise InputError(
            f"The body is no inference request: {error}. Send "
            '{"inputs": [{"name": ..., "shape": [...], "datatype": ..., "data": [...]}]}.'
        ) from None
    if not request.inputs:
        raise InputError("'inputs' is empty. Send the features, or the entity's keys.")
    if any(name in request.parameters for name in SEQUENCES):
        raise NotSupportedError(
            "Sequences of requests are not supported: a model here keeps nothing between requests. "
            "Leave 'sequence_id' out."
        )
    tensors: list[Tensor] = []
    place = 0
    for given in request.inputs:
        length = _binary_size(given.parameters, given.name)
        if length is None:
            tensors.append(_from_json(given))
        else:
            data = rest[place : place + length]
            tensors.append(read_tensor(given.name, given.datatype, given.shape, data))
            place += length
    if place != len(rest):
        raise InputError(
            f"The binary part of the body has {len(rest)} bytes; the inputs say {place}. Give each "
            "binary input the parameter 'binary_data_size', and send as many bytes."
        )
    return InferRequest(
        request.id,
        tensors,
        [one.name for one in request.outputs],
        frozenset(one.name for one in request.outputs if one.parameters.get("binary_data")),
        request.parameters.get("binary_data_output") is True,
    )


def read_tensor(name: str, datatype: str, shape: Sequence[int], data: bytes) -> Tensor:
    """A tensor from its binary data.

    Args:
        name: Its name.
        datatype: As the protocol has it.
        shape: Its shape.
        data: The values, little-endian; of ``BYTES``, each after its length in four bytes.

    Raises:
        InputError: The data is not of that type or shape.
    """
    _check_datatype(name, datatype)
    count = _count(name, shape)
    if datatype == "BYTES":
        values: Sequence[Any] = _texts(name, data, count)
    else:
        array = _array(name, datatype, data, count)
        values = floats_of(array) if array.dtype.kind == "f" else array.tolist()
    return Tensor(name, datatype, shape, values)


def checked_tensor(name: str, datatype: str, shape: Sequence[int], values: Sequence[Any]) -> Tensor:
    """A tensor of values that are there already.

    Raises:
        InputError: There is no such type, or there are not as many values as the shape says.
    """
    _check_datatype(name, datatype)
    count = _count(name, shape)
    if len(values) != count:
        raise InputError(
            f"Tensor {name!r} has {len(values)} values, its shape {list(shape)} says {count}. "
            "Send as many as the shape says."
        )
    return Tensor(name, datatype, shape, values)


def floats_of(array: np.ndarray[Any, Any]) -> list[float | None]:
    """Floats as Python has them, None for NaN, which is how binary data says null."""
    values: list[float | None] = array.tolist()
    if np.isnan(array).any():
        return [None if value != value else value for value in values]  # noqa: PLR0124 - NaN
    return values


def write_answer(
    name: str, version: str, request: InferRequest, outputs: Sequence[Output]
) -> tuple[bytes, int | None]:
    """An answer to a request to infer.

    Args:
        name: Name of the model.
        version: The version that answered.
        request: The request.
        outputs: What there is to answer.

    Returns:
        The body, and the length of its JSON part where a binary part follows.

    Raises:
        InputError: The request wants an output that there is not.
    """
    known = {output.name: output for output in outputs}
    for wanted in request.wanted:
        if wanted not in known:
            raise InputError(f"There is no output {wanted!r}. {nearest(wanted, known)}")
    told: list[dict[str, object]] = []
    parts: list[bytes] = []
    for output in [known[one] for one in request.wanted] or outputs:
        about: dict[str, object] = {
            "name": output.name, "datatype": output.datatype, "shape": [len(output.values)],
        }  # fmt: skip
        if request.is_binary(output.name):
            parts.append(write_tensor(output))
            about["parameters"] = {"binary_data_size": len(parts[-1])}
        else:
            about["data"] = output.values
        told.append(about)
    answer: dict[str, object] = {"model_name": name, "model_version": version}
    if request.id:
        answer["id"] = request.id
    head = msgspec.json.encode(answer | {"outputs": told})
    return b"".join([head, *parts]), len(head) if parts else None


def write_tensor(output: Output) -> bytes:
    """The binary data of an output."""
    if output.datatype == "BYTES":
        texts = [str(value).encode() for value in output.values]
        return b"".join(
            part for text in texts for part in (len(text).to_bytes(LENGTH_BYTES, "little"), text)
        )
    return np.array(output.values, dtype="<f8").tobytes()


def _header_size(header: bytes, size: int) -> int | None:
    if not header:
        return None
    if not header.isdigit() or not 0 < int(header) <= size:
        raise InputError(
            f"Inference-Header-Content-Length is {header.decode('latin-1')!r} and the body has "
            f"{size} bytes. Give the length of the JSON at its beginning."
        )
    return int(header)


def _binary_size(parameters: Mapping[str, Any], name: str) -> int | None:
    if "shared_memory_region" in parameters:
        raise NotSupportedError(
            f"Input {name!r} is in shared memory, which is not supported. Send its data."
        )
    size = parameters.get("binary_data_size")
    if size is None:
        return None
    if not isinstance(size, int) or isinstance(size, bool) or size < 0:
        raise InputError(f"Input {name!r}: binary_data_size={size!r}; give its size in bytes.")
    return size


def _from_json(given: _Input) -> Tensor:
    if given.data is msgspec.UNSET:
        raise InputError(
            f"Input {given.name!r} has no data. Give 'data', or the parameter 'binary_data_size'."
        )
    return checked_tensor(given.name, given.datatype, given.shape, _flat(given.data, 0))


def _flat(data: list[Any], depth: int) -> list[Any]:
    """The values of nested lists in one list."""
    if not any(isinstance(item, list) for item in data):
        return data
    if depth > DEEPEST:
        raise InputError("'data' is nested too deep. Send lists as deep as the shape is long.")
    values: list[Any] = []
    for item in data:
        if isinstance(item, list):
            values += _flat(item, depth + 1)
        else:
            values.append(item)
    return values


def _check_datatype(name: str, datatype: str) -> None:
    if datatype not in DATATYPES:
        hint = nearest(datatype, DATATYPES)
        raise InputError(f"Tensor {name!r} is {datatype!r}, which is no type. {hint}")


def _count(name: str, shape: Sequence[int]) -> int:
    if not shape or min(shape) < 1:
        raise InputError(f"Tensor {name!r} has the shape {list(shape)}; send [n] or [n, features].")
    return math.prod(shape)


def _array(name: str, datatype: str, data: bytes, count: int) -> np.ndarray[Any, Any]:
    is_brain = datatype == "BF16"
    dtype = np.dtype("<u2" if is_brain else DTYPES[datatype])
    if len(data) != count * dtype.itemsize:
        raise InputError(
            f"Tensor {name!r} has {len(data)} bytes; its shape and type say "
            f"{count * dtype.itemsize}. Send as many as they say."
        )
    array = np.frombuffer(data, dtype)
    # A bfloat16 is the upper half of a float32.
    return (array.astype("<u4") << 16).view("<f4") if is_brain else array


def _texts(name: str, data: bytes, count: int) -> list[str]:
    values: list[str] = []
    place = 0
    while place < len(data) and len(values) < count:
        start = place + LENGTH_BYTES
        place = start + int.from_bytes(data[place:start], "little")
        try:
            values.append(data[start:place].decode())
        except UnicodeDecodeError:
            raise InputError(f"Tensor {name!r} has text that is no UTF-8.") from None
    if place != len(data) or len(values) != count:
        raise InputError(
            f"Tensor {name!r} does not hold {count} texts, each after its length in "
            f"{LENGTH_BYTES} bytes."
        )
    return values
