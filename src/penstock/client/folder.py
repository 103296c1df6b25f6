"""The client of a project folder: reads its tables and its online store itself."""

from __future__ import annotations

from contextlib import ExitStack
from math import isnan
from threading import Lock
from typing import TYPE_CHECKING, Any, NamedTuple

import polars as pl

from penstock.access import require_features
from penstock.features import Freshness, ServiceReader, check_past, point_in_time, spine_times
from penstock.plan import Catalogue
from penstock.runtime import open_services
from penstock.spec import DType, FeatureService, base_views, key_of

from .interface import AS_OF, EPOCH, MICROSECOND, Client, time_us
from .stored import check_stored, join_stored
from .takes import Takes
from .told import Told, stale_views, unknown_online, unknown_past

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime
    from pathlib import Path

    from penstock.algebra import IntArray
    from penstock.errors import StaleWarning
    from penstock.features import UnknownEntities

    from .frames import Row

__all__ = ["FolderClient"]

AT = "at"


class _Served(NamedTuple):
    """A service as it is read: its reader, and until when what that reads is fresh."""

    reader: ServiceReader
    freshness: Freshness


class FolderClient(Client):
    """A client of a project folder.

    Args:
        home: The folder.
        token: Of the user to be; the environment's ``PENSTOCK_TOKEN``, or whoever works on this
            machine, when left out.

    Raises:
        AccessError: Nobody has that token.
        NotReadyError: It has not been initialised.
        UnavailableError: This process has its stores open already.
    """

    def __init__(self, home: Path, *, token: str | None = None) -> None:
        self._stack = ExitStack()
        self._ports = self._stack.enter_context(open_services(home, token=token))
        self._lock = Lock()
        self._revision = -1
        self._catalogue = Catalogue({}, {})
        self._served: dict[str, _Served] = {}
        self._permitted: dict[str, tuple[int, FeatureService]] = {}

    def services(self) -> list[str]:
        """Names of the feature services."""
        return [service.name for service in self._applied().all(FeatureService)]

    def close(self) -> None:
        """Close the folder's stores."""
        self._stack.close()

    def _takes(self, service: str, *, again: bool = False) -> Takes:
        del again  # what is applied is looked up each time
        wanted = self._applied().feature_service(service)
        keys = {entity.name: entity.dtype for entity in wanted.entities}
        return Takes(service, keys, wanted.request_fields)

    def _past(
        self, service: str, spine: pl.DataFrame, *, as_known: bool, stored: Mapping[str, str]
    ) -> Told[pl.DataFrame]:
        wanted = self._permit(service)
        check_stored(stored, base_views(wanted.views), as_known=as_known)
        joined = join_stored(self._ports.tables, wanted, spine, stored)
        unknown: list[UnknownEntities] = []
        found = point_in_time(
            self._ports.tables,
            wanted.views,
            spine,
            as_known=as_known,
            memory_bytes=self._ports.features_memory_bytes,
            given=joined.features,
            notice=unknown.append,
        )
        notes = (*joined.notes, *(unknown_past(one) for one in unknown))
        return Told(found.select(wanted.names), notes)

    def _one(self, service: str, keys: Row, request: Row, *, at: datetime | None) -> Told[Row]:
        reader, freshness = self._reader(service)
        now_us = self._ports.clock.now_us()
        at_us = now_us if at is None else time_us(at)
        found = reader.read(_columns(keys), at_us, _columns(request))
        check_past(at_us, found.as_of_us, now_us)
        values: Row = {
            name: None if isnan(value) else int(value) if dtype is DType.INT64 else value
            for value, (name, dtype) in zip(
                found.values[0].tolist(), reader.service.dtypes.items(), strict=True
            )
        }
        values[AS_OF] = EPOCH + int(found.as_of_us[0]) * MICROSECOND
        notes = unknown_online(service, len(found.unknown), 1)
        return Told(values, (*self._stale(freshness, at_us), *notes))

    def _many(self, service: str, rows: pl.DataFrame) -> Told[pl.DataFrame]:
        reader, freshness = self._reader(service)
        now_us = self._ports.clock.now_us()
        at_us = spine_times(rows) if AT in rows.columns else now_us
        keys = {entity.name: rows[entity.name].to_list() for entity in reader.service.entities}
        request = {name: rows[name].to_list() for name in reader.service.request_fields}
        found = reader.read(keys, at_us, request)
        check_past(at_us, found.as_of_us, now_us)
        columns = [
            pl.Series(name, found.values[:, place], nan_to_null=True).cast(
                pl.Int64 if dtype is DType.INT64 else pl.Float64
            )
            for place, (name, dtype) in enumerate(reader.service.dtypes.items())
        ]
        columns.append(pl.Series(AS_OF, found.as_of_us).cast(pl.Datetime("us", "UTC")))
        notes = unknown_online(service, len(found.unknown), len(rows))
        return Told(pl.DataFrame(columns), (*self._stale(freshness, at_us), *notes))

    def _stale(self, freshness: Freshness, at_us: int | IntArray) -> tuple[StaleWarning, ...]:
        """What is stale of a service at the times wanted."""
        freshness.look_again(self._ports.metadata, self._ports.online, self._ports.clock.now_us())
        until_us = freshness.stale(at_us)
        return stale_views({view: EPOCH + end * MICROSECOND for view, end in until_us.items()})

    def _applied(self) -> Catalogue:
        """What is applied; read again when something was written."""
        revision = self._ports.metadata.revision()
        with self._lock:
            if revision != self._revision:
                self._catalogue = Catalogue.load(self._ports.metadata)
                self._revision = revision
            return self._catalogue

    def _permit(self, name: str) -> FeatureService:
        """The service of that name, which the caller may read.

        It is asked again when something was written: then it may be granted, or taken back.

        Raises:
            AccessError: The caller may not.
        """
        service = self._applied().feature_service(name)
        with self._lock:
            # Before what is decided by it is read; another thread may be a revision ahead.
            revision = self._revision
            decided, of = self._permitted.get(name, (-1, None))
            if decided == revision and of is service:
                return service
        require_features(self._ports, service.names, subject=key_of(service))
        with self._lock:
            self._permitted[name] = (revision, service)
        return service

    def _reader(self, name: str) -> _Served:
        """The reader of a service, compiled once while the service stays as it is."""
        service = self._permit(name)
        with self._lock:
            known = self._served.get(name)
            if known is None or known.reader.service != service:
                reader = ServiceReader(self._ports.online, service)
                known = self._served[name] = _Served(reader, Freshness(service.views))
        return known


def _columns(row: Row) -> dict[str, list[Any]]:
    """A row, column by column."""
    return {name: [value] for name, value in row.items()}
