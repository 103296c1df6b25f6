"""Scores that have been kept as long as their deployment wants, removed; and what is left of them.

Of a removed score its id stays, with when it was removed: whoever asks for it later is told so. The
ids come first, the rows go after: killed in between, a score is in both, and the next run goes on.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

import msgspec
import polars as pl

from penstock.errors import NotFoundError
from penstock.plan import Catalogue
from penstock.ports import Audit
from penstock.records import ExperimentState
from penstock.scoring import drain_scores, table_of
from penstock.spec import Deployment

from .bandits import keeping_rewards
from .vacuuming import pinned_versions

if TYPE_CHECKING:
    from penstock.ports import Services, Tables

__all__ = [
    "PrunedScores",
    "RemovedScore",
    "find_removed",
    "missing_score",
    "prune_scores",
    "vacuum_scores",
]

REMOVED = "removed/"
APP = "prune"
CHUNK_ROWS = 500_000
FILES_STAY_H = 24
"""How long the files of removed scores stay: somebody may be reading them."""
GROWING = ("scores/", "observations/")


class PrunedScores(msgspec.Struct, frozen=True, kw_only=True):
    """What a run removed of one deployment, or would remove.

    Attributes:
        deployment: Its name.
        keep: How long it keeps scores.
        before_us: Scores made before this time go, in microseconds since 1970 UTC.
        rows: How many.
        unobserved: How many of them nobody has told the outcome of.
        held_by: The experiment that is under way and holds what was made since it began; empty
            where none does.
    """

    deployment: str
    keep: str
    before_us: int
    rows: int
    unobserved: int
    held_by: str = ""


class RemovedScore(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of a score that was removed.

    Attributes:
        deployment: Whose it was.
        removed_at_us: When, in microseconds since 1970 UTC.
    """

    deployment: str
    removed_at_us: int

    @property
    def text(self) -> str:
        """What to say of it."""
        day = datetime.fromtimestamp(self.removed_at_us / 1e6, tz=UTC)
        return f"removed by retention on {day:%Y-%m-%d}"


def prune_scores(
    services: Services, *, now_us: int, deployment: str | None = None, dry_run: bool = False
) -> list[PrunedScores]:
    """Remove the scores that are older than their deployment keeps them.

    What an experiment counts that is under way stays until it has ended; what a bandit learned of
    removed scores stays with it. Killed anywhere and run
    again, it goes on; the audit table has an entry before anything is
    removed. The rows are gone at once, the files they were in a day later, with the next run.

    Args:
        services: The ports.
        now_us: The time, in microseconds since 1970 UTC.
        deployment: Only this one; all that say how long when left out.
        dry_run: Only say what would be removed, of what is in the tables by now.

    Returns:
        What was done with each deployment that says how long it keeps scores.

    Raises:
        NotFoundError: There is no such deployment.
        UnavailableError: Another process prunes the same all the time.
    """
    catalogue = Catalogue.load(services.metadata)
    chosen = [catalogue.deployment(deployment)] if deployment else catalogue.all(Deployment)
    found: list[PrunedScores] = []
    for one in chosen:
        if one.log is None or not one.log.keep:
            continue
        with services.locks.hold(f"prune/{one.name}"):
            pruned = PrunedScores(
                deployment=one.name,
                keep=one.log.keep,
                before_us=now_us - one.log.keep_us,
                rows=0,
                unobserved=0,
            )
            found.append(_prune(services, _held(services, pruned), dry_run=dry_run))
    return found


def vacuum_scores(services: Services) -> int:
    """Remove files of scores and observations that were merged into larger ones a day ago.

    What datasets and models name stays.

    Args:
        services: The ports.

    Returns:
        How many files.

    Raises:
        StateError: It is not known what a model in service names; nothing was removed.
    """
    tables = services.tables
    names = [name for prefix in GROWING for name in tables.names(prefix)]
    pinned = pinned_versions(services) if names else {}
    return sum(
        tables.vacuum(name, keep=tuple(pinned.get(name, ())), older_than_h=FILES_STAY_H).files
        for name in names
    )


def find_removed(tables: Tables, prediction_id: str) -> RemovedScore | None:
    """When a score was removed; none where none of that id was."""
    for name in tables.names(REMOVED):
        rows = tables.scan(name).filter(pl.col("prediction_id") == prediction_id).collect()
        if rows.height:
            deployment = name.removeprefix(REMOVED)
            return RemovedScore(deployment=deployment, removed_at_us=rows["removed_at_us"][0])
    return None


