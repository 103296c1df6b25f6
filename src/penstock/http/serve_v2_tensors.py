"""Tensors of the Open Inference Protocol (V2), and their binary data."""

from __future__ import annotations

import math
import struct
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, cast

import msgspec
import numpy as np

from penstock.errors import InputError, nearest

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = [
    "NUMBERS",
    "Output",
    "Tensor",
    "checked_tensor",
    "floats_of",
    "read_tensor",
    "write_tensor",
]

DTYPES: Mapping[str, str] = {
    "BOOL": "?", "INT8": "<i1", "INT16": "<i2", "INT32": "<i4", "INT64": "<i8",
    "UINT8": "<u1", "UINT16": "<u2", "UINT32": "<u4", "UINT64": "<u8",
    "FP16": "<f2", "FP32": "<f4", "FP64": "<f8",
}  # fmt: skip
NUMBERS = frozenset({*DTYPES, "BF16"} - {"BOOL"})
DATATYPES = dict.fromkeys((*DTYPES, "BF16", "BYTES"))
LENGTH_BYTES = 4
MOST_DIMENSIONS = 8
"""More have no meaning here, and to multiply thousands of large numbers takes seconds."""


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
        width: How many texts a row has, in an output that is told as classes; 0 for one of rows.
    """

    name: str
    datatype: str
    values: Sequence[float] | Sequence[str]
    width: int = 0


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
    if math.isfinite(sum(cast("list[float]", values))):
        return values  # a sum of anything with a NaN is none
    return [None if value != value else value for value in values]  # noqa: PLR0124 - NaN


def write_tensor(output: Output) -> bytes:
    """The binary data of an output."""
    if output.datatype == "BYTES":
        texts = [str(value).encode() for value in output.values]
        return b"".join(
            part for text in texts for part in (len(text).to_bytes(LENGTH_BYTES, "little"), text)
        )
    return struct.pack(f"<{len(output.values)}d", *output.values)


def _check_datatype(name: str, datatype: str) -> None:
    if datatype not in DATATYPES:
        hint = nearest(datatype, DATATYPES)
        raise InputError(f"Tensor {name!r} is {datatype!r}, which is no type. {hint}")


def _count(name: str, shape: Sequence[int]) -> int:
    if not shape or len(shape) > MOST_DIMENSIONS or min(shape) < 1:
        shown = str(list(shape[:MOST_DIMENSIONS]))
        more = f" and {len(shape) - MOST_DIMENSIONS} more" if len(shape) > MOST_DIMENSIONS else ""
        raise InputError(f"Tensor {name!r} has the shape {shown}{more}; send [n] or [n, features].")
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
