"""What a deployment takes and gives, typed from the manifest of the version that answers.

The body is decoded straight into a struct made for the version, which checks names and types on
the way. Only a body that fails is looked at again, to say in words what is wrong with it.
"""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import TYPE_CHECKING, Annotated, Any, Optional, cast

import msgspec

from penstock.errors import InputError, nearest
from penstock.records import Given

from .serve_errors import Answer, malformed
from .serve_told import Probability, Told

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from penstock.records import Manifest, Score

__all__ = ["AT", "BEFORE_EPOCH_US", "EARLIEST_US", "EPOCH", "EXACT", "KEYS", "LATEST_US",
           "LIKELY", "MOST_ROWS", "TIME", "ZONED", "Row", "Schema", "decode_anything",
           "features_of", "misfit", "moment", "moment_us"]  # fmt: skip

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MICROSECOND = timedelta(microseconds=1)
EARLIEST_US, LATEST_US = -62_135_596_800_000_000, 253_402_300_799_999_999
MOST_ROWS = 1_000
BEFORE_EPOCH_US = -1
"""In the place of 1970 itself, whose number stands for no time at all."""
ZONED = "Write a time with its zone, like '2024-03-01T12:00:00Z'."
LIKELY = 0.5  # from here on a class is more likely than not
FIELDS = ("entity", "request", "at", "features", "rows")
TIME: Any = Annotated[datetime, msgspec.Meta(tz=True)]
AT: Any = Optional[TIME]  # noqa: UP045 - at run time
EXACT = 1 << 53  # beyond it not every whole number is a float64
WHOLE: Any = Optional[Annotated[int, msgspec.Meta(ge=-EXACT, le=EXACT)]]  # noqa: UP045 - as above
INT64 = Annotated[int, msgspec.Meta(ge=-(1 << 63), le=(1 << 63) - 1)]
KEYS: Mapping[str, Any] = {"string": str, "int64": INT64}
GIVEN: Mapping[str, Any] = {
    "string": str | None,
    "int64": Optional[INT64],  # noqa: UP045 - at run time
    "float64": float | None,
    "boolean": bool | None,
}
NAMES: Mapping[type, str] = {
    str: "text",
    bool: "true or false",
    list: "a list",
    dict: "an object",
    float: "a number",
}


class Row(msgspec.Struct, frozen=True):
    """One row of a request.

    Attributes:
        key: The entity's key; none when features are handed in without one.
        at_us: The time wanted, in microseconds since 1970 UTC; 0 for now.
        values: The features handed in, in the manifest's order; none to look them up.
        given: The keys of further entities and the request fields, by name.
    """

    key: str | int | None
    at_us: int
    values: tuple[float | None, ...] | None
    given: Mapping[str, Given] = {}


