"""What a client can do, wherever the project is."""

from __future__ import annotations

from abc import ABC, abstractmethod
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Literal, TypeAlias, TypeVar, cast, overload

import polars as pl

from penstock.errors import InputError

from .frames import as_given, as_polars, rows_of
from .told import Told, check_stale, refuse, warn

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from types import TracebackType
    from typing import Self

    from .frames import Row
    from .takes import Takes

__all__ = ["AS_OF", "EPOCH", "MICROSECOND", "Client", "time_us", "with_at"]

F = TypeVar("F")
T = TypeVar("T")
Stale: TypeAlias = Literal["serve", "refuse"]
AS_OF = "as_of"
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

    def features(
        self,
        service: str,
        spine: F,
        *,
        at: datetime | None = None,
        as_known: bool = False,
        stored: Mapping[str, str] | None = None,
    ) -> F:
        """The features of entities as they were at given times, for training and analysis.

        Args:
            service: Name of the feature service.
            spine: A Polars or pandas frame with the key of each entity, the request fields of
                on-demand views, and the time each row is wanted at in the column ``at``, with its
                zone.
            at: One time for all rows, for a spine without ``at``.
            as_known: Only from records that had arrived by a row's time, as the serving process
                saw them, late ones left out; a deleted one counts until its deletion arrived.
                Files count as arrived when they were ingested.
            stored: Views whose features are not computed at a row's time, but are those that
                ``penstock features backfill`` stored last before it, to the greatest age they may
                have: ``{"momentum": "1h"}``. Where there is none so young, they are null.

        Returns:
            The spine, all of its rows in their order, with a column for each feature; a frame of
            the kind that was handed in. A row without a key has the features of an unknown entity.

        Raises:
            NotFoundError: There is no such service; names the nearest.
            NotReadyError: A source has no records yet; or stored features are wanted that are not
                there, end too early before the spine's last time, or may hold deleted records.
            InputError: The spine lacks a column, or has one of another type; or what is asked of
                stored features cannot be.
            NotSupportedError: It is asked over HTTP.

        Warns:
            UnknownEntitiesWarning: A source has no records of entities that rows name; one for
                each view, with how many.
            StoredFeaturesWarning: Rows found no stored features so young, or those lack records
                that came in later; one for each view and what it lacks.
        """
        wanted = as_polars(spine)
        timed = with_at(wanted, at)
        found = self._taking(
            service,
            lambda takes: self._past(
                service,
                takes.columns(timed, keyless=True),
                as_known=as_known,
                stored=stored or {},
            ),
        )
        given = as_given(spine, _beside(wanted, found.features))
        warn(found.notes)
        return given

    @overload
    def online(
        self,
        service: str,
        entities: Row,
        *,
        at: datetime | None = None,
        stale: Stale = "serve",
        as_of: bool = False,
    ) -> Row: ...

    @overload
    def online(
        self,
        service: str,
        entities: Sequence[Row],
        *,
        at: datetime | None = None,
        stale: Stale = "serve",
        as_of: bool = False,
    ) -> list[Row]: ...

    @overload
    def online(
        self,
        service: str,
        entities: F,
        *,
        at: datetime | None = None,
        stale: Stale = "serve",
        as_of: bool = False,
    ) -> F: ...

    def online(
        self,
        service: str,
        entities: object,
        *,
        at: datetime | None = None,
        stale: Stale = "serve",
        as_of: bool = False,
    ) -> object:
        """The features of entities as they are now, from the online store.

        Args:
            service: Name of the feature service.
            entities: One row as a dictionary, a list of such, or a Polars or pandas frame: the key
                of each entity and each request field by its name, which tells them apart. A field
                may be None. In a frame, a column ``at`` gives each row its time, and columns that
                the service does not take are let be.
            at: The time wanted instead of now. One before an entity's newest record, or before the
                horizon of a view that has nothing of it, cannot be told online and is refused;
                ``features`` tells of it.
            stale: What to do where a view is older at that time than its ``freshness`` allows:
                answer all the same and warn, or refuse. Ages are looked at once a second.
            as_of: Whether each answer says in ``as_of``, beside the features, of which time it is:
                the one wanted, or, of now, that of the entity's newest record where its clock is
                ahead.

        Returns:
            For a dictionary, the features by full name, None for null; for a list, one such for
            each; for a frame, the frame with a column for each feature.

        Raises:
            NotFoundError: There is no such service; names the nearest.
            NotReadyError: The features have not been built.
            StaleError: They are stale, and are refused then.
            InputError: A key or a request field is missing, or of another type than declared; or a
                time cannot be told online any more.
            AccessError: The caller may not.
            UnavailableError: It cannot be reached, or did not answer in time.

        Warns:
            StaleWarning: A view is stale, and is served all the same; one for each.
            UnknownEntitiesWarning: Rows are of entities that the online store does not know; with
                how many.
        """
        check_stale(stale)
        answer, notes = self._online(service, entities, at=at, as_of=as_of)
        if stale == "refuse":
            refuse(notes)
        warn(notes)
        return answer

    def _online(
        self, service: str, entities: object, *, at: datetime | None, as_of: bool
    ) -> Told[object]:
        """What was found, as it was asked for."""
        if isinstance(entities, dict):
            row = entities
            if at is not None:
                time_us(at)
            one = self._taking(service, lambda takes: self._one(service, *takes.parted(row), at=at))
            if not as_of:
                del one.features[AS_OF]
            return Told(one.features, one.notes)
        if isinstance(entities, list | tuple):
            if not entities:
                return Told([])
            rows = with_at(rows_of(entities), at)
            many = self._taking(service, lambda t: self._many(service, t.columns(rows)))
            return Told(_with(many.features, as_of=as_of).to_dicts(), many.notes)
        wanted = as_polars(entities)
        timed = with_at(wanted, at)
        found = self._taking(service, lambda takes: self._many(service, takes.columns(timed)))
        features = _with(found.features, as_of=as_of)
        return Told(as_given(entities, _beside(wanted, features)), found.notes)

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

    def _taking(self, service: str, ask: Callable[[Takes], T]) -> T:
        """Ask with what the service takes; once more where it has changed meanwhile."""
        takes = self._takes(service)
        try:
            return ask(takes)
        except InputError:
            now = self._takes(service, again=True)
            if now == takes:
                raise
        return ask(now)

    @abstractmethod
    def _takes(self, service: str, *, again: bool = False) -> Takes:
        """What a service takes; ``again`` not to rely on what was known before."""

    @abstractmethod
    def _past(
        self, service: str, spine: pl.DataFrame, *, as_known: bool, stored: Mapping[str, str]
    ) -> Told[pl.DataFrame]:
        """The service's features at each row of a spine, without the row."""

    @abstractmethod
    def _one(self, service: str, keys: Row, request: Row, *, at: datetime | None) -> Told[Row]:
        """The features of one row, and in ``as_of`` when they are of."""

    @abstractmethod
    def _many(self, service: str, rows: pl.DataFrame) -> Told[pl.DataFrame]:
        """The features of each row, without the row; at its ``at`` where it has one.

        In ``as_of``, when they are of.
        """


def _with(features: pl.DataFrame, *, as_of: bool) -> pl.DataFrame:
    """The features, with when they are of or without."""
    return features if as_of else features.drop(AS_OF)


def _beside(frame: pl.DataFrame, features: pl.DataFrame) -> pl.DataFrame:
    """The frame with the features beside.

    Raises:
        InputError: It has a feature's column already.
    """
    twice = sorted(set(features.columns) & set(frame.columns))
    if twice:
        raise InputError(f"The frame has the column {twice[0]!r} already. Rename or drop it.")
    return pl.concat([frame, features], how="horizontal")


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
        InputError: It is no time, or has no zone.
    """
    given = cast("object", at)  # a notebook is not type-checked
    if not isinstance(given, datetime):
        raise InputError(
            f"at={given!r} is no time. Give one with its zone: datetime(2024, 3, 1, tzinfo=UTC)."
        )
    if at.tzinfo is None:
        raise InputError(f"at={at} has no time zone. Give one, such as tzinfo=datetime.UTC.")
    return (at - EPOCH) // MICROSECOND
