"""The newest batch score of each entity, kept ready in the online store to answer with.

The scores table says what the scores are; what is kept ready is a copy that can be made again at
any time. A value is the score as the table has it, under a digest of what was asked; beside the
values stands how far into the table the copy has come.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
import polars as pl

from penstock.features import lock_of

from .frames import scores_in, table_of
from .ready import decoded, key_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from penstock.ports import OnlineStore, Services
    from penstock.records import Score
    from penstock.spec import Deployment

__all__ = ["keep_ready"]

CHUNK = 20_000
ASKED, ORDER = ("entity", "given"), ("at_us", "prediction_id")
DONE = b"done"
"""Under this key, which is no digest, stands the number of the last batch run that is in."""


def keep_ready(services: Services, declared: Deployment, new: pl.DataFrame, *, since: int) -> int:
    """Keep the newest batch score of each entity ready, of all that the scores table has.

    Killed anywhere and called again, each entity's newest score is there. What is there meanwhile
    is the one before or the newest. Whoever calls holds the lock of the batch runs.

    Args:
        services: The online store, its leases and tables.
        declared: The deployment; where it wants none, nothing is done.
        new: Rows that were stored by the run ``since`` this number; where the copy is not at that
            number, all of the table is looked through.
        since: See above.

    Returns:
        How many scores were put there.
    """
    space = declared.ready_space
    if not space:
        return 0
    table, online = table_of(declared.name), services.online
    number = services.tables.applied(table, f"batch/{declared.name}")
    with services.leases.hold(lock_of(space, 0)) as token:
        online.claim(space, token)
        done = int(online.get(space, [DONE])[0] or 0)
        if not number or done == number:
            return 0
        rows = new if done == since else _all_rows(services, table)
        filling = _Filling(online, space, token)
        newest = _newest(rows)
        for start in range(0, newest.height, CHUNK):
            filling.put(scores_in(newest[start : start + CHUNK]))
        filling.finish(number)
        return filling.count


def _all_rows(services: Services, table: str) -> pl.DataFrame:
    """The newest score of each entity that batch runs made; those of jobs are not among them."""
    scanned = services.tables.scan(table)
    of_runs = (pl.col("route") == "batch") & (pl.col("request_id") == "")
    there = scanned.filter(of_runs).select(*ASKED, *ORDER, "prediction").collect()
    ids = _newest(there)["prediction_id"]
    return scanned.filter(pl.col("prediction_id").is_in(ids.implode())).collect()


def _newest(rows: pl.DataFrame) -> pl.DataFrame:
    """The newest rows of each entity, of those that have a prediction."""
    return rows.filter(pl.col("prediction").is_finite()).sort(ORDER).unique(ASKED, keep="last")


class _Filling:
    """Puts scores into a space, each where none of a later time is."""

    def __init__(self, online: OnlineStore, space: str, token: int) -> None:
        self._online = online
        self._space = space
        self._token = token
        self._written = online.progress(space) or 0
        self.count = 0

    def put(self, scores: Sequence[Score]) -> None:
        """Put scores there, of one entity each."""
        keys = [key_of(score.entity, score.given) for score in scores]
        there = self._online.get(self._space, keys)
        found = zip(keys, scores, there, strict=True)
        values = {
            key: msgspec.msgpack.encode(score)
            for key, score, value in found
            if (before := decoded(value)) is None or _order(before) < _order(score)
        }
        self.count += len(values)
        self._write(values)

    def finish(self, number: int) -> None:
        """Remember how far into the table it has come."""
        self._write({DONE: str(number).encode()})

    def _write(self, values: Mapping[bytes, bytes]) -> None:
        self._written += 1
        self._online.write(self._space, values, progress=self._written, token=self._token)


def _order(score: Score) -> tuple[int, str]:
    return score.at_us, score.prediction_id
