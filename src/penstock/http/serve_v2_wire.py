"""Requests and answers of the Open Inference Protocol (V2): JSON, and the binary extension.

With the binary extension a body is JSON of ``Inference-Header-Content-Length`` bytes and after it
the data of each tensor that says ``binary_data_size``, little-endian, in the order of the tensors.
The protocol: https://github.com/kserve/open-inference-protocol; the extension:
https://github.com/triton-inference-server/server/blob/main/docs/protocol/extension_binary_data.md.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import msgspec

from penstock.errors import InputError, NotSupportedError, nearest

from .serve_errors import Answer
from .serve_schema import decode_anything
from .serve_v2_classes import classified
from .serve_v2_parameters import known_outputs, known_parameters
from .serve_v2_tensors import Output, Tensor, checked_tensor, read_tensor, write_tensor

if TYPE_CHECKING:
    from penstock.records import Score

__all__ = [
    "HEADER_LENGTH",
    "InferRequest",
    "answered_by",
    "read_request",
    "scored",
    "told_scores",
    "write_answer",
]

HEADER_LENGTH = b"inference-header-content-length"
OCTETS = (b"content-type", b"application/octet-stream")
DEEPEST = 8
MOST_DIGITS = 18


class _Input(msgspec.Struct):
    name: str
    shape: list[int]
    datatype: str
    data: list[Any] | msgspec.UnsetType = msgspec.UNSET
    parameters: dict[str, Any] = {}


class _Asked(msgspec.Struct):
    name: str
    parameters: dict[str, Any] = {}


class _Told(msgspec.Struct, omit_defaults=True):
    name: str
    datatype: str
    shape: list[int]
    data: Sequence[float] | Sequence[str] | msgspec.UnsetType = msgspec.UNSET
    parameters: Mapping[str, int] | msgspec.UnsetType = msgspec.UNSET


class _Answer(msgspec.Struct, omit_defaults=True):
    model_name: str
    model_version: str = ""
    outputs: list[_Told] = []
    id: str = ""
    parameters: Mapping[str, str] = {}


class _Request(msgspec.Struct):
    inputs: list[_Input]
    id: str = ""
    parameters: dict[str, Any] = {}
    outputs: list[_Asked] = []


class InferRequest(msgspec.Struct, frozen=True):
    """A request to infer.

    Attributes:
        id: The client's id; empty for none.
        tensors: What was sent, at least one.
        wanted: Names of the outputs wanted; empty for all.
        binary: Names of those that are wanted in binary.
        all_binary: Whether every output is, unless it says otherwise.
        timeout_us: How long it may take, in microseconds; 0 for as long as its deployment lets it.
        classes: How many classes of outputs that are wanted as such, by their names.
    """

    id: str
    tensors: Sequence[Tensor]
    wanted: Sequence[str] = ()
    binary: frozenset[str] = frozenset()
    all_binary: bool = False
    timeout_us: int = 0
    classes: Mapping[str, int] = {}

    def is_binary(self, name: str) -> bool:
        """Whether an output is wanted in binary."""
        return name in self.binary or (self.all_binary and name not in self.wanted)


REQUESTS = msgspec.json.Decoder(_Request)
ENCODE = msgspec.json.Encoder().encode


def read_request(body: bytes, header_length: bytes = b"") -> InferRequest:
    """Read a request to infer.

    Args:
        body: The body.
        header_length: The header ``Inference-Header-Content-Length``; empty when there is none.

    Raises:
        InputError: The body is no request, or its tensors do not hold what they say.
        NotSupportedError: It asks for shared memory.
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
    timeout_us = known_parameters(request.parameters) if request.parameters else 0
    tensors = _tensors(request.inputs, rest)
    if not request.outputs and not request.parameters:
        return InferRequest(request.id, tensors)
    wanted, classes = known_outputs({one.name: one.parameters for one in request.outputs})
    return InferRequest(
        request.id,
        tensors,
        wanted,
        frozenset(one.name for one in request.outputs if one.parameters.get("binary_data")),
        request.parameters.get("binary_data_output") is True,
        timeout_us,
        classes,
    )


