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

DENSE = 4
"""Whole keys are looked up in a table of at most so many places for each."""


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
        wanted = int if entity.dtype == DType.INT64 else str
        other = next((key for key in keys if not isinstance(key, wanted)), None)
        why = str(error) if other is None else f"{other!r} is {type(other).__name__}"
        raise InputError(
            f"A key of {entity.name!r} does not fit: {why}. "
            f"Give keys of type {entity.dtype.value}.",
            entity=entity.name,
        ) from error


def codes_of(keys: pl.Series, known: pl.Series) -> IntArray:
    """The place of each key among the known ones, -1 for an unknown one.

    Args:
        keys: The keys.
        known: Distinct keys of the same type.
    """
    if keys.dtype == pl.Int64 and not keys.null_count():
        dense = _dense(known.to_numpy(), keys.to_numpy())
        if dense is not None:
            return dense
    places = pl.DataFrame({"key": known}).with_row_index("place")
    found = pl.DataFrame({"key": keys}).join(places, on="key", how="left", maintain_order="left")
    return found["place"].cast(pl.Int64).fill_null(-1).to_numpy().astype(np.int64, copy=False)


def _dense(known: IntArray, keys: IntArray) -> IntArray | None:
    """The places where the known keys lie close together, else None.

    A table of every number between the least and the greatest is then short, and looking up in it
    is several times quicker than joining.
    """
    if not len(known) or not len(keys):
        return None
    least, greatest = int(known.min()), int(known.max())
    if greatest - least > DENSE * (len(known) + len(keys)):
        return None
    places = np.full(greatest - least + 2, -1, dtype=np.int64)
    places[known - least] = np.arange(len(known))
    inside = (keys >= least) & (keys <= greatest)
    # Whatever is outside reads the last place, which no key has.
    return places[np.where(inside, keys - least, -1)]
