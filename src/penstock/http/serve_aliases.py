"""Doors by the names and the bodies that other servers have, so that their clients move over.

KServe's and TensorFlow Serving's V1 protocol: ``POST /v1/models/{name}:predict`` with
``{"instances": [...]}`` or ``{"inputs": ...}``. MLflow's scoring server: ``POST /invocations`` with
``dataframe_split``, ``dataframe_records``, ``instances``, ``inputs`` or CSV, and ``GET /ping``,
``/health``, ``/version``. A row is a list of the features in the model's order, or an object of the
features or of the keys by their names.
"""

from __future__ import annotations

import csv
import io
from typing import TYPE_CHECKING, Any, cast

import msgspec

from penstock.errors import InputError, NotFoundError, nearest

from .serve_errors import Answer, malformed
from .serve_schema import decode_anything
from .serve_scoring import check_resting, named, reach_version, score_all
from .serve_v2_rows import check_once, rows_of_tensors
from .serve_v2_tensors import Tensor

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from penstock.records import Manifest, Score

    from .serve_call import Call
    from .serve_keeper import Keeper

__all__ = ["ALIASES", "MODELS", "AliasDoor", "is_alias", "tensors_of_columns", "tensors_of_csv",
           "tensors_of_json", "versioned"]  # fmt: skip

ALIASES = ("/v1/models", "/v1/models/{name}", "/v1/models/{name}:predict",
           "/v1/deployments/{name}/invocations", "/invocations", "/ping", "/health",
           "/version")  # fmt: skip
MODELS, DEPLOYMENTS = "/v1/models", "/v1/deployments/"
PREDICT, INVOCATIONS = ":predict", "/invocations"
ALIVE = {"/ping", "/health", "/version"}
ALONE = {*ALIVE, MODELS, INVOCATIONS}
TEXT = (b"content-type", b"text/plain; charset=utf-8")
TABLE, RECORDS = "dataframe_split", "dataframe_records"
FORMS = ("instances", "inputs", TABLE, RECORDS)
BESIDE = {"signature_name", "params", "parameters", "id"}
IDS = b"x-penstock-prediction-ids"
MOST_IDS = 100
"""So many ids take 2.7 kB; proxies refuse answers whose headers are longer than 4 to 8 kB."""
TRUTHS = {"true": True, "false": False}


def is_alias(path: str) -> bool:
    """Whether a path is one of these doors."""
    return (
        path in ALONE
        or path.startswith(f"{MODELS}/")
        or (path.startswith(DEPLOYMENTS) and path.endswith(INVOCATIONS))
    )


class AliasDoor:
    """Answers there.

    Args:
        keeper: What is served, and who may ask.
        version: Penstock's version.
    """

    def __init__(self, keeper: Keeper, version: str) -> None:
        self._keeper = keeper
        self._version = version

    async def answer(self, call: Call) -> Answer:
        """Answer a request.

        Raises:
            PenstockError: It is refused, or cannot be answered.
        """
        path: str = call.scope["path"]
        if path in ALIVE:
            call.need("GET")
            text = self._version if path == "/version" else "\n"
            return Answer(200 if self._keeper.ready else 503, text.encode(), (TEXT,))
        if path.endswith((PREDICT, INVOCATIONS)):
            self._keeper.guard.check(call.authorization, "writer")
            call.need("POST")
            return await self._predict(call, path)
        self._keeper.guard.check(call.authorization, "reader")
        call.need("GET")
        if path == MODELS:
            return _json({"models": sorted([*self._keeper.doors, *self._keeper.resting])})
        return await self._status(*versioned(path[len(MODELS) + 1 :]))

    async def _status(self, name: str, number: str) -> Answer:
        """Whether a model is ready, as KServe and as TensorFlow Serving say it."""
        check_resting(self._keeper, name, number)
        await self._keeper.waking.need(name)
        door, _, _ = named(self._keeper, name, number)
        told = [
            {
                "version": str(one),
                "state": "AVAILABLE",
                "status": {"error_code": "OK", "error_message": ""},
            }
            for one in sorted(door.endpoint.versions)
            if number in {"", str(one)}
        ]
        return _json({"name": name, "ready": True, "model_version_status": told})

    async def _predict(self, call: Call, path: str) -> Answer:
        name, number = self._named(path)
        body = await call.body()
        answering, manifest = await reach_version(self._keeper, name, number)
        is_csv = call.content_type.startswith(b"text/csv")
        tensors, answers = (
            (tensors_of_csv(body, manifest), "predictions")
            if is_csv
            else tensors_of_json(body, manifest)
        )
        with_ids = call.flag("ids")
        scores = await score_all(answering, rows_of_tensors(manifest, tensors), call)
        ids = [score.prediction_id for score in scores]
        told = _json({answers: _told(scores)} | ({"prediction_ids": ids} if with_ids else {}))
        if len(ids) > MOST_IDS:
            return told
        return Answer(told.status, told.body, (*told.headers, (IDS, ",".join(ids).encode())))

    def _named(self, path: str) -> tuple[str, str]:
        """The deployment and the version that a path names."""
        if path.endswith(PREDICT):
            return versioned(path[len(MODELS) + 1 : -len(PREDICT)])
        if path != INVOCATIONS:
            return path[len(DEPLOYMENTS) : -len(INVOCATIONS)], ""
        names = sorted([*self._keeper.doors, *self._keeper.resting])
        if len(names) != 1:
            raise NotFoundError(
                f"{INVOCATIONS} is for a server of one deployment; this one has "
                f"{', '.join(names) or 'none'}. Send to {DEPLOYMENTS}<name>{INVOCATIONS}."
            )
        return names[0], ""