def _tensors(inputs: Sequence[_Input], rest: bytes) -> list[Tensor]:
    """The tensors of a request; ``rest`` is its binary part."""
    tensors: list[Tensor] = []
    place = 0
    for given in inputs:
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
    return tensors


def scored(request: InferRequest, scores: Sequence[Score], task: str) -> list[Output]:
    """What a request wants to be told of scores.

    Args:
        request: The request.
        scores: The scores of its rows.
        task: What the model does.

    Raises:
        InputError: The request wants an output that there is not.
    """
    outputs = [
        Output("prediction", "FP64", [score.prediction for score in scores]),
        Output("prediction_id", "BYTES", [score.prediction_id for score in scores]),
    ]
    wanted = _wanted(request.wanted, outputs) if request.wanted else outputs
    if not request.classes:
        return wanted
    counts = [request.classes.get(one.name, 0) for one in wanted]
    return [
        classified(one, count, task) if count else one
        for one, count in zip(wanted, counts, strict=True)
    ]


def answered_by(scores: Sequence[Score]) -> tuple[str, Mapping[str, str]]:
    """The version that answered, and where not all is the champion's who answered each row.

    Returns:
        The version, 0 for a constant; empty where the rows differ. And the parameters ``versions``
        and ``routes``, with a word for each row; none where the champion answered all.
    """
    version = scores[0].version
    for one in scores:
        if one.version != version or one.route != "champion":
            break
    else:
        return str(version), {}
    versions = [str(one.version) for one in scores]
    same = len(set(versions)) == 1
    told = {"versions": ",".join(versions), "routes": ",".join([one.route for one in scores])}
    return versions[0] if same else "", told


def told_scores(name: str, request: InferRequest, task: str, scores: Sequence[Score]) -> Answer:
    """An answer to a request to infer; see ``write_answer``."""
    told, size = write_answer(name, request, task, scores)
    if size is None:
        return Answer(200, told)
    return Answer(200, told, (OCTETS, (HEADER_LENGTH, str(size).encode())))


def write_answer(
    name: str, request: InferRequest, task: str, scores: Sequence[Score]
) -> tuple[bytes, int | None]:
    """An answer to a request to infer.

    Args:
        name: Name of the model.
        request: The request.
        task: What the model does.
        scores: The scores of its rows, at least one.

    Returns:
        The body, and the length of its JSON part where a binary part follows.

    Raises:
        InputError: The request wants an output that there is not.
    """
    rows = len(scores)
    told: list[_Told] = []
    parts: list[bytes] = []
    for output in scored(request, scores, task):
        shape = [rows, output.width] if output.width else [rows]
        about = _Told(output.name, output.datatype, shape)
        if request.is_binary(output.name):
            parts.append(write_tensor(output))
            about.parameters = {"binary_data_size": len(parts[-1])}
        else:
            about.data = output.values
        told.append(about)
    version, parameters = answered_by(scores)
    head = ENCODE(_Answer(name, version, told, request.id, parameters))
    return (b"".join([head, *parts]), len(head)) if parts else (head, None)


def _wanted(names: Sequence[str], outputs: Sequence[Output]) -> list[Output]:
    """Outputs by their names."""
    known = {output.name: output for output in outputs}
    for name in names:
        if name not in known:
            raise InputError(f"There is no output {name!r}. {nearest(name, known)}")
    return [known[name] for name in names]


def _header_size(header: bytes, size: int) -> int | None:
    if not header:
        return None
    # Python refuses to read very long numbers.
    if not header.isdigit() or len(header) > MOST_DIGITS or not 0 < int(header) <= size:
        raise InputError(
            f"Inference-Header-Content-Length is {header.decode('latin-1')[:80]!r} and the body "
            f"has {size} bytes. Give the length of the JSON at its beginning."
        )
    return int(header)


def _binary_size(parameters: Mapping[str, Any], name: str) -> int | None:
    if not parameters:
        return None
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
    if list not in set(map(type, data)):
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
