"""The demonstration's candles: simulated or read, parted into files and live events."""

from __future__ import annotations

import gzip
from collections.abc import Mapping
from datetime import timedelta
from typing import TYPE_CHECKING

import msgspec
import polars as pl

from penstock.errors import InputError, nearest

from .simulator import simulate

if TYPE_CHECKING:
    from datetime import datetime
    from pathlib import Path

__all__ = ["SPANS", "BadRecords", "Market", "read_market", "simulated_market", "write_files"]

COLUMNS = ("Date", "Open", "High", "Low", "Close", "Volume")
YEARS_H = 2 * 365 * 24
DAY_H = 24
STAMP = "%Y-%m-%d %H:%M:%S+00:00"
FILES = "*.csv.gz"
LEAST_HISTORY_H = 90 * DAY_H
DUPLICATES = 5


class Spans(msgspec.Struct, frozen=True, kw_only=True):
    """How long each part of the live time is, in hours.

    Attributes:
        quiet: Before the market changes; predictions are asked for.
        bulk: From the change on; events only, as many as a new model needs to learn from.
        changed: Predictions again, which show that the model is wrong now.
        after: Predictions of the new model.
    """

    quiet: int
    bulk: int
    changed: int
    after: int

    @property
    def total(self) -> int:
        """All of it."""
        return self.quiet + self.bulk + self.changed + self.after


SPANS = Spans(quiet=20 * DAY_H, bulk=150 * DAY_H, changed=20 * DAY_H, after=10 * DAY_H)


class Market(msgspec.Struct, frozen=True, kw_only=True):
    """Candles, parted in two by time.

    Attributes:
        origin: Where they come from, in words.
        simulated: Whether they are, so that it is known what has to be found.
        history: What becomes files, by symbol; columns as in the files.
        live: What becomes events, in the order of time: ``symbol``, ``ts``, ``open``, ``high``,
            ``low``, ``close``, ``volume``, and ``up``: whether the next hour closed higher.
    """

    origin: str
    simulated: bool
    history: Mapping[str, pl.DataFrame]
    live: pl.DataFrame

    @property
    def symbols(self) -> list[str]:
        """Names of the symbols."""
        return sorted(self.history)


class BadRecords(msgspec.Struct, frozen=True, kw_only=True):
    """What was put among the records on purpose.

    Attributes:
        quarantined: Records that break a rule.
        duplicates: Records that are there already.
    """

    quarantined: int
    duplicates: int


def simulated_market() -> Market:
    """Two years of six symbols whose market changes after the quiet part of the live time."""
    change_at = YEARS_H - SPANS.total + SPANS.quiet
    frames = simulate(hours=YEARS_H, change_at=change_at)
    return _parted(frames, "simulated: 6 symbols, 2 years", simulated=True)


def read_market(folder: Path) -> Market:
    """Candles from files such as ``BTCUSDT.csv.gz``, one for each symbol.

    Args:
        folder: Where they are.

    Raises:
        InputError: There are none, one cannot be read, or there is too little of it.
    """
    paths = sorted(folder.glob(FILES))
    if not paths:
        raise InputError(
            f"{folder} has no file like SYMBOL.csv.gz with the columns {', '.join(COLUMNS)}. "
            "Name another folder with --data, or leave it out for simulated candles.",
            folder=str(folder),
        )
    frames = {path.name.removesuffix(".csv.gz"): _read(path) for path in paths}
    return _parted(frames, f"{len(frames)} files of {folder}", simulated=False)


