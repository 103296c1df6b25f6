"""What a feature service takes and gives over HTTP as JSON, typed from its declaration.

A body is decoded straight into a struct made for the service; only one that fails is looked at
again, to say in words what is wrong with it. Answers are encoded from columns, or from structs
whose fields are the features: no dictionary is made for a row.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal, NamedTuple

import msgspec
import numpy as np

from penstock.errors import InputError, NotSupportedError, nearest
from penstock.spec import DType

from .serve_schema import AT, TIME, decode_anything, moment, moment_us

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from penstock.algebra import IntArray
    from penstock.features import Reading
    from penstock.spec import FeatureService

__all__ = ["MOST_ROWS", "FeatureSchema", "Wanted"]

MOST_ROWS = 1_000
FIELDS = ("entity", "rows", "entities", "at")
ROW_FIELDS = ("entity", "at")
INT64 = Annotated[int, msgspec.Meta(ge=-(1 << 63), le=(1 << 63) - 1)]


class Wanted(NamedTuple):
    """What a request asks for.

    Attributes:
        form: How it asks, and is answered: for one entity, for rows, or by columns.
        keys: The entities' keys.
        at_us: The time asked for, in microseconds since 1970 UTC; one for all or one each.
    """

    form: Literal["one", "rows", "columns"]
    keys: Sequence[str | int]
    at_us: int | IntArray


class FeatureSchema:
    """The requests and answers of one service.

    Args:
        service: The service.

    Raises:
        NotSupportedError: It is about several entities, or takes request fields.

    Attributes:
        service: The service.
        key: Name of its entity, which the requests give keys of.
        key_type: Python's type of a key.
        service_id: The service's id, which takes a while to compute.
    """

    def __init__(self, service: FeatureService) -> None:
        self.service = service
        if len(service.entities) != 1 or service.request_fields:
            raise NotSupportedError(
                f"The feature service {service.name!r} is about several entities or takes request "
                "fields, which the feature server does not answer yet. Ask a deployment, or read "
                "it with penstock.features.OnlineReader."
            )
        (entity,) = service.entities
        self.key = entity.name
        self.key_type = int if entity.dtype is DType.INT64 else str
        self._whole = [dtype is DType.INT64 for dtype in service.dtypes.values()]
        self._decode = msgspec.json.Decoder(_body(entity.name, self.key_type)).decode
        self._encode = msgspec.json.Encoder().encode
        fields = [(f"f{place}", float | int | None) for place in range(len(service.names))]
        rename = {f"f{place}": name for place, name in enumerate(service.names)}
        self._features: Any = msgspec.defstruct("Features", fields, rename=rename, gc=False)
        self.service_id = service.service_id
        self._head = {"service": service.name, "service_id": self.service_id}

    def wanted(self, body: bytes, now_us: int) -> Wanted:
        """What a body asks for.

        Args:
            body: The body.
            now_us: The time where it names none.

        Raises:
            InputError: It is no JSON, or does not say what the service needs; says where.
        """
        try:
            given: Any = self._decode(body)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise self._explain(body, error) from None
        ways = [way for way in FIELDS[:3] if getattr(given, way) is not msgspec.UNSET]
        if len(ways) != 1:
            raise self._no_way(ways)
        at = given.at
        if ways[0] == "rows":
            if at is not None:
                raise InputError("'at' stands beside 'rows'. Put it into each row that wants it.")
            times = [now_us if row.at is None else moment_us(row.at) for row in given.rows]
            return Wanted("rows", [row.entity.key for row in given.rows], np.array(times))
        if ways[0] == "entities":
            keys = given.entities.keys
            return Wanted("columns", keys, self._times(at, len(keys), now_us))
        if isinstance(at, list):
            raise InputError("'at' is a list for one 'entity'. Give one time, or none for now.")
        return Wanted("one", [given.entity.key], now_us if at is None else moment_us(at))

    def answer(self, wanted: Wanted, found: Reading) -> bytes:
        """The body of an answer."""
        unknown = len(found.unknown)
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
        return self._encode(told | {"unknown": unknown} | self._head)

    def columns(self, found: Reading) -> dict[str, list[Any]]:
        """The features by column: whole numbers for counts, NaN or None for null."""
        columns = found.values.T.tolist()
        return {
            name: [_whole(value) for value in column] if whole else column
            for name, column, whole in zip(self.service.names, columns, self._whole, strict=True)
        }

    def _row(self, values: list[Any]) -> object:
        """A row's features as a struct; msgspec writes NaN as null."""
        for place, whole in enumerate(self._whole):
            if whole:
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
        return InputError(
            f'The body names nobody. Send {{"entity": {{"{self.key}": ...}}}}, {{"rows": '
            f'[{{"entity": ...}}, ...]}} or {{"entities": {{"{self.key}": [...]}}}}.'
        )

    def _explain(self, body: bytes, error: Exception) -> InputError:
        """Say in words what is wrong with a body that did not decode."""
        try:
            document = decode_anything(body)
        except InputError as wrong:
            return wrong
        if not isinstance(document, dict):
            return InputError("The body is no object. Send an object with 'entity' or 'entities'.")
        for fault in self._faults(document):
            return InputError(fault)
        return InputError(f"The body does not fit: {error}. '/openapi.json' says what does.")

    def _faults(self, given: Mapping[str, object]) -> Iterator[str]:
        """What is wrong, as far as there are better words than the decoder's."""
        yield from _strangers(given, FIELDS, "The body")
        rows = given.get("rows")
        if isinstance(rows, list):
            yield from _too_many(len(rows), "rows")
            for number, row in enumerate(rows):
                if isinstance(row, dict):
                    yield from _strangers(row, ROW_FIELDS, f"rows[{number}]")
                    yield from self._key_faults(row.get("entity"), f"rows[{number}].entity")
        for name in ("entity", "entities"):
            yield from self._key_faults(given.get(name), f"'{name}'")
        entities = given.get("entities")
        keys = entities.get(self.key) if isinstance(entities, dict) else None
        if isinstance(keys, list):
            yield from _too_many(len(keys), "keys")

    def _key_faults(self, given: object, where: str) -> Iterator[str]:
        if not isinstance(given, dict):
            return
        yield from _strangers(given, [self.key], where)
        if self.key not in given:
            yield f"{where} lacks {self.key!r}, which the features of this service are about."


