"""Bodies of requests to a feature service: the struct they are decoded into, and their faults.

The struct is made for the service, so that names and types are checked while it is decoded. Only a
body that fails is looked at again, to say in words what is wrong with it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Optional

import msgspec

from penstock.errors import InputError, nearest
from penstock.spec import DType

from .serve_schema import AT, TIME, decode_anything, misfit

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from penstock.spec import FeatureService

__all__ = ["MOST_ROWS", "WAYS", "FeatureBody"]

MOST_ROWS = 1_000
WAYS = ("entity", "rows", "entities")
FIELDS = (*WAYS, "request", "at")
ROW_FIELDS = ("entity", "request", "at")
INT64 = Annotated[int, msgspec.Meta(ge=-(1 << 63), le=(1 << 63) - 1)]
KINDS: Mapping[DType, Any] = {
    DType.STRING: str,
    DType.INT64: INT64,
    DType.FLOAT64: float,
    DType.BOOLEAN: bool,
}


class FeatureBody:
    """The bodies that a service takes.

    Args:
        service: The service.

    Attributes:
        keys: Type of the key of each entity that the service is about, by the entity's name.
        request: Type of each request field, by its name.
    """

    def __init__(self, service: FeatureService) -> None:
        self.keys = {entity.name: entity.dtype for entity in service.entities}
        self.request = dict(service.request_fields)
        self._decode = msgspec.json.Decoder(_body(self.keys, self.request)).decode

    def decode(self, body: bytes) -> Any:  # noqa: ANN401 - a struct made for the service
        """The body as a struct with the fields of ``FIELDS``; what is left out is unset.

        The parts ``entity``, ``entities`` and ``request`` are structs of the keys and the fields
        in their order. A field of ``request`` is a value, a list of values, or None.

        Raises:
            InputError: It is no JSON, or does not say what the service needs; says where.
        """
        try:
            return self._decode(body)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise self._explain(body, error) from None

    def example(self) -> str:
        """The forms of a body in words."""
        keys = ", ".join(f'"{name}": ...' for name in self.keys)
        lists = ", ".join(f'"{name}": [...]' for name in self.keys)
        return (
            f'{{"entity": {{{keys}}}}}, {{"rows": [{{"entity": ...}}, ...]}} or '
            f'{{"entities": {{{lists}}}}}'
        )

    def lacks_request(self, where: str) -> InputError:
        """The error of a body that lacks the request's fields."""
        names = ", ".join(self.request)
        return InputError(
            f"{where} lacks 'request'. Send it with {names}; null for one without a value."
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
        return misfit(error)

    def _faults(self, given: Mapping[str, object]) -> Iterator[str]:
        """What is wrong, as far as there are better words than the decoder's."""
        yield from _strangers(given, FIELDS, "The body")
        rows = given.get("rows")
        if isinstance(rows, list):
            yield from _too_many(len(rows), "rows")
            for number, row in enumerate(rows):
                if isinstance(row, dict):
                    yield from self._row_faults(row, f"rows[{number}]")
        for name in ("entity", "entities"):
            yield from self._key_faults(given.get(name), f"'{name}'")
        entities = given.get("entities")
        columns = entities.values() if isinstance(entities, dict) else ()
        for column in columns:
            if isinstance(column, list):
                yield from _too_many(len(column), "keys")
        yield from self._request_faults(given.get("request"), "'request'")

    def _row_faults(self, row: Mapping[str, object], where: str) -> Iterator[str]:
        yield from _strangers(row, ROW_FIELDS, where)
        yield from self._key_faults(row.get("entity"), f"{where}.entity")
        if self.request and "request" not in row:
            yield self.lacks_request(where).message
        yield from self._request_faults(row.get("request"), f"{where}.request")

    def _key_faults(self, given: object, where: str) -> Iterator[str]:
        if not isinstance(given, dict):
            return
        yield from _strangers(given, list(self.keys), where)
        for name in self.keys:
            if name not in given:
                yield f"{where} lacks {name!r}, which the features of this service are about."

    def _request_faults(self, given: object, where: str) -> Iterator[str]:
        if not isinstance(given, dict):
            return
        yield from _strangers(given, list(self.request), where)
        for name in self.request:
            if name not in given:
                yield f"{where} lacks {name!r}. Send null where it has no value."


def _body(keys: Mapping[str, DType], request: Mapping[str, DType]) -> Any:  # noqa: ANN401 - a struct made here
    entity = _struct("Entity", {name: KINDS[dtype] for name, dtype in keys.items()})
    entities = _struct("Entities", {name: _list(KINDS[dtype]) for name, dtype in keys.items()})
    known = {name: Optional[KINDS[dtype]] for name, dtype in request.items()}  # noqa: UP045 - at run time
    one = _struct("Request", known)
    either = _struct("Requests", {name: kind | _list(kind) for name, kind in known.items()})
    row: Any = msgspec.defstruct(
        "Row",
        [_part("entity", entity, keys), _part("request", one, request), ("at", AT, None)],
        forbid_unknown_fields=True,
        kw_only=True,
    )
    fields: list[tuple[str, Any, Any]] = [
        ("entity", entity | msgspec.UnsetType, msgspec.UNSET),
        ("rows", _list(row) | msgspec.UnsetType, msgspec.UNSET),
        ("entities", entities | msgspec.UnsetType, msgspec.UNSET),
        ("request", either | msgspec.UnsetType, msgspec.UNSET),
        ("at", AT | list[TIME], None),
    ]
    return msgspec.defstruct("Body", fields, forbid_unknown_fields=True)


def _struct(name: str, fields: Mapping[str, Any]) -> Any:  # noqa: ANN401 - a class made here
    """A class with these fields, whatever their names are."""
    return msgspec.defstruct(
        name,
        [(f"f{place}", kind) for place, kind in enumerate(fields.values())],
        rename={f"f{place}": field for place, field in enumerate(fields)},
        forbid_unknown_fields=True,
        frozen=True,
        gc=False,
    )


def _part(name: str, kind: Any, needs: Mapping[str, DType]) -> Any:  # noqa: ANN401 - as msgspec has it
    """A part of a row; one that has nothing in it may be left out."""
    return (name, kind) if needs else (name, kind, kind())


def _list(kind: Any) -> Any:  # noqa: ANN401 - a type made here
    return Annotated[list[kind], msgspec.Meta(min_length=1, max_length=MOST_ROWS)]


def _strangers(given: Mapping[str, object], known: Sequence[str], where: str) -> Iterator[str]:
    for name in given:
        if name not in known:
            yield f"{where} has {name!r}. {nearest(name, known) or 'It takes none.'}"


def _too_many(rows: int, what: str) -> Iterator[str]:
    if not 0 < rows <= MOST_ROWS:
        yield f"There are {rows:,} {what}. Send 1 to {MOST_ROWS:,} at once."