def write_files(market: Market, folder: Path) -> BadRecords:
    """Write the history as files, and one more with records that must not pass.

    Args:
        market: The candles.
        folder: Where the project's source looks for files.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for symbol, frame in market.history.items():
        _write(folder / f"{symbol}.csv.gz", _as_text(frame))
    symbol = market.symbols[0]
    text = _as_text(market.history[symbol])
    bad = _bad(text)
    _write(folder / f"{symbol}.late.csv.gz", pl.concat([bad, text.tail(DUPLICATES)]))
    return BadRecords(quarantined=bad.height, duplicates=DUPLICATES)


def _read(path: Path) -> pl.DataFrame:
    try:
        frame = pl.read_csv(path)
    except (pl.exceptions.PolarsError, OSError) as error:
        raise InputError(f"{path} cannot be read as CSV: {error}.", path=str(path)) from error
    for name in COLUMNS:
        if name not in frame.columns:
            raise InputError(
                f"{path} has no column {name!r}. {nearest(name, frame.columns)} Expected "
                f"{', '.join(COLUMNS)}.",
                path=str(path),
                column=name,
            )
    stamp = (
        pl.col("Date")
        .cast(pl.String)
        .str.to_datetime("%Y-%m-%d %H:%M:%S%z", time_unit="us", strict=False)
    )
    prices = (pl.col(name).cast(pl.Float64, strict=False) for name in COLUMNS[1:])
    return frame.select(stamp.dt.convert_time_zone("UTC"), *prices).drop_nulls("Date")


def _parted(frames: Mapping[str, pl.DataFrame], origin: str, *, simulated: bool) -> Market:
    end = max(_last(frame) for frame in frames.values()) + timedelta(hours=1)
    cut = end - timedelta(hours=SPANS.total)
    history = {symbol: frame.filter(pl.col("Date") < cut) for symbol, frame in frames.items()}
    for symbol, frame in history.items():
        if frame.height < LEAST_HISTORY_H:
            raise InputError(
                f"{symbol} has {frame.height:,} hours before {cut:%Y-%m-%d}; the demonstration "
                f"takes at least {LEAST_HISTORY_H:,}. Leave its file out, or give more of it.",
                symbol=symbol,
            )
    live = [
        _events(symbol, frame.filter(pl.col("Date") >= cut)) for symbol, frame in frames.items()
    ]
    return Market(
        origin=origin,
        simulated=simulated,
        history=history,
        live=pl.concat(live).sort("ts", "symbol"),
    )


def _last(frame: pl.DataFrame) -> datetime:
    return frame.select(pl.col("Date").max()).item()  # type: ignore[no-any-return]  # a datetime


def _events(symbol: str, frame: pl.DataFrame) -> pl.DataFrame:
    """Candles as the source's records, with what came true an hour later."""
    later = frame.select(pl.col("Date").dt.offset_by("-1h"), later=pl.col("Close"))
    joined = frame.join(later, on="Date", how="left")
    return joined.select(
        pl.lit(symbol).alias("symbol"),
        pl.col("Date").alias("ts"),
        *(pl.col(name).alias(name.lower()) for name in COLUMNS[1:]),
        (pl.col("later") > pl.col("Close")).alias("up"),
    )


def _as_text(frame: pl.DataFrame) -> pl.DataFrame:
    prices = (pl.col(name).cast(pl.String) for name in COLUMNS[1:])
    return frame.select(pl.col("Date").dt.strftime(STAMP), *prices)


def _bad(text: pl.DataFrame) -> pl.DataFrame:
    """Two of each kind of record that must end in quarantine, at times of their own."""
    first = pl.col("Date").str.to_datetime("%Y-%m-%d %H:%M:%S%z", time_unit="us")
    early = first.dt.offset_by("-30d").dt.strftime(STAMP)
    pair = text.slice(0, 2).with_columns(early)
    broken = {
        "negative price": pl.lit("-1.0").alias("Close"),
        "low above high": (pl.col("High").cast(pl.Float64) * 2).cast(pl.String).alias("Low"),
        "not a number": pl.lit("NaN").alias("Open"),
        "no number at all": pl.lit("n/a").alias("Volume"),
        "no time": pl.lit("yesterday").alias("Date"),
    }
    frames = [
        pair.with_columns(pl.col("Date").str.replace(":00:00", f":{minute:02d}:00")).with_columns(
            how
        )
        for minute, how in enumerate(broken.values(), 1)
    ]
    changed = text.slice(0, 2).with_columns(pl.lit("123456.0").alias("Volume"))
    return pl.concat([*frames, changed])


def _write(path: Path, text: pl.DataFrame) -> None:
    with gzip.open(path, "wb", compresslevel=1) as file:
        file.write(text.write_csv().encode())