def _body(key: str, key_type: type) -> Any:  # noqa: ANN401 - a struct made here
    kind: Any = INT64 if key_type is int else str
    entity: Any = msgspec.defstruct(
        "Entity", [("key", kind)], rename={"key": key}, forbid_unknown_fields=True
    )
    keys: Any = Annotated[list[kind], msgspec.Meta(min_length=1, max_length=MOST_ROWS)]
    entities: Any = msgspec.defstruct(
        "Entities", [("keys", keys)], rename={"keys": key}, forbid_unknown_fields=True
    )
    row: Any = msgspec.defstruct(
        "Row", [("entity", entity), ("at", AT, None)], forbid_unknown_fields=True
    )
    rows: Any = Annotated[list[row], msgspec.Meta(min_length=1, max_length=MOST_ROWS)]
    fields: list[tuple[str, Any, Any]] = [
        ("entity", entity | msgspec.UnsetType, msgspec.UNSET),
        ("rows", rows | msgspec.UnsetType, msgspec.UNSET),
        ("entities", entities | msgspec.UnsetType, msgspec.UNSET),
        ("at", AT | list[TIME], None),
    ]
    return msgspec.defstruct("Body", fields, forbid_unknown_fields=True)


def _strangers(given: Mapping[str, object], known: Sequence[str], where: str) -> Iterator[str]:
    for name in given:
        if name not in known:
            yield f"{where} has {name!r}. {nearest(name, known)}"


def _too_many(rows: int, what: str) -> Iterator[str]:
    if not 0 < rows <= MOST_ROWS:
        yield f"There are {rows:,} {what}. Send 1 to {MOST_ROWS:,} at once."


def _whole(value: float) -> int | None:
    return int(value) if value == value else None  # noqa: PLR0124 - NaN is null


def _texts(as_of_us: IntArray) -> list[str]:
    """Times as text. Most often they are few: what is asked for as of now is of one time."""
    known: dict[int, str] = {}
    for at_us in set(times := as_of_us.tolist()):
        text = moment(at_us).isoformat()
        known[at_us] = f"{text.removesuffix('+00:00')}Z"
    return [known[at_us] for at_us in times]
