"""A typed client of one deployment, written from what the server says of it."""

from __future__ import annotations

import keyword
import re
from importlib.resources import files
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import urlsplit

from penstock.errors import NotFoundError

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["client_files", "package_of"]

MADE = "Made by 'penstock client'; made again, it is overwritten."
STANDALONE = ("errors", "reading", "transport")
KINDS = {"string": "str", "integer": "int", "number": "float", "boolean": "bool"}
READERS = {"str": "text", "int": "whole", "float": "number", "bool": "truth"}
METHODS = {"to_json", "from_json"}


class _Field(NamedTuple):
    """A field of a class: its name there, its name on the wire, its type, and what it is."""

    name: str
    wire: str
    kind: str
    nullable: bool
    about: str

    @property
    def type(self) -> str:
        """Its annotation."""
        return f"{self.kind} | None" if self.nullable else self.kind


def package_of(deployment: str) -> str:
    """The name of the package of a deployment's client."""
    return f"{_identifier(deployment).lower()}_client"


def client_files(document: Mapping[str, Any], deployment: str, address: str) -> dict[str, str]:
    """The files of a package, by their paths.

    Args:
        document: The server's OpenAPI document.
        deployment: The deployment.
        address: Where the server answers, for the example; a name and a password in it are left
            out.

    Raises:
        NotFoundError: The document has no such deployment that answers.
    """
    path = f"/v1/deployments/{deployment}/predict"
    if path not in document["paths"]:
        known = re.findall(r"/v1/deployments/([^/ ]+)/predict", " ".join(document["paths"]))
        hint = "A deployment is described once a version is deployed on it."
        raise NotFoundError.of("deployment", deployment, known, hint=hint)
    package = package_of(deployment)
    summary = str(document["paths"][path]["post"]["summary"])
    schemas = {
        part: document["components"]["schemas"][f"{deployment}.{part}"]
        for part in ("row", "features", "answer")
    }
    row, features = _row_fields(schemas["row"]), _fields(schemas["features"])
    inside = f"src/{package}"
    found = {
        "pyproject.toml": _project(package, deployment, str(document["info"]["version"])),
        "README.md": _readme(package, deployment, summary, row, address),
        f"{inside}/py.typed": "",
        f"{inside}/__init__.py": _door(deployment, summary),
        f"{inside}/client.py": _client(deployment, path),
        f"{inside}/types.py": _types(row, features, schemas["answer"]),
    }
    source = files("penstock.client") / "standalone"
    for name in STANDALONE:
        text = (source / f"{name}.py").read_text(encoding="utf-8")
        found[f"{inside}/{name}.py"] = f"# {MADE}\n{text}"
    return found


def _row_fields(schema: Mapping[str, Any]) -> dict[str, list[_Field]]:
    """The fields of a row by the part of the request that they go into."""
    parts = {p: schema["properties"][p] for p in ("entity", "request") if p in schema["properties"]}
    taken = {"at", *METHODS}
    return {part: _fields(inner, taken) for part, inner in parts.items()}


def _fields(schema: Mapping[str, Any], taken: set[str] | None = None) -> list[_Field]:
    used = set(METHODS) if taken is None else taken
    found: list[_Field] = []
    for wire, about in schema["properties"].items():
        name = _identifier(wire)
        while name in used:
            name += "_"
        used.add(name)
        kinds = about["type"] if isinstance(about["type"], list) else [about["type"]]
        words = str(about.get("description", ""))
        if "x-unit" in about:
            words = f"{words} In {about['x-unit']}.".strip()
        kind = next(KINDS[one] for one in kinds if one != "null")
        found.append(_Field(name, wire, kind, "null" in kinds, words))
    return found


def _types(
    row: Mapping[str, list[_Field]], features: list[_Field], answer: Mapping[str, Any]
) -> str:
    classifies = "probability" in answer["properties"]
    wanted = {"moment", "number" if classifies else "", "obj", "text", "whole"}
    wanted |= {"truth"} if classifies else {"number"}
    wanted |= {READERS[field.kind] for field in features}
    parts = [
        f'"""What the deployment takes and gives. {MADE}"""',
        "from __future__ import annotations",
        IMPORTS,
        f"from .reading import {', '.join(sorted(wanted - {''}))}",
        '__all__ = ["Features", "Prediction", '
        + ('"Probability", ' if classifies else "")
        + '"Row"]',
        _row_class(row),
        _features_class(features),
        *([PROBABILITY] if classifies else []),
        _prediction_class(classifies=classifies),
    ]
    return "\n\n".join(parts[:5]) + "\n\n\n" + "\n\n\n".join(parts[5:]) + "\n"