class Schema:
    """The request and answer of one version.

    Args:
        manifest: The version's.
        most_rows: How many rows a request may have.

    Attributes:
        manifest: The version's.
    """

    def __init__(self, manifest: Manifest, *, most_rows: int = MOST_ROWS) -> None:
        self.manifest = manifest
        self._is_classifier = manifest.task == "classification"
        self._place = {name: index for index, name in enumerate(manifest.features)}
        whole = {name for name, dtype in manifest.dtypes.items() if dtype == "int64"}
        features = _struct(
            "Features",
            {name: WHOLE if name in whole else float | None for name in manifest.features},
        )
        self._keys = tuple(manifest.keys)
        self._given = bool(manifest.given)
        entity = _struct("Entity", {name: KEYS[dtype] for name, dtype in manifest.keys.items()})
        request = _struct("Request", {n: GIVEN[dtype] for n, dtype in manifest.request.items()})
        fields: list[tuple[str, Any, Any]] = [
            ("entity", entity | msgspec.UnsetType, msgspec.UNSET),
            ("request", request | msgspec.UnsetType, msgspec.UNSET),
            ("at", AT, None),
            ("features", features | msgspec.UnsetType, msgspec.UNSET),
        ]
        row = msgspec.defstruct("Row", fields, forbid_unknown_fields=True)
        rows = (
            "rows",
            Annotated[list[row], msgspec.Meta(min_length=1, max_length=most_rows)]  # type: ignore[valid-type]  # made above
            | msgspec.UnsetType,
            msgspec.UNSET,
        )
        body = msgspec.defstruct("Body", [*fields, rows], forbid_unknown_fields=True)
        self._decode = msgspec.json.Decoder(body).decode
        self._encode = msgspec.json.Encoder().encode

    def rows_of(self, body: bytes) -> tuple[list[Row], bool]:
        """The rows of a request, and whether it asked for several.

        Raises:
            InputError: The body is no JSON, or does not say what the version needs; says where.
        """
        try:
            request: Any = self._decode(body)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise self._explain(body, error) from None
        if request.rows is msgspec.UNSET:
            return [self._row(request, "The body")], False
        beside = (request.entity, request.request, request.features)
        if any(part is not msgspec.UNSET for part in beside):
            raise InputError(
                "'rows' stands for itself: put 'entity', 'request' and 'features' inside it."
            )
        return [self._row(row, f"rows[{n}]") for n, row in enumerate(request.rows)], True

    def told_one(
        self, scores: Sequence[Score], *, seen: Mapping[int, Manifest] | None = None
    ) -> Answer:
        """The answer to a request of one row, whose score is the only one; see ``answer``."""
        return Answer(200, self._encode(self.answer(scores[0], seen=seen)))

    def told_all(
        self, scores: Sequence[Score], *, seen: Mapping[int, Manifest] | None = None
    ) -> Answer:
        """The answer to a request of several rows; see ``answer``."""
        told = [self.answer(score, seen=seen) for score in scores]
        return Answer(200, self._encode({"predictions": told}))

    def answer(self, score: Score, *, seen: Mapping[int, Manifest] | None = None) -> Told:
        """What a client is told of a score.

        Args:
            score: The score.
            seen: Of the versions, by number, of which the values are told that the model saw; left
                out where none are to be told.
        """
        value = score.prediction
        parts: Mapping[str, float | None] = {}
        features: Mapping[str, float | None] | msgspec.UnsetType = msgspec.UNSET
        if seen is not None:
            # A constant saw what was handed in, in this version's order.
            saw = seen.get(score.version or self.manifest.version)
            parts = {} if saw is None else score.parts
            features = {} if saw is None else features_of(score, saw)
        return Told(
            score.prediction_id,
            value >= LIKELY if self._is_classifier else value,
            Probability(1.0 - value, value) if self._is_classifier else msgspec.UNSET,
            score.model,
            score.version,
            score.route,
            moment(score.at_us),
            score.reason,
            parts,
            features,
        )

    def _row(self, given: Any, where: str) -> Row:  # noqa: ANN401 - a struct made above
        keys = () if given.entity is msgspec.UNSET else msgspec.structs.astuple(given.entity)
        values = None
        if given.features is not msgspec.UNSET:
            values = msgspec.structs.astuple(given.features)
        elif not keys:
            named = ", ".join(f'"{name}": ...' for name in self._keys)
            raise InputError(
                f'{where} names nothing to score. Send {{"entity": {{{named}}}}} to '
                'have the features looked up, or {"features": {...}} with all of them.'
            )
        elif given.request is msgspec.UNSET and self.manifest.request:
            names = ", ".join(self.manifest.request)
            raise InputError(
                f"{where} lacks 'request'. Send it with {names}; null for one without a value."
            )
        at_us = 0 if given.at is None else moment_us(given.at) or BEFORE_EPOCH_US
        if not self._given:
            return Row(keys[0] if keys else None, at_us, values)
        more = dict(zip(self._keys[1:], keys[1:], strict=False))
        if given.request is not msgspec.UNSET:
            more |= zip(self.manifest.request, msgspec.structs.astuple(given.request), strict=True)
        return Row(keys[0] if keys else None, at_us, values, more)

    def _explain(self, body: bytes, error: Exception) -> InputError:
        """Say in words what is wrong with a body that did not decode."""
        try:
            document = decode_anything(body)
        except InputError as wrong:
            return wrong
        if not isinstance(document, dict):
            return InputError(f"The body is {_name(document)}. Send an object with {FIELDS[0]!r}.")
        given: dict[str, object] = document
        for name in given:
            if name not in FIELDS:
                return InputError(f"The body has {name!r}. {nearest(name, FIELDS)}", field=name)
        rows = given.get("rows")
        parts: list[Any] = rows if isinstance(rows, list) else [given]
        for number, part in enumerate(parts):
            where = f"rows[{number}]" if isinstance(rows, list) else "The body"
            if isinstance(part, dict):
                for fault in self._faults(part, where):
                    return InputError(fault)
        return misfit(error)

    def _faults(self, row: Mapping[str, object], where: str) -> Iterator[str]:
        """What is wrong with one row, as far as there are better words than the decoder's."""
        for name in row:
            if name not in FIELDS:
                yield f"{where} has {name!r}. {nearest(name, FIELDS)}"
        yield from _name_faults(row, "entity", self._keys, where)
        yield from _name_faults(row, "request", tuple(self.manifest.request), where)
        features = row.get("features")
        if isinstance(features, dict):
            yield from self._feature_faults(features, where)

    def _feature_faults(self, features: Mapping[str, object], where: str) -> Iterator[str]:
        known = self.manifest.features
        for name, value in features.items():
            if name not in self._place:
                yield f"{where}: there is no feature {name!r}. {nearest(name, known)}"
            elif fault := self._value_fault(name, value):
                yield f"{where}: feature {name!r} {fault}."
        missing = [name for name in known if name not in features]
        if missing:
            shown = ", ".join(repr(name) for name in missing[:5])
            yield f"{where} lacks the features {shown}. Send all; null where none is known."

    def _value_fault(self, name: str, value: object) -> str:
        if value is None:
            return ""
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            return f"is {_name(value)}; send a number, or null"
        if isinstance(value, float) and not math.isfinite(value):
            return f"is {value}; send a finite number, or null"
        if self.manifest.dtypes.get(name) == "int64" and isinstance(value, float):
            return f"is {value}; it counts, so send a whole number"
        if abs(value) > sys.float_info.max or (isinstance(value, int) and abs(value) > EXACT):
            return "is too large; send a number that a float64 holds"
        return ""


