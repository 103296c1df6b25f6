"""The commands that bring data in: ingest, features build."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from penstock.control import (
    drop_ready_vectors,
    ingest_run,
    refresh_ready_vectors,
    want_partitions,
    wanted_partitions,
)
from penstock.errors import NotReadyError
from penstock.features import refresh
from penstock.ingest import has_files
from penstock.plan import Catalogue
from penstock.runtime import living_processes
from penstock.spec import FeatureView, Source

from .failures import UsageError
from .follow import RunFailedError, follow, output_of
from .humanise import count
from .opening import opened_as
from .screen import Screen, table

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from penstock.runtime import LocalServices

__all__ = ["features_build", "ingest"]

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
    with opened_as(screen, "writer") as services:
        catalogue = Catalogue.load(services.metadata)
        catalogue.require_applied()
        found = catalogue.all(Source)
        named = _with_others(services, catalogue.source(source)) if source else found
        chosen = [one for one in named if one.batch or one.name == source]
        if not chosen:
            raise NotReadyError("No source declares files. Add batch=ps.Files(...) to one.")
        files = {source: file} if source else {}
        results, failed = _ingest_each(screen, services, chosen, files)
    if results:
        _show_ingested(screen, results)
    if failed:
        raise failed[0] if len(failed) == 1 else RunFailedError("\n".join(map(str, failed)))


def features_build(
    screen: Screen,
    view: str = typer.Argument("", help="The feature view; all when left out."),
    again: bool = typer.Option(
        False, "--again", help="Drop what is there and build it from nothing."
    ),
) -> None:
    """Fold new raw batches into the online store."""
    with opened_as(screen, "writer") as services:
        catalogue = Catalogue.load(services.metadata)
        catalogue.require_applied()
        views = [catalogue.view(view)] if view else catalogue.all(FeatureView)
        if not living_processes(services, kind="stream"):
            want_partitions(services, services.stream_partitions)
        for one in views if again else ():
            drop_ready_vectors(services, one)
        with screen.progress("features") as report:
            results = [
                refresh(
                    services.tables,
                    services.online,
                    services.leases,
                    one,
                    partitions=wanted_partitions(services),
                    again=again,
                    now_us=services.clock.now_us(),
                    progress=report,
                )
                for one in views
            ]
        for one in views if again else ():
            # A stream process may have written some of what there was before.
            drop_ready_vectors(services, one)
        ready = refresh_ready_vectors(services)
    rows = [
        (r.view, r.space, count(r.records), count(r.last_batch), "yes" if r.from_zero else "no")
        for r in results
    ]
    columns = ["view", "space", "records", "last batch", "from zero"]
    screen.show(results, table(columns, rows, right=["records", "last batch"]))
    for result in (each for each in results if each.swept):
        screen.hint(f"{count(result.swept)} values of {result.view} left: no window reaches them.")
    for group in ready:
        screen.hint(f"{count(group.written)} vectors written of {', '.join(group.views)}.")


def _ingest_each(
    screen: Screen,
    services: LocalServices,
    sources: Sequence[Source],
    files: Mapping[str, Sequence[str]],
) -> tuple[list[dict[str, object]], list[RunFailedError]]:
    """Take in one source after the other: what was done, and why the others were not.

    One that looks into a source that failed is left out: what its records do not find now, they
    lack for ever.
    """
    results: list[dict[str, object]] = []
    failed: dict[str, RunFailedError] = {}
    for one in sources:
        behind = next((other.name for other in one.looks_into if other.name in failed), "")
        if behind:
            why = f"{one.name!r} was left out, since it looks into {behind!r}."
            failed[one.name] = RunFailedError(why)
            continue
        try:
            results.append(_ingest(screen, services, one, files.get(one.name, ())))
        except RunFailedError as error:
            failed[one.name] = error
    return results, list(failed.values())


def _show_ingested(screen: Screen, results: Sequence[Mapping[str, Any]]) -> None:
    rows = [_ingested_row(one) for one in results]
    columns = ["source", "files", *COUNTS, "why"]
    screen.show(results, table(columns, rows, right=columns[1:-1]))
    for one in results:
        for sentence in _missing(one):
            screen.hint(sentence)
        if one["quarantined"]:
            screen.hint(f"[dim]Those in quarantine: penstock data quarantine {one['source']}[/]")


def _ingest(
    screen: Screen, services: LocalServices, source: Source, files: Sequence[str]
) -> dict[str, object]:
    run_id = f"ingest-{services.ids.new()}"
    paths = [str(Path(name).absolute()) for name in files] or None
    run = follow(screen, services, ingest_run(run_id, source.name, paths=paths))
    return {"source": source.name, "run_id": run_id, **output_of(run, "files")}


def _with_others(services: LocalServices, source: Source) -> list[Source]:
    """A source after those that its records are completed from and that have files."""
    return [*(one for one in source.looks_into if has_files(services.home, one)), source]


def _missing(done: Mapping[str, Any]) -> Iterator[str]:
    """A sentence for each lookup that found nothing for some records."""
    for one in done["lookups"]:
        if one["missing"]:
            yield (
                f"{done['source']}: {one['missing']:,} of {done['stored']:,} records found nothing "
                f"in {one['source']} by {one['on']}. They are not looked up again."
            )


def _ingested_row(done: Mapping[str, Any]) -> list[str]:
    why = ", ".join(f"{reason}: {rows:,}" for reason, rows in sorted(done["reasons"].items()))
    counts = [count(done[name]) for name in COUNTS]
    return [done["source"], count(len(done["batches"])), *counts, why]
