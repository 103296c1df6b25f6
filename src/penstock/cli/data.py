"""The commands about data: ingest, features build, features get."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl
import typer

from penstock.control import ingest_run
from penstock.errors import NotReadyError
from penstock.features import OnlineReader, UnknownEntities, point_in_time, refresh, view_ages
from penstock.plan import Catalogue
from penstock.runtime import open_services
from penstock.spec import DType, FeatureView, Source

from .failures import UsageError
from .follow import follow, output_of
from .humanise import count, moment, number
from .screen import Screen, table

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from penstock.ports import Services
    from penstock.runtime import LocalServices

__all__ = ["features_build", "features_get", "ingest"]

COUNTS = ("read", "stored", "quarantined", "duplicates")


def ingest(
    screen: Screen,
    source: str = typer.Argument("", help="The source; all that declare files when left out."),
    file: list[str] = typer.Option(
        [], "--file", help="Only these files; may be given several times."
    ),
) -> None:
    """Read files into the raw table."""
    if file and not source:
        raise UsageError("--file needs the name of the source the files belong to.")
    with open_services(screen.home) as services:
        catalogue = Catalogue.load(services.metadata)
        catalogue.require_applied()
        found = catalogue.all(Source)
        chosen = [catalogue.source(source)] if source else [s for s in found if s.batch]
        if not chosen:
            raise NotReadyError("No source declares files. Add batch=ps.Files(...) to one.")
        results = [_ingest(screen, services, one, file) for one in chosen]
    rows = [_ingested_row(one) for one in results]
    columns = ["source", "files", *COUNTS, "why"]
    screen.show(results, table(columns, rows, right=columns[1:-1]))


def features_build(
    screen: Screen,
    view: str = typer.Argument("", help="The feature view; all when left out."),
    again: bool = typer.Option(
        False, "--again", help="Drop what is there and build it from nothing."
    ),
) -> None:
    """Fold new raw batches into the online store."""
    with open_services(screen.home) as services:
        catalogue = Catalogue.load(services.metadata)
        catalogue.require_applied()
        views = [catalogue.view(view)] if view else catalogue.all(FeatureView)
        with screen.progress("features") as report:
            results = [
                refresh(
                    services.tables,
                    services.online,
                    services.locks,
                    one,
                    again=again,
                    progress=report,
                )
                for one in views
            ]
    rows = [
        (r.view, r.space, count(r.records), count(r.last_batch), "yes" if r.from_zero else "no")
        for r in results
    ]
    columns = ["view", "space", "records", "last batch", "from zero"]
    screen.show(results, table(columns, rows, right=["records", "last batch"]))


def features_get(
    screen: Screen,
    view: str = typer.Argument(help="The feature view."),
    keys: str = typer.Option(..., "--keys", "--key", help="Entity keys, with commas between them."),
    at: str = typer.Option(
        "", "--at", help="As they were at this time, such as 2024-03-01T12:00Z."
    ),
) -> None:
    """Show features of entities, from the online store or as of a time."""
    with open_services(screen.home) as services:
        found = Catalogue.load(services.metadata).view(view)
        wanted = _keys(found, keys)
        told: list[UnknownEntities] = []
        frame = (
            _as_of(services, found, wanted, at, told.append)
            if at
            else _online(services, found, wanted)
        )
        unknown = [] if at else _unknown(services, found, wanted)
        now_us = services.clock.now_us()
        ages = [] if at else view_ages(services.metadata, services.online, [found])
    for one in told:
        screen.say(f"{one.sentence}.")
    for age in ages:
        if age.is_stale(now_us):
            screen.say(age.error(now_us).message)
    if unknown:
        screen.say(
            f"No record of {', '.join(map(repr, unknown))} has come to {found.name!r} yet: these "
            f"are the features of an unknown {found.source.entity.name}."
        )
    values = [dict(zip(frame.columns, row, strict=True)) for row in frame.iter_rows()]
    columns = ["", *(str(key) for key in wanted)]
    rows = [[name, *(_cell(value) for value in frame[name])] for name in frame.columns[1:]]
    screen.show(values, table(columns, rows, right=columns[1:]))


def _ingest(
    screen: Screen, services: LocalServices, source: Source, files: Sequence[str]
) -> dict[str, object]:
    run_id = f"ingest-{services.ids.new()}"
    paths = [str(Path(name).absolute()) for name in files] or None
    run = follow(screen, services, ingest_run(run_id, source.name, paths=paths))
    return {"source": source.name, "run_id": run_id, **output_of(run, "files")}


def _ingested_row(done: Mapping[str, Any]) -> list[str]:
    why = ", ".join(f"{reason}: {rows:,}" for reason, rows in sorted(done["reasons"].items()))
    counts = [count(done[name]) for name in COUNTS]
    return [done["source"], count(len(done["batches"])), *counts, why]


def _keys(view: FeatureView, text: str) -> list[str | int]:
    words = [word.strip() for word in text.split(",") if word.strip()]
    if not words:
        raise UsageError("--keys names no entity. Give at least one, such as --keys BTCUSDT.")
    if view.source.entity.dtype != DType.INT64:
        return list(words)
    try:
        return [int(word) for word in words]
    except ValueError:
        raise UsageError(
            f"--keys {text!r}: the key of {view.source.entity.name!r} is a whole number.", keys=text
        ) from None


def _online(services: Services, view: FeatureView, keys: Sequence[str | int]) -> pl.DataFrame:
    reader = OnlineReader(services.online, [view])
    values, as_of_us = reader.read(list(keys), services.clock.now_us())
    columns = {name: values[:, place] for place, name in enumerate(reader.names)}
    head = {view.source.entity.name: keys, "as_of": [moment(int(us)) for us in as_of_us]}
    return pl.DataFrame(head | columns).fill_nan(None)


def _unknown(services: Services, view: FeatureView, keys: Sequence[str | int]) -> list[str | int]:
    known = OnlineReader(services.online, [view]).knows(keys)
    return [key for key, there in zip(keys, known, strict=True) if not there]


def _as_of(
    services: Services,
    view: FeatureView,
    keys: Sequence[str | int],
    at: str,
    notice: Callable[[UnknownEntities], None],
) -> pl.DataFrame:
    spine = pl.DataFrame({view.source.entity.name: keys}).with_columns(
        at=pl.lit(_time(at)).cast(pl.Datetime("us", "UTC"))
    )
    found = point_in_time(
        services.tables,
        [view],
        spine,
        memory_bytes=services.features_memory_bytes,
        notice=notice,
    )
    return found.with_columns(pl.col("at").dt.strftime("%Y-%m-%d %H:%M:%S"))


def _time(text: str) -> datetime:
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        raise UsageError(
            f"--at {text!r} is no time. Write it like 2024-03-01T12:00:00Z.", at=text
        ) from None
    if at.tzinfo is None:
        raise UsageError(f"--at {text!r} has no time zone. Add Z for UTC.", at=text)
    return at


def _cell(value: object) -> str:
    if isinstance(value, float):
        return number(value, 6)
    return "-" if value is None else str(value)
