"""The command that looks features up: of a view or a service, online or as of a time."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import polars as pl
import typer

from penstock.access import require_features
from penstock.errors import NotFoundError
from penstock.features import (
    ServiceReader,
    UnknownEntities,
    point_in_time,
    request_dtype,
    view_ages,
)
from penstock.plan import Catalogue
from penstock.runtime import open_services
from penstock.spec import DType, FeatureService, FeatureView, OnDemandView, base_views, key_of

from .failures import UsageError
from .given import given_values, value_of
from .screen import Screen, table
from .times import time_text, time_us
from .unknown import unknown_notes

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from penstock.ports import Services
    from penstock.records import Given
    from penstock.spec import View

__all__ = ["features_get"]

DIGITS = 10
"""Enough to tell values apart, few enough to leave out what rounding adds."""


class _Asked(NamedTuple):
    """What is asked: rows of keys, and the request fields, the same for all of them.

    Attributes:
        service: What is asked for; a view as a service of all its features.
        keys: The keys of each entity by its name, one per row.
        request: The value of each request field.
        rows: How many rows.
    """

    service: FeatureService
    keys: Mapping[str, Sequence[str | int]]
    request: Mapping[str, Given]
    rows: int

    def frame(self) -> pl.DataFrame:
        """The rows as a spine has them."""
        fields = self.service.request_fields
        return pl.DataFrame(
            [
                *(pl.Series(name, values) for name, values in self.keys.items()),
                *(
                    pl.Series(name, [value] * self.rows, dtype=request_dtype(fields[name]))
                    for name, value in self.request.items()
                ),
            ]
        )


def features_get(  # noqa: PLR0913, PLR0917 - one parameter for each option
    screen: Screen,
    name: str = typer.Argument(
        help="The feature view, VIEW.FEATURE, on-demand view or feature service."
    ),
    keys: list[str] = typer.Option(
        [],
        "--keys",
        "--key",
        help="Entity keys, with commas between them; of several entities NAME=KEYS each.",
    ),
    request: list[str] = typer.Option(
        [], "--request", help="NAME=VALUE of a request field; all that are taken."
    ),
    at: str = typer.Option(
        "", "--at", help="As they were at this time, such as 2024-03-01 or 2024-03-01T12:00Z."
    ),
    as_known: bool = typer.Option(
        False, "--as-known", help="With --at, only from records that had arrived by then."
    ),
) -> None:
    """Show features by key, from the online store or as of a time."""
    at_us = time_us("--at", at)
    if as_known and at_us is None:
        raise UsageError("--as-known asks for what had arrived by a time. Give --at with it.")
    with open_services(screen.home) as services:
        service = _named(Catalogue.load(services.metadata), name)
        asked = _asked(service, keys, request)
        named = {view.name: view for view in service.views}.get(service.name, service)
        require_features(services, service.names, subject=key_of(named))
        if at_us is not None:
            frame, notes = _as_of(services, asked, at_us, as_known=as_known)
        else:
            frame, notes = _online(services, asked), [*_notes(services, asked)]
    for note in notes:
        screen.say(note)
    values = [dict(zip(frame.columns, row, strict=True)) for row in frame.iter_rows()]
    head = [", ".join(map(str, row)) for row in zip(*asked.keys.values(), strict=True)]
    columns = ["", *(head or [""] * asked.rows)]
    shown = [name for name in frame.columns if name not in asked.keys]
    rows = [[name, *(_cell(value) for value in frame[name])] for name in shown]
    screen.show(values, table(columns, rows, right=columns[1:]))


def _named(catalogue: Catalogue, name: str) -> FeatureService:
    """The view, a feature of one, or the service of that name; a view comes before a service."""
    catalogue.require_applied()
    stored = catalogue.all(FeatureView)
    views: list[View] = [*stored, *catalogue.all(OnDemandView)]
    services = catalogue.all(FeatureService)
    for view in views:
        if view.name == name:
            return FeatureService(name=name, features=[view])
    single = {
        f"{view.name}.{one.name}": (view, one.name) for view in stored for one in view.features
    }
    if name in single:
        view, feature = single[name]
        return FeatureService(name=view.name, features=[view[feature]])
    for service in services:
        if service.name == name:
            return service
    known = [one.name for one in (*views, *services)]
    hint = "Declare it and run 'penstock apply'."
    raise NotFoundError.of(
        "feature view or service", name, single if "." in name else known, hint=hint
    )


def _asked(service: FeatureService, words: Sequence[str], request: Sequence[str]) -> _Asked:
    fields = given_values("--request", request, service.request_fields, of=repr(service.name))
    if service.request_fields and not fields:
        missing = " ".join(f"--request {name}=..." for name in service.request_fields)
        raise UsageError(f"{missing} is missing.", missing=list(service.request_fields))
    keys = _keys({entity.name: entity.dtype for entity in service.entities}, words)
    rows = max((len(one) for one in keys.values()), default=1)
    for name, one in keys.items():
        if len(one) != rows:
            raise UsageError(
                f"--key {name}=... has {len(one)} keys where another has {rows}. Give as many of "
                "each."
            )
    return _Asked(service, keys, fields, rows)


def _keys(dtypes: Mapping[str, DType], words: Sequence[str]) -> dict[str, list[str | int]]:
    """The keys of each entity; of a single one they need no name."""
    only = next(iter(dtypes)) if len(dtypes) == 1 else ""
    texts: dict[str, str] = {}
    for word in words:
        name, sign, rest = word.partition("=")
        named = bool(sign) and name in dtypes
        if only and not named:
            texts[only] = ",".join(filter(None, [texts.get(only, ""), word]))
        else:
            texts[name] = rest
    named_all = dict.fromkeys(dtypes, DType.STRING)
    given_values("--key", [f"{name}=" for name in texts], named_all, of="It")
    found = {name: [word.strip() for word in texts.get(name, "").split(",")] for name in dtypes}
    for name, each in found.items():
        if not any(each):
            example = "--keys BTCUSDT" if only else f"--key {name}=..."
            raise UsageError(f"--keys names no entity. Give at least one, such as {example}.")
    return {
        name: [_key(name, word, dtypes[name]) for word in each if word]
        for name, each in found.items()
    }


def _key(name: str, word: str, dtype: DType) -> str | int:
    value = value_of(f"--key {name}", word, dtype)
    return value if isinstance(value, int) else word


def _online(services: Services, asked: _Asked) -> pl.DataFrame:
    reader = ServiceReader(services.online, asked.service)
    request = {name: [value] * asked.rows for name, value in asked.request.items()}
    found = reader.read(asked.keys, services.clock.now_us(), request)
    columns = [
        pl.Series(name, found.values[:, place], nan_to_null=True).cast(
            pl.Int64 if dtype is DType.INT64 else pl.Float64
        )
        for place, (name, dtype) in enumerate(asked.service.dtypes.items())
    ]
    as_of = pl.Series("as_of", [time_text(int(us)) for us in found.as_of_us])
    return asked.frame().with_columns(as_of, *columns)


def _notes(services: Services, asked: _Asked) -> Iterator[str]:
    """What the online store does not know, and what of it is old."""
    now_us = services.clock.now_us()
    for view in base_views(asked.service.views):
        for age in view_ages(services.metadata, services.online, [view]):
            if age.is_stale(now_us):
                yield age.error(now_us).message
        yield from unknown_notes(services.online, [view], asked.keys, what="these are the features")


def _as_of(
    services: Services, asked: _Asked, at_us: int, *, as_known: bool
) -> tuple[pl.DataFrame, list[str]]:
    told: list[UnknownEntities] = []
    found = point_in_time(
        services.tables,
        asked.service.views,
        asked.frame().with_columns(at=pl.lit(at_us).cast(pl.Datetime("us", "UTC"))),
        as_known=as_known,
        memory_bytes=services.features_memory_bytes,
        notice=told.append,
    )
    shown = found.select(*asked.keys, *asked.request, "at", *asked.service.names)
    return shown.with_columns(at=pl.lit(time_text(at_us))), [f"{one.sentence}." for one in told]


def _cell(value: object) -> str:
    if isinstance(value, float):
        return f"{value:,.{DIGITS}g}"
    return "-" if value is None else str(value)
