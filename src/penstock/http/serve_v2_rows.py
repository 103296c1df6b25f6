"""What tensors ask of a model: its features, or the keys to look them up by.

``infer`` takes one tensor ``[n, features]`` of numbers, or one tensor ``[n]`` for each feature by
its name, or one tensor ``[n]`` of keys by each entity's name and one for each request field.
Features may come with the keys beside them: the routes go by those.
"""

from __future__ import annotations

import sys
from math import isfinite
from typing import TYPE_CHECKING, cast

from penstock.errors import InputError, nearest

from .serve_schema import Row
from .serve_v2_tensors import NUMBERS

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from penstock.records import Given, Manifest

    from .serve_v2_tensors import Tensor

__all__ = ["check_once", "rows_of_tensors"]

KINDS: Mapping[str, type | tuple[type, ...]] = {
    "string": str,
    "int64": int,
    "float64": (int, float),
    "boolean": bool,
}
MOST_ROWS = 1_000
MATRIX = 2
GREATEST = sys.float_info.max
INT64 = 1 << 63
FLOATS = {float}


def rows_of_tensors(manifest: Manifest, tensors: Sequence[Tensor]) -> list[Row]:
    """The rows that tensors ask to score.

    Args:
        manifest: Of the version that answers.
        tensors: At least one.

    Raises:
        InputError: They do not fit the model.
    """
    check_once([tensor.name for tensor in tensors])
    takes = {**manifest.keys, **manifest.request}
    if all(tensor.name not in manifest.keys for tensor in tensors):
        return _feature_rows(manifest, tensors)
    kinds = [_is_of_features(tensor, manifest, takes) for tensor in tensors]
    if not any(kinds):
        return _asked_rows(manifest, tensors)
    features = [tensor for tensor, is_one in zip(tensors, kinds, strict=True) if is_one]
    beside = [tensor for tensor, is_one in zip(tensors, kinds, strict=True) if not is_one]
    if all(tensor.name in manifest.keys for tensor in beside):
        takes = manifest.keys  # what is computed on demand has been handed in
    asked = _asked_rows(manifest, beside, takes)
    rows = _feature_rows(manifest, features)
    _check_lengths([asked, rows])
    return [Row(one.key, 0, row.values, one.given) for one, row in zip(asked, rows, strict=True)]


def _is_of_features(tensor: Tensor, manifest: Manifest, takes: Mapping[str, str]) -> bool:
    """Whether a tensor beside keys has features: one by its name, or all in a matrix."""
    if tensor.name in takes:
        return False
    return tensor.name in manifest.features or len(tensor.shape) == MATRIX


def _feature_rows(manifest: Manifest, tensors: Sequence[Tensor]) -> list[Row]:
    """Rows whose features are handed in."""
    first = tensors[0]
    if len(tensors) == 1 and len(first.shape) == MATRIX and len(manifest.features) > 1:
        return _matrix_rows(manifest, first)
    return _column_rows(manifest, tensors)


def check_once(names: Sequence[str]) -> None:
    """Refuse columns of one name: which of them counts nobody could know.

    Raises:
        InputError: A name is there twice.
    """
    if len(set(names)) < len(names):
        name = next(one for place, one in enumerate(names) if one in names[:place])
        raise InputError(f"The input {name!r} is there twice. Send each once.", input=name)


def _asked_rows(
    manifest: Manifest, tensors: Sequence[Tensor], takes: Mapping[str, str] | None = None
) -> list[Row]:
    """Rows whose features are looked up: by keys, and by request fields where there are any."""
    takes = takes or {**manifest.keys, **manifest.request}
    columns = {tensor.name: _asked_values(tensor, manifest) for tensor in tensors}
    missing = [name for name in takes if name not in columns]
    if missing:
        raise InputError(f"The inputs {missing} are missing. Send {', '.join(takes)}.")
    _check_lengths(list(columns.values()))
    keys = cast("Sequence[str | int]", columns.pop(manifest.entity))
    if not columns:
        return [Row(key, 0, None) for key in keys]
    rows = zip(*columns.values(), strict=True)
    return [
        Row(key, 0, None, dict(zip(columns, row, strict=True)))
        for key, row in zip(keys, rows, strict=True)
    ]


def _asked_values(tensor: Tensor, manifest: Manifest) -> Sequence[Given]:
    keys = manifest.keys
    takes = {**keys, **manifest.request}
    if tensor.name not in takes:
        raise InputError(
            f"There is no input {tensor.name!r} beside keys. {nearest(tensor.name, takes)}",
            input=tensor.name,
        )
    dtype = takes[tensor.name]
    _check_shape(tensor, 1)
    for value in tensor.values:
        if value is None and tensor.name not in keys:
            continue
        is_boolean = isinstance(value, bool)
        fits = is_boolean == (dtype == "boolean") and isinstance(value, KINDS[dtype])
        if not fits or not _is_within(value, dtype):
            what = "key" if tensor.name in keys else "value"
            raise InputError(
                f"Tensor {tensor.name!r} has the {what} {value!r}; its {what}s are {dtype}."
            )
    return tensor.values


def _is_within(value: Given, dtype: str) -> bool:
    """Whether a number is one of its type: JSON knows larger ones, and floats infinite ones."""
    if isinstance(value, (str, bool)) or value is None:
        return True
    return abs(value) <= GREATEST if dtype == "float64" else -INT64 <= value < INT64


def _matrix_rows(manifest: Manifest, tensor: Tensor) -> list[Row]:
    width = len(manifest.features)
    if tensor.shape[1] != width:
        raise InputError(
            f"Tensor {tensor.name!r} has the shape {list(tensor.shape)}; the model takes {width} "
            f"features a row, in this order: {', '.join(manifest.features)}."
        )
    values = _numbers(tensor, width)
    if len(values) == width:
        return [Row(None, 0, tuple(values))]
    return [
        Row(None, 0, tuple(values[start : start + width])) for start in range(0, len(values), width)
    ]


def _column_rows(manifest: Manifest, tensors: Sequence[Tensor]) -> list[Row]:
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


def _numbers(tensor: Tensor, width: int) -> Sequence[float | None]:
    if tensor.datatype not in NUMBERS:
        raise InputError(
            f"Tensor {tensor.name!r} is {tensor.datatype!r}. Features are numbers: send FP64, "
            "FP32 or INT64."
        )
    _check_shape(tensor, width)
    values = tensor.values
    # The sum is finite where each of them is, unless they are very large: then each is looked at.
    if set(map(type, values)) == FLOATS and isfinite(sum(values)):
        return values
    for value in values:
        if value is None:
            continue
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise InputError(f"Tensor {tensor.name!r} has {value!r}; send numbers, or null.")
        if not -GREATEST <= value <= GREATEST:
            raise InputError(f"Tensor {tensor.name!r} has {value}; send finite numbers, or null.")
    return values


def _check_shape(tensor: Tensor, width: int) -> None:
    rows, *wide = tensor.shape
    if rows > MOST_ROWS or (wide and wide != [width]):
        raise InputError(
            f"Tensor {tensor.name!r} has the shape {list(tensor.shape)}; send [n, {width}] with n "
            f"from 1 to {MOST_ROWS}."
        )
