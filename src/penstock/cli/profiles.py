"""The command that profiles a view's features day by day, and how profiles are shown."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import typer

from penstock.access import require_features
from penstock.algebra import merge_spreads, shift
from penstock.control import profiled_columns
from penstock.errors import NotReadyError
from penstock.features import PROFILE_DAYS, ColumnProfile, profile, profiles_of
from penstock.records import to_plain
from penstock.runtime import open_services
from penstock.spec import base_views, key_of

from .failures import UsageError
from .humanise import count, measured, number, plural
from .profile_page import profile_page
from .screen import Screen, table

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from rich.table import Table

    from penstock.features import ProfileResult

__all__ = ["by_column", "days_table", "features_profile", "newest_table", "written"]

BARS = "▁▂▃▄▅▆▇█"
MEDIAN = 3  # of SPREAD_QUANTILES
FIFTH, NINETY_FIFTH = 1, 5
TREND_DAYS = 14


def features_profile(
    screen: Screen,
    name: str = typer.Argument(help="The view, or VIEW.FEATURE.", metavar="VIEW"),
    days: int = typer.Option(
        PROFILE_DAYS, "--days", min=1, help="So many days up to the newest record."
    ),
    report: str = typer.Option(
        "", "--report", help="Write a page with plots into this file.", metavar="FILE"
    ),
) -> None:
    """Compute how a view's features lie, day by day, where it is not known yet, and show it."""
    with open_services(screen.home) as services:
        found, columns = profiled_columns(services, name)
        require_features(services, columns, subject=key_of(found))
        with screen.progress("profile") as told:
            result = profile(
                services.tables,
                services.locks,
                found,
                days=days,
                sample=services.settings.features_profile_sample,
                memory_bytes=services.features_memory_bytes,
                progress=told,
            )
        every = profiles_of(services.tables, found, days=days)
    if not every:
        (source, *_) = (one.source.name for one in base_views([found]))
        raise NotReadyError(
            f"All records of the source {source!r} have been deleted, so there is no day to show. "
            f"Run 'penstock ingest {source}' when there are new ones.",
            source=source,
        )
    profiles = [one for one in every if one.feature in columns]
    value = {"result": result, "profiles": profiles}
    shown = [days_table(some) for some in by_column(profiles).values()]
    whole = found.name == name
    screen.show(to_plain(value), *([newest_table(profiles)] if whole else shown))
    screen.hint(_did(result, profiles))
    if report:
        screen.hint(f"Report: {written(report, profile_page(found, profiles))}")


def written(report: str, page: str) -> Path:
    """Write a page into the file that ``--report`` names; returns where that is.

    Raises:
        UsageError: It cannot be written.
    """
    path = Path(report).expanduser().absolute()
    try:
        path.write_text(page, encoding="utf-8")
    except OSError as error:
        raise UsageError(
            f"--report {report!r} cannot be written: {error.strerror}. Name a file in a folder "
            "that is there.",
            report=report,
        ) from None
    return path


def by_column(profiles: Sequence[ColumnProfile]) -> Mapping[str, list[ColumnProfile]]:
    """The profiles of each column, by day."""
    found: dict[str, list[ColumnProfile]] = {}
    for one in profiles:
        found.setdefault(one.feature, []).append(one)
    return found


def newest_table(profiles: Sequence[ColumnProfile]) -> Table:
    """How each column lies on the newest day, and how that differs from the days before."""
    columns = ["feature", "nulls", "mean", "std", "min", "5 %", "median", "95 %", "max"]
    more = ["shift", "median by day", "nulls by day"]
    rows = [
        [name, *_cells(days[-1]), _shift(days), *_trends(days)]
        for name, days in by_column(profiles).items()
    ]
    newest = profiles[-1]
    points = plural(newest.points, "point")
    sampled = "" if newest.spread.rows == newest.points else f", {newest.spread.rows:,} looked at"
    title = f"{newest.day}: {points}{sampled}"
    return table([*columns, *more], rows, title=title, right=[*columns[1:], "shift"])


def days_table(days: Sequence[ColumnProfile]) -> Table:
    """How one column lies on each day, the newest first."""
    columns = ["day", "points", "nulls", "mean", "std", "min", "5 %", "median", "95 %", "max"]
    rows = [[one.day, count(one.points), *_cells(one)] for one in reversed(days)]
    return table(columns, rows, title=days[0].feature, right=columns[1:])


def _cells(one: ColumnProfile) -> list[str]:
    spread = one.spread
    some = spread.quantiles or (None,) * (NINETY_FIFTH + 1)
    values = (spread.mean, spread.std, spread.least, some[FIFTH], some[MEDIAN], some[NINETY_FIFTH])
    return [f"{one.null_rate:.1%}", *map(measured, (*values, spread.greatest))]


def _shift(days: Sequence[ColumnProfile]) -> str:
    """The index of the newest day against all days before; a dash where there are too few rows."""
    before = [one.spread for one in days[:-1]]
    return number(shift(merge_spreads(before), days[-1].spread) if before else None, 2)


def _trends(days: Sequence[ColumnProfile]) -> tuple[str, str]:
    days = days[-TREND_DAYS:]
    medians = [one.spread.quantiles[MEDIAN] if one.spread.quantiles else None for one in days]
    return _bars(medians), _bars([one.null_rate for one in days], least=0.0, greatest=1.0)


def _bars(
    values: Sequence[float | None], *, least: float | None = None, greatest: float | None = None
) -> str:
    """A bar for each value between the least and the greatest, a blank for none."""
    known = [value for value in values if value is not None]
    low = min(known, default=0.0) if least is None else least
    high = max(known, default=0.0) if greatest is None else greatest
    step = (high - low) / (len(BARS) - 1) or 1.0
    return "".join(" " if v is None else BARS[round((v - low) / step)] for v in values)


def _did(result: ProfileResult, profiles: Sequence[ColumnProfile]) -> str:
    shown = len({one.day for one in profiles})
    done = f"{result.computed:,} computed, {result.recomputed:,} again, {result.kept:,} kept"
    return f"[green]✓[/] {plural(shown, 'day')} up to batch {result.last_batch:,}: {done}."
