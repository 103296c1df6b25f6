"""A few of the rows that a feature service answered, kept for the consistency check.

On the path of a request there is one comparison of times; a row is taken five times a second at
most. Where they would be too many, every second one goes and the next are taken half as often, so
that they are spread over up to an hour. They are written now and then, apart from requests.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import isnan
from typing import TYPE_CHECKING, cast

from penstock.records import ReadSample, ReadSamples

if TYPE_CHECKING:
    from penstock.features import Reading
    from penstock.records import Given
    from penstock.spec import FeatureService

    from .serve_feature_schema import Wanted

__all__ = ["Taken", "samples_of"]

EVERY_US = 200_000
LEAST_OFTEN_US = EVERY_US << 7
KEPT = 128
WRITTEN_TOGETHER = 5


class Taken:
    """Rows that were taken. Taken by one event loop, told to one thread at a time.

    Attributes:
        due_us: When the next row is to be taken, in microseconds since 1970 UTC.
    """

    def __init__(self) -> None:
        self.due_us = 0
        self._every_us = EVERY_US
        self._rows: list[tuple[int, int, Wanted, Reading]] = []
        self._count = self._written = 0
        self._write_us = 0

    def take(self, wanted: Wanted, found: Reading, now_us: int) -> None:
        """Keep one row of an answer.

        Args:
            wanted: What was asked for.
            found: What was answered.
            now_us: When.
        """
        kept = self._rows
        if len(kept) == KEPT and self._every_us < LEAST_OFTEN_US:
            self._every_us *= 2
            kept = kept[::2]
        self.due_us = now_us + self._every_us
        if not wanted.rows:
            return
        # Which of the rows it is depends on the time alone, and on nothing that was asked.
        place = now_us // 1_000 % wanted.rows
        # Another list: whoever tells of this one is not disturbed.
        self._rows = [*kept[1 - KEPT :], (now_us, place, wanted, _row(found, place))]
        self._count += 1

    def unwritten(self, now_us: int, *, last: bool) -> list[tuple[int, int, Wanted, Reading]]:
        """The rows, where there are new ones and it is time to write them; else nothing.

        Args:
            now_us: The time.
            last: Whether it is written now or never.
        """
        if self._count == self._written or (now_us < self._write_us and not last):
            return []
        self._write_us = now_us + WRITTEN_TOGETHER * self._every_us
        self._written = self._count
        return self._rows


def samples_of(  # noqa: PLR0913 - what the record says
    taken: Taken, service: FeatureService, service_id: str, process: str, *, now_us: int, last: bool
) -> ReadSamples | None:
    """What was taken of a service, where it is time to write it.

    Args:
        taken: What was taken.
        service: The service.
        service_id: Its id.
        process: Who answered.
        now_us: The time.
        last: Whether it is written now or never.
    """
    rows = taken.unwritten(now_us, last=last)
    entities = tuple(entity.name for entity in service.entities)
    samples = tuple(_sample(entities, *row) for row in rows)
    return (
        ReadSamples(
            service=service.name,
            service_id=service_id,
            process=process,
            rows=samples,
            written_us=now_us,
        )
        if samples
        else None
    )


def _row(found: Reading, place: int) -> Reading:
    """One row of what was read, without the rest, which may be of many."""
    return found._replace(
        values=found.values[place : place + 1].copy(),
        as_of_us=found.as_of_us[place : place + 1].copy(),
        unknown=[],
        progress=found.by_row[place] if found.by_row else found.progress,
        by_row=(),
    )


def _sample(
    entities: tuple[str, ...], read_us: int, place: int, wanted: Wanted, found: Reading
) -> ReadSample:
    columns = wanted.keys if isinstance(wanted.keys, Mapping) else {entities[0]: wanted.keys}
    values = found.values[0]
    return ReadSample(
        read_us=read_us,
        as_of_us=int(found.as_of_us[0]),
        keys={name: column[place] for name, column in columns.items()},
        request={name: cast("Given", column[place]) for name, column in wanted.request.items()},
        values=tuple(None if isnan(value) else value for value in values.tolist()),
        progress=dict(found.progress),
    )
