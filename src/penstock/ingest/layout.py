"""Which columns a raw table has, what they mean, and whether a source's records fit into it.

First those that arrive, then the platform's own, which begin with ``_``, then those that records
were completed with from other sources, in the order in which they were first looked up.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from penstock.errors import InputError
from penstock.plan import captured_features
from penstock.records import CapturedFeature

from .columns import POLARS_TYPES
from .tombstones import raw_name

if TYPE_CHECKING:
    import polars as pl

    from penstock.ports import Metadata, Tables
    from penstock.spec import Source

__all__ = ["former_columns", "new_features"]


def former_columns(tables: Tables, source: Source) -> list[str]:
    """The columns that the raw table has from lookups that the source declares no more.

    Raises:
        InputError: The raw table was made by another declaration of the source.
    """
    name = raw_name(source)
    if tables.version(name) is None:
        return []
    stored = tables.scan(name).collect_schema()
    own = [place for place, column in enumerate(stored) if column.startswith("_")]
    columns = list(stored.items())
    _check_arriving(source, dict(columns[: own[0]]))
    completed = dict(columns[own[-1] + 1 :])
    _check_completed(source, completed)
    return [column for column in completed if column not in source.captured]


def new_features(metadata: Metadata, source: Source) -> list[CapturedFeature]:
    """The features that a source's records are completed with and that none had before.

    Raises:
        InputError: A column has values of a feature that was another; so it is where records are
            taken in by a declaration from before the one that is applied.
    """
    new: list[CapturedFeature] = []
    for one in captured_features(source):
        known = metadata.read(CapturedFeature, one.key)
        if known is None:
            new.append(one)
        elif known.meaning != one.meaning:
            raise InputError(
                f"Source {source.name!r} has raw data whose column {one.column!r} is "
                f"{known.words}; now it would be {one.words}, and values never change. Give the "
                "column another name in the lookup.",
                source=source.name,
                column=one.column,
            )
    return new


def _check_arriving(source: Source, stored: dict[str, pl.DataType]) -> None:
    if stored != {name: POLARS_TYPES[dtype] for name, dtype in source.schema.items()}:
        columns = ", ".join(f"{name} {kind}" for name, kind in stored.items())
        raise InputError(
            f"Source {source.name!r} has raw data with the columns {columns}; they never change. "
            "Declare the new columns as a source of another name.",
            source=source.name,
        )


def _check_completed(source: Source, stored: dict[str, pl.DataType]) -> None:
    for column, one in source.captured.items():
        kind = stored.get(column)
        if kind is not None and kind != POLARS_TYPES[one.dtype]:
            raise InputError(
                f"Source {source.name!r} has raw data whose column {column!r}, looked up before, "
                f"is {kind}; now it would be {one.dtype.value}, and columns never change. Give the "
                "column another name in the lookup.",
                source=source.name,
                column=column,
            )