def _row_class(row: Mapping[str, list[_Field]]) -> str:
    fields = [field for part in row.values() for field in part]
    lines = _head("Row", "A row whose features are looked up.", fields, AT_ABOUT)
    lines += [f"    {field.name}: {field.type}" for field in fields]
    lines += [
        "    at: datetime | None = None",
        "",
        "    def to_json(self) -> dict[str, object]:",
        '        """The row as the server takes it."""',
        "        told: dict[str, object] = {",
    ]
    for part, inside in row.items():
        values = ", ".join(f"{_quoted(field.wire)}: self.{field.name}" for field in inside)
        lines.append(f'            "{part}": {{{values}}},')
    lines += [
        "        }",
        "        if self.at is not None:",
        '            told["at"] = self.at.isoformat()',
        "        return told",
    ]
    return "\n".join(lines)


def _features_class(features: list[_Field]) -> str:
    lines = _head("Features", "A row with all features of the model; None for null.", features)
    lines += [f"    {field.name}: {field.type}" for field in features]
    lines += [
        "",
        "    def to_json(self) -> dict[str, object]:",
        '        """The row as the server takes it."""',
        "        return {",
        '            "features": {',
        *[f"                {_quoted(one.wire)}: self.{one.name}," for one in features],
        "            }",
        "        }",
        "",
        "    @classmethod",
        "    def from_json(cls, told: Mapping[str, object]) -> Features:",
        '        """Of an answer."""',
        "        return cls(",
    ]
    for one in features:
        wire = _quoted(one.wire)
        lines.append(
            f"            {one.name}=None\n            if told.get({wire}) is None\n"
            f"            else {READERS[one.kind]}(told, {wire}),"
        )
    return "\n".join([*lines, "        )"])


def _prediction_class(*, classifies: bool) -> str:
    kind, reader = ("bool", "truth") if classifies else ("float", "number")
    likely = "    probability: Probability\n" if classifies else ""
    read = ""
    if classifies:
        read = (
            '            probability=Probability.from_json(obj(told.get("probability"), '
            '"probability")),\n'
        )
    return PREDICTION.format(kind=kind, reader=reader, likely=likely, read=read)


def _head(name: str, about: str, fields: list[_Field], *more: str) -> list[str]:
    told = [f"        {one.name}: {_doc(one.about)}" for one in fields if one.about] + [*more]
    decorated = ["@dataclass(frozen=True, kw_only=True, slots=True)", f"class {name}:"]
    if not told:
        return [*decorated, f'    """{about}"""', ""]
    return [*decorated, f'    """{about}', "", "    Attributes:", *told, '    """', ""]


def _client(deployment: str, path: str) -> str:
    return CLIENT.format(made=MADE, path=_quoted(path), deployment=_doc(deployment))


def _door(deployment: str, summary: str) -> str:
    return DOOR.format(made=MADE, deployment=_doc(deployment), summary=_doc(summary))


def _readme(
    package: str, deployment: str, summary: str, row: Mapping[str, list[_Field]], address: str
) -> str:
    found = urlsplit(address)
    where = found._replace(netloc=found.netloc.rpartition("@")[2]).geturl()
    values = {"str": '"..."', "int": "1", "float": "1.0", "bool": "True"}
    given = ", ".join(f"{one.name}={values[one.kind]}" for part in row.values() for one in part)
    return README.format(
        package=package, deployment=deployment, summary=summary, given=given, where=where
    )


def _project(package: str, deployment: str, version: str) -> str:
    return PROJECT.format(
        made=MADE, package=package.replace("_", "-"), module=package, deployment=deployment,
        version=version,
    )  # fmt: skip


