"""What a client can do, wherever the project is."""

from __future__ import annotations

from abc import ABC, abstractmethod
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, TypeVar, overload

import polars as pl

from penstock.errors import InputError

from .frames import as_given, as_polars, rows_of

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import TracebackType
    from typing import Self

    from .frames import Row

__all__ = ["Client", "time_us", "with_at"]

F = TypeVar("F")
EPOCH, MICROSECOND = datetime(1970, 1, 1, tzinfo=UTC), timedelta(microseconds=1)


class Client(ABC):
    """Reads features by the name of a feature service. Safe across threads.

    Use it as a context manager, or close it. Errors are those of ``penstock.errors``, from a folder
    as over HTTP.
    """

    @abstractmethod
    def services(self) -> list[str]:
        """Names of the feature services.

        Raises:
            AccessError: The caller may not.
            UnavailableError: It cannot be reached.
        """

    def features(self, service: str, spine: F, *, at: datetime | None = None) -> F:
        """The features of entities as they were at given times, for training and analysis.

        Args:
            service: Name of the feature service.
            spine: A Polars or pandas frame with the key of each entity, and the time each row
                is wanted at in the column ``at``, with its zone.
            at: One time for all rows, for a spine without ``at``.

        Returns:
            The spine, all of its rows in their order, with a column for each feature; a frame of
            the kind that was handed in.

        Raises:
            NotFoundError: There is no such service; names the nearest.
            NotReadyError: A source has no records yet.
            InputError: The spine lacks a column, or has one of another type.
            NotSupportedError: It is asked over HTTP.
        """
        wanted = as_polars(spine)
        found = self._past(service, with_at(wanted, at))
        return as_given(spine, found.select(*wanted.columns, pl.exclude(*wanted.columns, "at")))

    @overload
    def online(self, service: str, entities: Row, *, at: datetime | None = None) -> Row: ...

    @overload
    def online(
        self, service: str, entities: Sequence[Row], *, at: datetime | None = None
    ) -> list[Row]: ...

    @overload
    def online(self, service: str, entities: F, *, at: datetime | None = None) -> F: ...

    def online(self, service: str, entities: object, *, at: datetime | None = None) -> object:
        """The features of entities as they are now, from the online store.

        Args:
            service: Name of the feature service.
            entities: One entity as a dictionary of its key, a list of such, or a Polars or pandas
                frame with a column of keys; in a frame, a column ``at`` gives each row its time.
            at: The time wanted instead of now. What is older than an entity's newest record cannot
                be told online: its values are then those at that record.

        Returns:
            For a dictionary, the features by full name, None for null; for a list, one such for
            each; for a frame, the frame with a column for each feature.

        Raises:
            NotFoundError: There is no such service; names the nearest.
            NotReadyError: The features have not been built.
            InputError: A key is missing, or of another type than the entity's.
            AccessError: The caller may not.
            UnavailableError: It cannot be reached, or did not answer in time.
        """
        if isinstance(entities, dict):
            return self._one(service, entities, at)
        if isinstance(entities, list | tuple):
            if not entities:
                return []
            return self._many(service, with_at(rows_of(entities), at)).to_dicts()
        wanted = as_polars(entities)
        found = self._many(service, with_at(wanted, at))
        twice = sorted(set(found.columns) & set(wanted.columns))
        if twice:
            raise InputError(f"The frame has the column {twice[0]!r} already. Rename or drop it.")
        return as_given(entities, pl.concat([wanted, found], how="horizontal"))

    @abstractmethod
    def close(self) -> None:
        """Let go of what it holds; it is not used afterwards."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    @abstractmethod
    def _past(self, service: str, spine: pl.DataFrame) -> pl.DataFrame:
        """The spine with the service's features as of its times."""

    @abstractmethod
    def _one(self, service: str, entity: Row, at: datetime | None) -> Row:
        """The features of one entity."""

    @abstractmethod
    def _many(self, service: str, entities: pl.DataFrame) -> pl.DataFrame:
        """The features of each row, without the row; at its ``at`` where it has one."""


def with_at(frame: pl.DataFrame, at: datetime | None) -> pl.DataFrame:
    """The frame with one time for all rows; itself without one.

    Raises:
        InputError: It has times already, or the time has no zone.
    """
    if at is None:
        return frame
    if "at" in frame.columns:
        raise InputError("The frame has the column 'at', and at= is given. Give one of them.")
    return frame.with_columns(at=pl.lit(time_us(at)).cast(pl.Datetime("us", "UTC")))


def time_us(at: datetime) -> int:
    """A time in microseconds since 1970 UTC.

    Raises:
        InputError: It has no zone.
    """
    if at.tzinfo is None:
        raise InputError(f"at={at} has no time zone. Give one, such as tzinfo=datetime.UTC.")
    return (at - EPOCH) // MICROSECOND
