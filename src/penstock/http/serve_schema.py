"""What a deployment takes and gives, typed from the manifest of the version that answers.

The body is decoded straight into a struct made for the version, which checks names and types on
the way. Only a body that fails is looked at again, to say in words what is wrong with it.
"""

from __future__ import annotations

import json
import math
import sys
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Annotated, Any, Optional, cast

import msgspec

from penstock.errors import InputError, nearest

from .serve_errors import malformed

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from penstock.records import Manifest, Score

__all__ = ["EPOCH", "Row", "Schema", "decode_anything", "moment_us"]

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MICROSECOND = timedelta(microseconds=1)
MOST_ROWS = 1_000
FIELDS = ("entity", "at", "features", "rows")
AT: Any = Optional[Annotated[datetime, msgspec.Meta(tz=True)]]  # noqa: UP045 - at run time
EXACT = 1 << 53  # beyond it not every whole number is a float64
WHOLE: Any = Optional[Annotated[int, msgspec.Meta(ge=-EXACT, le=EXACT)]]  # noqa: UP045 - as above
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
    """

    key: str | int | None
    at_us: int
    values: tuple[float | None, ...] | None


class Schema:
    """The request and answer of one version.

    Args:
        manifest: The version's.

    Attributes:
        manifest: The version's.
    """

    def __init__(self, manifest: Manifest) -> None:
        self.manifest = manifest
        self._key = manifest.entity
        self._place = {name: index for index, name in enumerate(manifest.features)}
        whole = {name for name, dtype in manifest.dtypes.items() if dtype == "int64"}
        self._whole = whole
        features = msgspec.defstruct(
            "Features",
            [
                (f"f{place}", WHOLE if name in whole else float | None)
                for place, name in enumerate(manifest.features)
            ],
            rename={f"f{place}": name for place, name in enumerate(manifest.features)},
            forbid_unknown_fields=True,
        )
        key = int if manifest.entity_dtype == "int64" else str
        entity = msgspec.defstruct(
            "Entity", [("key", key)], rename={"key": manifest.entity}, forbid_unknown_fields=True
        )
        fields: list[tuple[str, Any, Any]] = [
            ("entity", entity | msgspec.UnsetType, msgspec.UNSET),
            ("at", AT, None),
            ("features", features | msgspec.UnsetType, msgspec.UNSET),
        ]
        row = msgspec.defstruct("Row", fields, forbid_unknown_fields=True)
        rows = (
            "rows",
            Annotated[list[row], msgspec.Meta(min_length=1, max_length=MOST_ROWS)]  # type: ignore[valid-type]  # made above
            | msgspec.UnsetType,
            msgspec.UNSET,
        )
        body = msgspec.defstruct("Body", [*fields, rows], forbid_unknown_fields=True)
        self._decode = msgspec.json.Decoder(body).decode

    def rows_of(self, body: bytes) -> tuple[list[Row], bool]:
        """The rows of a request, and whether it asked for several.

        Raises:
            InputError: The body is no JSON, or does not say what the version needs; says where.
        """
        try:
            request: Any = self._decode(body)
        except msgspec.DecodeError as error:
            raise self._explain(body, error) from None
        if request.rows is msgspec.UNSET:
            return [self._row(request, "The body")], False
        if request.entity is not msgspec.UNSET or request.features is not msgspec.UNSET:
            raise InputError("'rows' stands for itself: put 'entity' and 'features' inside it.")
        return [self._row(row, f"rows[{n}]") for n, row in enumerate(request.rows)], True

    def answer(self, score: Score, *, features: bool) -> dict[str, object]:
        """What a client is told of a score.

        Args:
            score: The score.
            features: Whether to tell the values the model saw.
        """
        told: dict[str, object] = {"prediction_id": score.prediction_id}
        if self.manifest.task == "classification":
            told["prediction"] = score.prediction >= 0.5  # noqa: PLR2004 - more likely than not
            told["probability"] = {"false": 1.0 - score.prediction, "true": score.prediction}
        else:
            told["prediction"] = score.prediction
        told["model"] = score.model
        told["version"] = score.version
        told["route"] = score.route
        told["as_of"] = EPOCH + score.at_us * MICROSECOND
        if score.reason:
            told["reason"] = score.reason
        if features:
            told["features"] = {
                name: value if value is None or name not in self._whole else int(value)
                for name, value in zip(self.manifest.features, score.features, strict=False)
            }
        return told

    def _row(self, given: Any, where: str) -> Row:  # noqa: ANN401 - a struct made above
        key = None if given.entity is msgspec.UNSET else given.entity.key
        values = None
        if given.features is not msgspec.UNSET:
            values = msgspec.structs.astuple(given.features)
        elif key is None:
            raise InputError(
                f'{where} names nothing to score. Send {{"entity": {{"{self._key}": ...}}}} to '
                'have the features looked up, or {"features": {...}} with all of them.'
            )
        return Row(key, 0 if given.at is None else moment_us(given.at), values)

    def _explain(self, body: bytes, error: msgspec.DecodeError) -> InputError:
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
        return InputError(f"The body does not fit: {error}. '/openapi.json' says what does.")

    def _faults(self, row: Mapping[str, object], where: str) -> Iterator[str]:
        """What is wrong with one row, as far as there are better words than the decoder's."""
        for name in row:
            if name not in FIELDS:
                yield f"{where} has {name!r}. {nearest(name, FIELDS)}"
        entity = row.get("entity")
        for name in entity if isinstance(entity, dict) else ():
            if name != self._key:
                yield f"{where}: 'entity' has {name!r}. {nearest(name, [self._key])}"
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


def moment_us(moment: datetime) -> int:
    """A time in microseconds since 1970 UTC."""
    return (moment - EPOCH) // MICROSECOND


def _name(value: object) -> str:
    return "null" if value is None else NAMES.get(type(value), f"the number {value}")
