"""Records of a batch sorted into stored, quarantined and duplicate."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import polars as pl

from .columns import Faults, mask, merged
from .contract import judge
from .repeats import part_repeats

if TYPE_CHECKING:
    from penstock.ports import Tables
    from penstock.spec import Source

    from .parsed import Parsed

__all__ = ["Sifted", "sift"]


@dataclass(frozen=True, slots=True)
class Sifted:
    """What becomes of each record: ``read = stored + quarantined + duplicates``.

    Attributes:
        read: Records read.
        stored: The rows for the raw table: the source's columns, ``_row``, ``_arrived_at``.
        quarantined: The rows for the quarantine table: ``_record`` (text), ``_reasons`` (list of
            text), ``_row``, ``_arrived_at``.
        duplicates: Records that are there already.
        reasons: How many records broke each rule.
    """

    read: int
    stored: pl.DataFrame
    quarantined: pl.DataFrame
    duplicates: int
    reasons: Mapping[str, int]


def sift(tables: Tables, source: Source, parsed: Parsed, *, number: int) -> Sifted:
    """Sort the records of a batch.

    Args:
        tables: Where the source's raw table is.
        source: The source.
        parsed: The records.
        number: The batch's number.
    """
    verdict = judge(source, parsed)
    repeats = part_repeats(tables, source, verdict.good, number=number)
    faults = verdict.faults
    if repeats.conflicts.len():
        name = next(rule.name for rule in source.expect if rule.rule == "unique")
        faults = merged(faults, {name: mask(parsed.read, repeats.conflicts)})
    quarantined = _quarantined(parsed, faults)
    reasons = {reason: int(rows.sum()) for reason, rows in sorted(faults.items())}
    return Sifted(parsed.read, repeats.new, quarantined, repeats.duplicates, reasons)


def _quarantined(parsed: Parsed, faults: Faults) -> pl.DataFrame:
    bad = mask(parsed.read, [])
    for rows in faults.values():
        bad |= rows
    places = bad.arg_true()
    texts = parsed.texts(places.to_list()) if places.len() else []
    return pl.DataFrame(
        {
            "_record": pl.Series(texts, dtype=pl.String),
            "_reasons": _reasons(faults, places),
            "_row": places.cast(pl.Int64),
            "_arrived_at": parsed.frame.get_column("_arrived_at").gather(places),
        }
    )


def _reasons(faults: Faults, places: pl.Series) -> pl.Series:
    """The reasons of the records at those places, in alphabetical order."""
    if not faults:
        return pl.Series([], dtype=pl.List(pl.String))
    broken = pl.DataFrame({reason: faults[reason].gather(places) for reason in sorted(faults)})
    marks = [pl.when(reason).then(pl.lit(reason)) for reason in broken.columns]
    return broken.select(pl.concat_list(marks).list.drop_nulls()).to_series()
