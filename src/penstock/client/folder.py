"""The client of a project folder: reads its tables and its online store itself."""

from __future__ import annotations

from contextlib import ExitStack
from math import isnan
from threading import Lock
from typing import TYPE_CHECKING

import polars as pl

from penstock.errors import InputError, NotSupportedError, nearest
from penstock.features import ServiceReader, point_in_time, spine_times
from penstock.plan import Catalogue
from penstock.runtime import open_services
from penstock.spec import DType, FeatureService

from .interface import Client, time_us

if TYPE_CHECKING:
    from datetime import datetime
    from pathlib import Path

    from .frames import Row

__all__ = ["FolderClient"]

AT = "at"


class FolderClient(Client):
    """A client of a project folder.

    Args:
        home: The folder.

    Raises:
        NotReadyError: It has not been initialised.
        UnavailableError: This process has its stores open already.
    """

    def __init__(self, home: Path) -> None:
        self._stack = ExitStack()
        self._ports = self._stack.enter_context(open_services(home))
        self._lock = Lock()
        self._revision = -1
        self._catalogue = Catalogue({}, {})
        self._readers: dict[str, ServiceReader] = {}

    def services(self) -> list[str]:
        """Names of the feature services."""
        return [service.name for service in self._applied().all(FeatureService)]

    def close(self) -> None:
        """Close the folder's stores."""
        self._stack.close()

    def _past(self, service: str, spine: pl.DataFrame) -> pl.DataFrame:
        wanted = self._applied().feature_service(service)
        found = point_in_time(self._ports.tables, wanted.views, spine)
        return found.select(*spine.columns, *wanted.names)

    def _one(self, service: str, entity: Row, at: datetime | None) -> Row:
        reader = self._reader(service)
        (key,) = (one.name for one in reader.service.entities)
        if list(entity) != [key]:
            raise InputError(f"The entity is {entity!r}. Give its key as {{{key!r}: ...}}.")
        at_us = self._ports.clock.now_us() if at is None else time_us(at)
        (values,) = reader.read([entity[key]], at_us).values.tolist()
        return {
            name: None if isnan(value) else int(value) if dtype is DType.INT64 else value
            for value, (name, dtype) in zip(values, reader.service.dtypes.items(), strict=True)
        }

    def _many(self, service: str, entities: pl.DataFrame) -> pl.DataFrame:
        reader = self._reader(service)
        (entity,) = reader.service.entities
        if entity.name not in entities.columns:
            near = nearest(entity.name, entities.columns)
            raise InputError(f"The key {entity.name!r} is missing. {near}", key=entity.name)
        at_us = spine_times(entities) if AT in entities.columns else self._ports.clock.now_us()
        values = reader.read(entities[entity.name].to_list(), at_us).values
        return pl.DataFrame(
            [
                pl.Series(name, values[:, place], nan_to_null=True).cast(
                    pl.Int64 if dtype is DType.INT64 else pl.Float64
                )
                for place, (name, dtype) in enumerate(reader.service.dtypes.items())
            ]
        )

    def _applied(self) -> Catalogue:
        """What is applied; read again when something was written."""
        revision = self._ports.metadata.revision()
        with self._lock:
            if revision != self._revision:
                self._catalogue = Catalogue.load(self._ports.metadata)
                self._revision = revision
            return self._catalogue

    def _reader(self, name: str) -> ServiceReader:
        """The reader of a service, compiled once while the service stays as it is."""
        service = self._applied().feature_service(name)
        if len(service.entities) != 1 or service.request_fields:
            raise NotSupportedError(
                f"The feature service {name!r} is about several entities or takes request fields, "
                "which a client does not read yet. Use penstock.features.OnlineReader.",
                service=name,
            )
        with self._lock:
            known = self._readers.get(name)
            if known is None or known.service != service:
                known = self._readers[name] = ServiceReader(self._ports.online, service)
        return known
