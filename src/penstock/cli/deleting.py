"""The command that deletes records."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import typer

from penstock.access import require_role
from penstock.control import refresh_features
from penstock.errors import RetryableError
from penstock.ingest import delete_records, deletion_hits, stored_deletions
from penstock.plan import Catalogue
from penstock.records import Deletion
from penstock.runtime import open_services
from penstock.spec import DType, Source

from .failures import FAILED, UsageError
from .humanise import ago, count, moment, plural
from .screen import Screen, table
from .times import time_us

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    import polars as pl

    from penstock.records import Batch
    from penstock.runtime import LocalServices

__all__ = ["data_delete", "data_deletions"]

SHOWN = 3


def data_delete(  # noqa: PLR0913, PLR0917 - its options
    screen: Screen,
    source: str = typer.Argument(help="The source."),
    key: list[str] = typer.Option(
        ..., "--key", help="The entity, such as symbol=BTC; may be given several times."
    ),
    at: str = typer.Option(
        "", "--at", help="Only records with this timestamp; all of the entity by default."
    ),
    reason: str = typer.Option("", "--reason", help="Why; kept with the deletion."),
    delete_id: str = typer.Option(
        "", "--id", help="A name of your own: under the same one it is done once."
    ),
    yes: bool = typer.Option(False, "--yes", "-y", help="Do it without asking."),
) -> None:
    """Delete an entity's records; for admins."""
    with open_services(screen.home) as services:
        require_role(services.caller, "admin")
        catalogue = Catalogue.load(services.metadata)
        found = catalogue.source(source)
        deletion = Deletion(
            delete_id=delete_id or services.ids.new(),
            keys=tuple(_keys(found, key)),
            at_us=time_us("--at", at),
            reason=reason,
        )
        if not (yes or _agreed(screen, deletion_hits(services.tables, found, deletion))):
            screen.say("Nothing was deleted.")
            raise typer.Exit(FAILED)
        batch = delete_records(services, found, deletion)
        rebuilt = _rebuilt(screen, services, found)
    _tell(screen, batch, rebuilt)
    for other in catalogue.all(Source):
        if found.name in {one.name for one in other.looks_into}:
            screen.hint(
                f"What records of {other.name} had looked up stays with them; later ones do not "
                f"find it. 'penstock data delete {other.name}' deletes the records."
            )


def data_deletions(
    screen: Screen,
    source: str = typer.Argument("", help="Only of this source."),
) -> None:
    """List deletions."""
    with open_services(screen.home) as services:
        catalogue = Catalogue.load(services.metadata)
        sources = [catalogue.source(source)] if source else catalogue.all(Source)
        found = [batch for one in sources for batch in stored_deletions(services, one)]
        now = services.clock.now()
    columns = ["batch", "id", "keys", "at", "deleted", "by", "when", "reason"]
    rows = [_row(batch, batch.deletion, now) for batch in found if batch.deletion]
    empty = "Nothing has been deleted. Delete records with 'penstock data delete SOURCE'."
    screen.show(found, table(columns, rows, right=["deleted"]) if rows else empty)


def _row(batch: Batch, deletion: Deletion, now: datetime) -> list[str]:
    keys = ", ".join(map(str, deletion.keys[:SHOWN]))
    more = len(deletion.keys) - SHOWN
    return [
        batch.batch_id,
        deletion.delete_id,
        f"{keys} and {more:,} more" if more > 0 else keys,
        moment(deletion.at_us) if deletion.at_us is not None else "all",
        count(batch.deleted),
        deletion.actor,
        ago(batch.arrived_at, now),
        deletion.reason or "-",
    ]


def _keys(source: Source, texts: Sequence[str]) -> list[str | int]:
    """The entities that ``--key`` names, each once."""
    name, keys = source.entity.name, []
    for text in texts:
        column, equals, value = text.partition("=")
        if not equals or column.strip() != name or not value:
            raise UsageError(
                f"--key {text!r}: records of {source.name!r} are deleted by {name!r}. "
                f"Write --key {name}=VALUE.",
                key=text,
            )
        keys.append(_key(source, value))
    return list(dict.fromkeys(keys))


def _key(source: Source, value: str) -> str | int:
    if source.entity.dtype != DType.INT64:
        return value
    try:
        return int(value)
    except ValueError:
        raise UsageError(
            f"--key {value!r}: the key of {source.entity.name!r} is a whole number.", key=value
        ) from None


def _agreed(screen: Screen, hits: pl.DataFrame) -> bool:
    """Show what would be deleted and ask."""
    if hits.is_empty():
        return True  # the deletion itself says so, unless it was done under its id before
    if screen.as_json or not sys.stdin.isatty():
        raise UsageError(
            f"This would delete {plural(int(hits['records'].sum()), 'record')}. There is nobody to "
            "ask here: say --yes."
        )
    times = [hits[name].dt.epoch("us") for name in ("first", "last")]
    rows = [
        (key, count(records), moment(first_us), moment(last_us))
        for key, records, first_us, last_us in zip(
            hits.to_series(0), hits["records"], *times, strict=True
        )
    ]
    screen.err.print(table([hits.columns[0], "records", "first", "last"], rows, right=["records"]))
    total = plural(int(hits["records"].sum()), "record")
    return typer.confirm(f"Delete {total}?", err=True)


def _rebuilt(screen: Screen, services: LocalServices, source: Source) -> list[str]:
    """Bring the online features up to date; the views of which they are."""
    with screen.progress("features") as report:
        report(f"of {source.name}", 0.0)
        try:
            return sorted(refresh_features(services, source.name))
        except RetryableError as error:
            # The deletion is done, and whoever is at work on the features meets it too.
            screen.say(f"The online features do not follow yet: {error.message}")
            return []


def _tell(screen: Screen, batch: Batch, rebuilt: Sequence[str]) -> None:
    deletion = batch.deletion
    value = {
        "batch_id": batch.batch_id,
        "delete_id": deletion.delete_id if deletion else "",
        "deleted": batch.deleted,
        "features": list(rebuilt),
    }
    columns = ["batch", "id", "deleted", "features built again"]
    row = [value["batch_id"], value["delete_id"], count(batch.deleted), ", ".join(rebuilt) or "-"]
    screen.show(value, table(columns, [row], right=["deleted"]))
    screen.hint(
        "[dim]Datasets are built anew when they are next asked for; stored features follow with "
        "'penstock features backfill'.[/]"
    )
