"""What a feature service takes and gives over HTTP as JSON, typed from its declaration.

Answers are encoded from columns, or from structs whose fields are the features: no dictionary is
made for a row.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import msgspec
import numpy as np

from penstock.errors import InputError
from penstock.spec import DType

from .serve_feature_body import MOST_ROWS, WAYS, FeatureBody
from .serve_schema import moment, moment_us

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

    from penstock.algebra import IntArray
    from penstock.features import Reading
    from penstock.spec import FeatureService

__all__ = ["MOST_ROWS", "FeatureSchema", "Wanted"]

NOTHING: Mapping[str, list[object]] = {}


class Wanted(NamedTuple):
    """What a request asks for.

    Attributes:
        form: How it asks, and is answered: for one row, for rows, or by columns.
        rows: How many rows.
        keys: The entities' keys; of several entities, or of none, the keys of each by its name.
        at_us: The time asked for, in microseconds since 1970 UTC; one for all or one each.
        request: The values of each request field by its name, one per row.
    """

    form: Literal["one", "rows", "columns"]
    rows: int
    keys: Sequence[str | int] | Mapping[str, Sequence[str | int]]
    at_us: int | IntArray
    request: Mapping[str, Sequence[object]] = NOTHING


class FeatureSchema:
    """The requests and answers of one service.

    Args:
        service: The service.

    Attributes:
        service: The service.
        body: What it takes.
        service_id: The service's id, which takes a while to compute.
    """

    def __init__(self, service: FeatureService) -> None:
        self.service = service
        self.body = FeatureBody(service)
        dtypes = service.dtypes
        self._names = service.names
        self._whole = [place for place, dtype in enumerate(dtypes.values()) if dtype is DType.INT64]
        self._encode = msgspec.json.Encoder().encode
        fields = [(f"f{place}", float | int | None) for place in range(len(service.names))]
        rename = {f"f{place}": name for place, name in enumerate(service.names)}
        self._features: Any = msgspec.defstruct("Features", fields, rename=rename, gc=False)
        self.service_id = service.service_id

    def wanted(self, body: bytes, now_us: int) -> Wanted:
        """What a body asks for.

        Args:
            body: The body.
            now_us: The time where it names none.

        Raises:
            InputError: It is no JSON, or does not say what the service needs; says where.
        """
        given = self.body.decode(body)
        ways = [way for way in WAYS if getattr(given, way) is not msgspec.UNSET]
        if not ways and not self.body.keys:
            ways = ["entity"]  # whose key it is goes without saying
        if len(ways) != 1:
            raise self._no_way(ways)
        if ways[0] == "rows":
            return self._by_rows(given, now_us)
        if ways[0] == "entities":
            return self._by_columns(given, now_us)
        return self._one(given, now_us)

    def _one(self, given: Any, now_us: int) -> Wanted:  # noqa: ANN401 - a struct of the body
        at = given.at
        if isinstance(at, list):
            raise InputError("'at' is a list for one 'entity'. Give one time, or none for now.")
        at_us = now_us if at is None else moment_us(at)
        keys = () if given.entity is msgspec.UNSET else msgspec.structs.astuple(given.entity)
        if not self.body.request:
            return Wanted("one", 1, self.keys_by([[key] for key in keys]), at_us)
        fields = self._fields(given.request)
        for name, value in fields.items():
            if isinstance(value, list):
                raise InputError(f"'request' has a list of {name!r} for one 'entity'. Give one.")
        request = {name: [value] for name, value in fields.items()}
        return Wanted("one", 1, self.keys_by([[key] for key in keys]), at_us, request)

    def _by_rows(self, given: Any, now_us: int) -> Wanted:  # noqa: ANN401 - a struct of the body
        rows = given.rows
        for name, beside in (("at", given.at), ("request", given.request)):
            if beside is not None and beside is not msgspec.UNSET:
                raise InputError(
                    f"{name!r} stands beside 'rows'. Put it into each row that wants it."
                )
        times = np.array([now_us if row.at is None else moment_us(row.at) for row in rows])
        keys = self.keys_by(_columns([row.entity for row in rows]))
        if not self.body.request:
            return Wanted("rows", len(rows), keys, times)
        fields = _columns([row.request for row in rows])
        request = dict(zip(self.body.request, fields, strict=True))
        return Wanted("rows", len(rows), keys, times, request)

    def _by_columns(self, given: Any, now_us: int) -> Wanted:  # noqa: ANN401 - a struct of the body
        columns = dict(zip(self.body.keys, msgspec.structs.astuple(given.entities), strict=True))
        keys = self.keys_by(list(columns.values()))
        request = self._fields(given.request) if self.body.request else {}
        for name, value in request.items():
            if not isinstance(value, list):
                raise InputError(f"'request' has no list of {name!r}. Give a value for each row.")
        columns |= request
        rows = len(next(iter(columns.values())))
        for name, column in columns.items():
            if len(column) != rows:
                raise InputError(
                    f"There are {rows} of {next(iter(columns))!r} and {len(column)} of {name!r}. "
                    "Give one of each for every row."
                )
        return Wanted("columns", rows, keys, self._times(given.at, rows, now_us), request)

    def keys_by(self, columns: Sequence[Sequence[str | int]]) -> Any:  # noqa: ANN401 - as Wanted has it
        """The keys as ``Wanted`` has them, from a column for each entity in their order."""
        if len(columns) == 1:
            return columns[0]
        return dict(zip(self.body.keys, columns, strict=True))

    def _fields(self, given: Any) -> dict[str, Any]:  # noqa: ANN401 - a struct of the body, or unset
        if given is msgspec.UNSET:
            raise self.body.lacks_request("The body")
        return dict(zip(self.body.request, msgspec.structs.astuple(given), strict=True))

    def answer(self, wanted: Wanted, found: Reading, stale: Mapping[str, datetime]) -> bytes:
        """The body of an answer.

        Args:
            wanted: What was asked for.
            found: What was read.
            stale: Until when each view was fresh that no longer is.
        """
        if wanted.form == "one":
            told: dict[str, object] = {
                "features": self._row(found.values[0].tolist()),
                "as_of": moment(int(found.as_of_us[0])),
            }
        elif wanted.form == "columns":
            told = {"features": self.columns(found), "as_of": _texts(found.as_of_us)}
        else:
            rows = zip(found.values.tolist(), _texts(found.as_of_us), strict=True)
            told = {"rows": [{"features": self._row(row), "as_of": at} for row, at in rows]}
        told["unknown"] = len(found.unknown)
        told["service"] = self.service.name
        told["service_id"] = self.service_id
        if stale:
            told["stale"] = stale
        return self._encode(told)

    def columns(self, found: Reading) -> dict[str, list[Any]]:
        """The features by column: whole numbers for counts, None or NaN, which is written null."""
        columns = found.values.T.tolist()
        for place in self._whole:
            columns[place] = [_whole(value) for value in columns[place]]
        return dict(zip(self._names, columns, strict=True))

    def _row(self, values: list[Any]) -> object:
        """A row's features as a struct; msgspec writes NaN as null."""
        for place in self._whole:
            values[place] = _whole(values[place])
        return self._features(*values)

    def _times(self, at: Any, rows: int, now_us: int) -> int | IntArray:  # noqa: ANN401 - a time, times or none
        if not isinstance(at, list):
            return now_us if at is None else moment_us(at)
        if len(at) != rows:
            raise InputError(
                f"'at' has {len(at)} times for {rows} keys. Give one for each, or one for all."
            )
        return np.array([moment_us(one) for one in at])

    def _no_way(self, ways: list[str]) -> InputError:
        if ways:
            names = " and ".join(repr(way) for way in ways)
            return InputError(f"The body has {names}. Send one of them.")
        return InputError(f"The body names nobody. Send {self.body.example()}.")


def _columns(parts: Sequence[Any]) -> list[tuple[Any, ...]]:
    """The fields of structs, column by column."""
    return list(zip(*map(msgspec.structs.astuple, parts), strict=True))


def _whole(value: float) -> int | None:
    return int(value) if value == value else None  # noqa: PLR0124 - NaN is null


def _texts(as_of_us: IntArray) -> list[str]:
    """Times as text. Most often they are few: what is asked for as of now is of one time."""
    known: dict[int, str] = {}
    for at_us in set(times := as_of_us.tolist()):
        text = moment(at_us).isoformat()
        known[at_us] = f"{text.removesuffix('+00:00')}Z"
    return [known[at_us] for at_us in times]
