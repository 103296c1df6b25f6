"""Records that come again: unchanged ones are duplicates, changed ones break ``unique``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import polars as pl

from .tombstones import raw_name, remaining_records

if TYPE_CHECKING:
    from penstock.ports import Tables
    from penstock.spec import Source

__all__ = ["Repeats", "part_repeats"]


@dataclass(frozen=True, slots=True)
class Repeats:
    """Good records, parted by whether they are new.

    Attributes:
        new: Records whose identity is neither stored nor earlier in the batch.
        duplicates: How many are equal to one stored, or to one earlier in the batch.
        conflicts: Places (``_row``) of those with a known identity and other values.
    """

    new: pl.DataFrame
    duplicates: int
    conflicts: pl.Series


def part_repeats(tables: Tables, source: Source, good: pl.DataFrame, *, number: int) -> Repeats:
    """Part new records from those that come again.

    Args:
        tables: Where the source's raw table is.
        source: The source.
        good: Records that keep the contract.
        number: The batch they belong to; what the raw table has of it already is not looked at,
            so that finishing a killed batch comes to the same result. What has been deleted before
            it is new when it comes again.
    """
    stored = _stored(tables, source, good, number)
    if stored.is_empty() and _all_distinct(source, good):
        return Repeats(good, 0, pl.Series([], dtype=pl.Int64))
    by_stored = _against(source, good, stored)
    rest = good.join(by_stored.select("_row"), on="_row", how="anti", maintain_order="left")
    first = rest.unique(subset=list(source.identity), keep="first", maintain_order=True)
    later = rest.join(first.select("_row"), on="_row", how="anti", maintain_order="left")
    again = pl.concat([by_stored, _against(source, later, first)])
    conflicts = again.filter(~pl.col("same")).get_column("_row")
    return Repeats(first, again.height - conflicts.len(), conflicts)


def _all_distinct(source: Source, records: pl.DataFrame) -> bool:
    """Whether no identity occurs twice, told by hashes: equal ones might only collide."""
    hashes = pl.struct(source.identity).hash().n_unique()
    return bool(records.select(hashes).item() == records.height)


def _against(source: Source, records: pl.DataFrame, known: pl.DataFrame) -> pl.DataFrame:
    """For each record whose identity is known: ``_row``, and whether it is the ``same``."""
    identity = list(source.identity)
    others = [name for name in source.schema if name not in identity]
    known = known.select(*identity, *(pl.col(name).alias(f"known {name}") for name in others))
    same = [pl.col(name).eq_missing(pl.col(f"known {name}")) for name in others]
    joined = records.join(known, on=identity, how="inner", nulls_equal=True)
    verdict = pl.all_horizontal(pl.lit(value=True), *same).alias("same")
    return joined.select("_row", verdict).group_by("_row").agg(pl.col("same").any())


def _stored(tables: Tables, source: Source, good: pl.DataFrame, number: int) -> pl.DataFrame:
    """Stored records with an identity among the good ones.

    Where the timestamp is part of the identity, only the files of those times are read.
    """
    name, identity = raw_name(source), list(source.identity)
    if tables.version(name) is None or good.is_empty():
        return good.clear()
    columns = [*source.schema, "_batch"]
    stored = remaining_records(tables, source, last_batch=number - 1, columns=columns)
    stored = stored.filter(pl.col("_batch") != number)
    if source.timestamp in identity:
        times = good.get_column(source.timestamp)
        stored = stored.filter(pl.col(source.timestamp).is_between(times.min(), times.max()))
    wanted = good.lazy().select(identity).unique()
    return stored.join(wanted, on=identity, how="semi", nulls_equal=True).collect()