def _identifier(text: str) -> str:
    """A name of Python that is like a text."""
    name = re.sub(r"\W", "_", text, flags=re.ASCII).strip("_") or "field"
    if name[0].isdigit():
        name = f"n{name}"
    return f"{name}_" if keyword.iskeyword(name) else name


def _quoted(text: str) -> str:
    """A text as Python writes it, whatever is in it."""
    return '"' + text.encode("unicode_escape").decode().replace('"', '\\"') + '"'


def _doc(text: str) -> str:
    """A text within a docstring: on one line, and unable to end it."""
    plain = " ".join(text.split())
    return plain.replace("\\", "\\\\").replace('"', "'")


IMPORTS = """from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime"""

AT_ABOUT = "        at: The time the features are wanted at, with its zone; now when left out."

PROBABILITY = '''@dataclass(frozen=True, kw_only=True, slots=True)
class Probability:
    """How likely each class is.

    Attributes:
        false: Of false.
        true: Of true.
    """

    false: float
    true: float

    @classmethod
    def from_json(cls, told: Mapping[str, object]) -> Probability:
        """Of an answer."""
        return cls(false=number(told, "false"), true=number(told, "true"))'''

PREDICTION = '''@dataclass(frozen=True, kw_only=True, slots=True)
class Prediction:
    """What the deployment says of a row.

    Attributes:
        prediction_id: By which the score is found, explained and joined to what came true.
        prediction: What is predicted.
        model: The model that answered.
        version: Its version; 0 for a constant.
        route: The role that answered.
        as_of: The time the features are of.
        reason: Why a fallback answered; None where none did.
        features: What the model saw, where it was asked for.
    """

    prediction_id: str
    prediction: {kind}
{likely}    model: str
    version: int
    route: str
    as_of: datetime
    reason: str | None = None
    features: Features | None = None

    @classmethod
    def from_json(cls, told: Mapping[str, object]) -> Prediction:
        """Of an answer."""
        seen = told.get("features")
        return cls(
            prediction_id=text(told, "prediction_id"),
            prediction={reader}(told, "prediction"),
{read}            model=text(told, "model"),
            version=whole(told, "version"),
            route=text(told, "route"),
            as_of=moment(told, "as_of"),
            reason=text(told, "reason") if "reason" in told else None,
            features=Features.from_json(obj(seen, "features")) if seen else None,
        )'''

CLIENT = '''"""Clients of the deployment {deployment}. {made}"""

from __future__ import annotations

from collections.abc import Mapping

from .transport import AsyncExchange, Exchange
from .types import Features, Prediction, Row

__all__ = ["AsyncClient", "Client"]


class Client(Exchange["Row | Features", Prediction]):
    """Asks the deployment, and waits for the answer."""

    PATH = {path}

    def _read(self, told: Mapping[str, object]) -> Prediction:
        return Prediction.from_json(told)


class AsyncClient(AsyncExchange["Row | Features", Prediction]):
    """Asks the deployment within an event loop."""

    PATH = {path}

    def _read(self, told: Mapping[str, object]) -> Prediction:
        return Prediction.from_json(told)
'''

DOOR = '''"""A typed client of the deployment {deployment}: {summary} {made}"""

from __future__ import annotations

from . import errors, types
from .client import AsyncClient, Client
from .types import Features, Prediction, Row

__all__ = ["AsyncClient", "Client", "Features", "Prediction", "Row", "errors", "types"]
'''

README = """# {package}

{summary} A typed client of the deployment `{deployment}`, made by `penstock client`; made again, it
is overwritten. It needs httpx.

```python
from {package} import Client, Row

with Client("{where}", token) as client:
    prediction = client.predict(Row({given}))
    print(prediction.prediction, prediction.prediction_id)
```

`Features(...)` in place of `Row(...)` hands all features in; `predict_many` takes a list;
`AsyncClient` is the same within an event loop. A server that is busy or starting is asked again
when it says; what else goes wrong is a `PredictionError` of `errors`.
"""

PROJECT = """# {made}
[build-system]
requires = ["hatchling"]
build-backend = "hatchling.build"

[project]
name = "{package}"
version = "{version}"
description = "A typed client of the deployment {deployment}."
requires-python = ">=3.11"
dependencies = ["httpx>=0.27"]

[tool.hatch.build.targets.wheel]
packages = ["src/{module}"]
"""