def features_of(score: Score, manifest: Manifest) -> dict[str, float | None]:
    """The values that a version saw, by their names; none for a score that holds none.

    Args:
        score: Its score.
        manifest: The version's.
    """
    whole = manifest.dtypes
    return {
        name: int(value) if value is not None and whole.get(name) == "int64" else value
        for name, value in zip(manifest.features, score.features, strict=False)
    }


def _struct(name: str, fields: Mapping[str, Any]) -> Any:  # noqa: ANN401 - a class made here
    """A class with these fields, whatever their names are."""
    return msgspec.defstruct(
        name,
        [(f"f{place}", kind) for place, kind in enumerate(fields.values())],
        rename={f"f{place}": field for place, field in enumerate(fields)},
        forbid_unknown_fields=True,
    )


def _name_faults(
    row: Mapping[str, object], part: str, known: tuple[str, ...], where: str
) -> Iterator[str]:
    """What is unknown or missing in one part of a row."""
    given = row.get(part)
    if not isinstance(given, dict):
        return
    for name in given:
        if name not in known:
            hint = nearest(name, known) or "It takes none."
            yield f"{where}: {part!r} has {name!r}. {hint}"
    missing = [repr(name) for name in known if name not in given]
    if missing:
        yield f"{where}: {part!r} lacks {', '.join(missing)}."


def decode_anything(body: bytes) -> object:
    """Any JSON, with the place of what is wrong; NaN and Infinity are let through as floats.

    Raises:
        InputError: It is no JSON: which line, which column.
    """
    try:
        return cast("object", json.loads(body))
    except json.JSONDecodeError as error:
        raise malformed(
            f"The body is no JSON: {error.msg} at line {error.lineno}, column {error.colno}."
        ) from None
    except (UnicodeDecodeError, RecursionError) as error:
        raise malformed(f"The body is no JSON: {error}.") from None
    except ValueError:  # Python refuses to read very long numbers
        raise malformed(
            "The body has a whole number with thousands of digits. Send numbers that fit a float64."
        ) from None


def misfit(error: Exception) -> InputError:
    """What a decoder says of a body that does not fit, and how a time is written.

    Args:
        error: What the decoder raised.
    """
    said = f"The body does not fit: {error}."
    if "datetime" in str(error):
        said += f" {ZONED}"
    return InputError(f"{said} '/openapi.json' says what does.")


@lru_cache(1_024)  # the rows of a batch share theirs
def moment(at_us: int) -> datetime:
    """The time at microseconds since 1970 UTC."""
    return EPOCH + at_us * MICROSECOND


def moment_us(moment: datetime) -> int:
    """A time in microseconds since 1970 UTC.

    Raises:
        InputError: In UTC it leaves the calendar, which has years of four digits.
    """
    found = (moment - EPOCH) // MICROSECOND
    if not EARLIEST_US <= found <= LATEST_US:
        raise InputError(f"The time {moment.isoformat()} leaves the calendar in UTC.")
    return found


def _name(value: object) -> str:
    return "null" if value is None else NAMES.get(type(value), f"the number {value}")
