"""Entity keys: as bytes in the online store, as whole numbers in the engine."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from penstock.errors import InputError
from penstock.spec import DType

if TYPE_CHECKING:
    from collections.abc import Sequence

    from penstock.algebra import IntArray
    from penstock.spec import Entity

__all__ = ["codes_of", "encode_keys", "key_dtype"]

NUMBER = struct.Struct(">q")


def key_dtype(entity: Entity) -> pl.DataType:
    """The Polars type of an entity's key."""
    return pl.Int64() if entity.dtype == DType.INT64 else pl.String()


def encode_keys(entity: Entity, keys: Sequence[object]) -> list[bytes]:
    """The keys as the online store knows them: text as UTF-8, numbers as eight bytes.

    Args:
        entity: Whose keys they are.
        keys: The keys, each of the entity's type.

    Raises:
        InputError: A key is of another type or out of range.
    """
    try:
        if entity.dtype == DType.INT64:
            return [NUMBER.pack(key) for key in keys]
        return [str.encode(key) for key in keys]  # type: ignore[arg-type]  # another type raises
    except (struct.error, TypeError, UnicodeEncodeError) as error:
        raise InputError(
            f"A key of {entity.name!r} does not fit: {error}. "
            f"Give keys of type {entity.dtype.value}.",
            entity=entity.name,
        ) from error


def codes_of(keys: pl.Series, known: pl.Series) -> IntArray:
    """The place of each key among the known ones, -1 for an unknown one.

    Args:
        keys: The keys.
        known: Distinct keys of the same type.
    """
    places = pl.DataFrame({"key": known}).with_row_index("place")
    found = pl.DataFrame({"key": keys}).join(places, on="key", how="left", maintain_order="left")
    return found["place"].cast(pl.Int64).fill_null(-1).to_numpy().astype(np.int64, copy=False)