def tensors_of_columns(columns: Mapping[str, Sequence[Any]]) -> list[Tensor]:
    """Columns of a table as tensors.

    Raises:
        InputError: There is none.
    """
    if not columns:
        raise InputError("The rows have no columns. Send the features, or the entity's keys.")
    return [Tensor(name, "FP64", [len(values)], values) for name, values in columns.items()]


def tensors_of_json(body: bytes, manifest: Manifest) -> tuple[list[Tensor], str]:
    """The tensors of a body in JSON, and the name its answer has.

    Args:
        body: The body.
        manifest: Of the version that answers.

    Raises:
        InputError: It is no JSON, or in none of the forms.
    """
    try:
        given = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        decode_anything(body)
        raise malformed(f"The body is no JSON: {error}.") from None
    found = [form for form in FORMS if isinstance(given, dict) and form in given]
    if len(found) != 1:
        raise InputError(f"The body needs one of {', '.join(map(repr, FORMS))}.")
    form = found[0]
    for name in given:
        if name != form and name not in BESIDE:
            raise InputError(f"The body has {name!r}. {nearest(name, FORMS)}")
    content = given[form]
    answers = "outputs" if form == "inputs" else "predictions"
    if form == TABLE:
        return _from_table(content), answers
    if form == "inputs" and isinstance(content, dict):
        return tensors_of_columns(_columns(content)), answers
    if not isinstance(content, list) or not content:
        raise InputError(f"{form!r} is no list of rows. Send one row or more.")
    if isinstance(content[0], dict):
        return _from_records(content, form), answers
    return [_matrix(content, form, manifest)], answers


def _from_table(content: object) -> list[Tensor]:
    if not isinstance(content, dict):
        raise InputError(f"{TABLE!r} is no object. Send its 'columns' and its 'data'.")
    table = cast("Mapping[str, Any]", content)
    names, rows = table.get("columns"), table.get("data")
    if not isinstance(names, list) or not isinstance(rows, list) or not rows:
        raise InputError(f"{TABLE!r} needs 'columns' with names, and 'data' with a row or more.")
    check_once([str(name) for name in names])
    _even(rows, len(names), TABLE)
    columns = zip(names, zip(*rows, strict=True), strict=True)
    return tensors_of_columns({str(name): list(values) for name, values in columns})


def _from_records(rows: Sequence[Any], form: str) -> list[Tensor]:
    names = list(rows[0])
    for place, row in enumerate(rows):
        if not isinstance(row, dict) or set(row) != set(names):
            raise InputError(f"{form}[{place}] has not the names of the first row: {names}.")
    return tensors_of_columns({name: [row[name] for row in rows] for name in names})


def _matrix(rows: Sequence[Any], form: str, manifest: Manifest) -> Tensor:
    width = len(manifest.features)
    _even(rows, width, form)
    values = [value for row in rows for value in row]
    if width == 1:
        return Tensor(manifest.features[0], "FP64", [len(rows)], values)
    return Tensor(form, "FP64", [len(rows), width], values)


def _even(rows: Sequence[Any], width: int, form: str) -> None:
    for place, row in enumerate(rows):
        if not isinstance(row, list) or len(row) != width:
            raise InputError(f"{form}: row {place} is no list of {width} values.")


def _columns(content: Mapping[str, Any]) -> dict[str, list[Any]]:
    for name, values in content.items():
        if not isinstance(values, list):
            raise InputError(f"inputs: {name!r} is no list. Send a value for each row.")
    if content and not any(content.values()):
        raise InputError("'inputs' has no rows. Send a value or more for each name.")
    # TensorFlow Serving's clients send each value in a list of its own, too.
    return {
        name: [one[0] if isinstance(one, list) and len(one) == 1 else one for one in values]
        for name, values in content.items()
    }


def tensors_of_csv(body: bytes, manifest: Manifest) -> list[Tensor]:
    """The tensors of a table with its names in the first line; an empty field is null.

    Raises:
        InputError: It is no CSV, has no row, or a field is not of its column's type.
    """
    try:
        lines = list(csv.reader(io.StringIO(body.decode()), strict=True))
    except (UnicodeDecodeError, csv.Error) as error:
        raise malformed(f"The body is no CSV: {error}.") from None
    rows = [line for line in lines[1:] if line]
    if not rows:
        raise InputError("The CSV has no row. Send the names in the first line, then the rows.")
    names = lines[0]
    check_once(names)
    _even(rows, len(names), "The CSV")
    kinds = {**manifest.keys, **manifest.request}
    columns = zip(names, zip(*rows, strict=True), strict=True)
    return tensors_of_columns(
        {
            name: [_field(name, text, kinds.get(name, "float64")) for text in texts]
            for name, texts in columns
        }
    )


def _field(name: str, text: str, kind: str) -> object:
    if kind == "string":
        return text
    if not text:
        return None
    try:
        if kind == "boolean":
            return TRUTHS[text.lower()]
        return int(text) if kind == "int64" else float(text)
    except (ValueError, KeyError):
        raise InputError(f"Column {name!r} has {text!r}, which is no {kind}.") from None


def _told(scores: Sequence[Score]) -> list[float]:
    return [score.prediction for score in scores]


def versioned(rest: str) -> tuple[str, str]:
    """The deployment and the version, empty for none, that the end of a path names.

    Raises:
        NotFoundError: There is no such path.
    """
    name, _, more = rest.partition("/")
    kind, _, number = more.partition("/")
    if more and (kind != "versions" or not number):
        raise NotFoundError.of("path", f"{MODELS}/{rest}", ALIASES)
    return name, number


def _json(value: object) -> Answer:
    return Answer(200, msgspec.json.encode(value))