def missing_score(tables: Tables, prediction_id: str) -> NotFoundError:
    """What to say of a score that is not there: that it was removed, or that none has that id."""
    removed = find_removed(tables, prediction_id)
    if removed is not None:
        return NotFoundError(
            f"The score {prediction_id} of {removed.deployment!r} was {removed.text}, as the "
            "deployment's ScoreLog(keep=...) says. Nothing but its id is left.",
            name=prediction_id,
            removed_at_us=removed.removed_at_us,
        )
    return NotFoundError(
        f"There is no prediction {prediction_id!r}. Its id is in the answer to the request.",
        name=prediction_id,
    )


def _held(services: Services, planned: PrunedScores) -> PrunedScores:
    """The same up to where an experiment began that is under way, if that is earlier."""
    for one in services.metadata.find(ExperimentState, where={"deployment": planned.deployment}):
        began_us = one.from_us or int(one.asked_at.timestamp() * 1e6)
        if one.is_live and began_us < planned.before_us:
            planned = msgspec.structs.replace(planned, before_us=began_us, held_by=one.name)
    return planned


def _prune(services: Services, planned: PrunedScores, *, dry_run: bool) -> PrunedScores:
    deployment, before_us = planned.deployment, planned.before_us
    tables, table = services.tables, table_of(deployment)
    if not dry_run:
        drain_scores(services, deployment)
    ids = _older(tables, table, before_us)
    unobserved = len(ids) - _observed(tables, deployment, ids)
    found = msgspec.structs.replace(planned, rows=len(ids), unobserved=unobserved)
    if dry_run or tables.version(table) is None:
        return found
    if found.rows:
        with keeping_rewards(services, deployment, below_us=before_us):
            _remember(services, deployment, ids)
            _tell(services, found)
            tables.remove(table, "scored_at_us", below=before_us)
    kept = pinned_versions(services).get(table, ())
    tables.vacuum(table, keep=tuple(kept), older_than_h=FILES_STAY_H)
    return found


def _older(tables: Tables, table: str, before_us: int) -> pl.Series:
    """The ids of the scores that were made before a time, sorted."""
    if tables.version(table) is None:
        return pl.Series(dtype=pl.String)
    rows = tables.scan(table).filter(pl.col("scored_at_us") < before_us)
    return rows.select("prediction_id").collect()["prediction_id"].sort()


def _observed(tables: Tables, deployment: str, ids: pl.Series) -> int:
    """Of how many scores somebody has told the outcome."""
    table = f"observations/{deployment}"
    if ids.is_empty() or tables.version(table) is None:
        return 0
    told = tables.scan(table).select("prediction_id").unique()
    return told.filter(pl.col("prediction_id").is_in(ids.implode())).collect().height


def _remember(services: Services, deployment: str, ids: pl.Series) -> None:
    """Keep the ids; those that a run has kept before it was killed are there already."""
    tables, table = services.tables, f"{REMOVED}{deployment}"
    now_us = services.clock.now_us()
    for start in range(0, len(ids), CHUNK_ROWS):
        chunk = ids[start : start + CHUNK_ROWS].to_frame()
        if tables.version(table) is not None:
            # Ids are ordered by time, and so lie in few of the files.
            first, last = pl.lit(chunk.item(0, 0)), pl.lit(chunk.item(-1, 0))
            between = pl.col("prediction_id").is_between(first, last)
            known = tables.scan(table).filter(between).select("prediction_id").collect()
            chunk = chunk.join(known, on="prediction_id", how="anti")
        rows = chunk.with_columns(removed_at_us=pl.lit(now_us, dtype=pl.Int64))
        tables.append(table, rows, app=APP, number=tables.applied(table, APP) + 1)


def _tell(services: Services, found: PrunedScores) -> None:
    before = datetime.fromtimestamp(found.before_us / 1e6, tz=UTC).isoformat()
    services.metadata.write(
        audit=Audit(
            actor=services.actor,
            action="prune scores",
            subject=f"deployment/{found.deployment}",
            difference={
                "keep": found.keep,
                "before": before,
                "rows": found.rows,
                "unobserved": found.unobserved,
            },
        )
    )
