"""Whatever bytes come to be scored, they are rows or a fault in words: never more."""

from __future__ import annotations

import gzip
import io
import math
import zlib
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
import polars as pl
import pytest
from google.protobuf.message import DecodeError
from hypothesis import example, given
from hypothesis import strategies as st

from penstock.errors import InputError
from penstock.http.grpc_messages import message
from penstock.http.grpc_tensors import infer_request
from penstock.http.serve_aliases import tensors_of_csv, tensors_of_json
from penstock.http.serve_packing import unpacked
from penstock.http.serve_predict_arrow import rows_of_arrow
from penstock.http.serve_schema import Schema
from penstock.http.serve_v2_rows import rows_of_tensors
from penstock.http.serve_v2_wire import read_request
from penstock.testing.damage import damaged
from penstock.testing.manifests import manifest_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from penstock.http.serve_schema import Row

LIMIT_BYTES = 1 << 20
MANIFEST = manifest_of(
    "v.a",
    "v.n",
    dtypes={"v.a": "float64", "v.n": "int64"},
    entities={"shop": "int64"},
    request={"amount": "float64", "member": "boolean"},
)
SCHEMA = Schema(MANIFEST)
KEYS: dict[str, Any] = {"symbol": ["a", "ü" * 9], "shop": [1, -(1 << 63)]}
ASKED: dict[str, Any] = KEYS | {"amount": [1.5, None], "member": [True, None]}
FEATURES: dict[str, Any] = {"v.a": [0.5, None], "v.n": [3, -4]}


def _json(body: bytes) -> list[Row]:
    return SCHEMA.rows_of(body)[0]


def _arrow(body: bytes) -> list[Row]:
    return rows_of_arrow(MANIFEST, body)


def _v2(body: bytes) -> list[Row]:
    return rows_of_tensors(MANIFEST, read_request(body).tensors)


def _v2_binary(body: bytes) -> list[Row]:
    size = str(body.rfind(b"}") + 1).encode()
    return rows_of_tensors(MANIFEST, read_request(body, size).tensors)


def _csv(body: bytes) -> list[Row]:
    return rows_of_tensors(MANIFEST, tensors_of_csv(body, MANIFEST))


def _v1(body: bytes) -> list[Row]:
    return rows_of_tensors(MANIFEST, tensors_of_json(body, MANIFEST)[0])


def _grpc(body: bytes) -> list[Row]:
    try:
        request = message("ModelInferRequest").FromString(body)
    except DecodeError as error:  # grpc answers it before anything of ours is asked
        raise InputError(str(error)) from None
    return rows_of_tensors(MANIFEST, infer_request(request).tensors)


def _gzip(body: bytes) -> list[Row]:
    return _json(unpacked(body, b"gzip", limit_bytes=LIMIT_BYTES))


def _deflate(body: bytes) -> list[Row]:
    return _json(unpacked(body, b"deflate", limit_bytes=LIMIT_BYTES))


WIRES: Mapping[str, Callable[[bytes], list[Row]]] = {
    "json": _json,
    "arrow": _arrow,
    "v2": _v2,
    "v2 binary": _v2_binary,
    "csv": _csv,
    "v1": _v1,
    "grpc": _grpc,
    "gzip": _gzip,
    "deflate": _deflate,
}
"""Every decoder by the name of what it decodes; each gives rows or raises ``InputError``."""


def _stream(columns: Mapping[str, Any]) -> bytes:
    target = io.BytesIO()
    pl.DataFrame(columns).with_columns(pl.col(pl.String).cast(pl.Categorical)).write_ipc_stream(
        target
    )
    return target.getvalue()


def _tensor(name: str, datatype: str, values: list[Any]) -> dict[str, Any]:
    return {"name": name, "datatype": datatype, "shape": [len(values)], "data": values}


def _bodies() -> dict[str, list[bytes]]:
    """Good bodies for each decoder."""
    encode = msgspec.json.encode
    rows = [
        {
            "entity": {"symbol": "a", "shop": 1},
            "request": {"amount": 1.5, "member": None},
            "at": "2026-01-01T00:00:00Z",
        },
        {"features": {"v.a": 1e300, "v.n": None}},
    ]
    tensors = [
        _tensor("symbol", "BYTES", ["a", "b"]),
        _tensor("shop", "INT64", [1, 2]),
        _tensor("amount", "FP64", [1.5, None]),
        _tensor("member", "BOOL", [True, None]),
    ]
    matrix = {"name": "x", "datatype": "FP64", "shape": [2, 2], "data": [[1.5, 2], [None, 4]]}
    raw = np.array([1.5, 2.0, np.nan, 4.0]).tobytes()
    parameters = {"binary_data_size": len(raw)}
    head = encode(
        {"inputs": [{"name": "x", "datatype": "FP64", "shape": [2, 2], "parameters": parameters}]}
    )
    request = message("ModelInferRequest")(model_name="x")
    request.inputs.add(name="x", datatype="FP64", shape=[2, 2])
    request.raw_input_contents.append(raw)
    typed = message("ModelInferRequest")(model_name="x")
    typed.inputs.add(name="v.a", datatype="FP64", shape=[1]).contents.fp64_contents.append(1.5)
    typed.inputs.add(name="v.n", datatype="INT64", shape=[1]).contents.int64_contents.append(3)
    plain = [encode({"rows": rows}), *map(encode, rows)]
    return {
        "json": plain,
        "arrow": [_stream(ASKED), _stream(FEATURES), _stream(KEYS | FEATURES)],
        "v2": [encode({"inputs": tensors}), encode({"inputs": [matrix], "id": "1"})],
        "v2 binary": [head + raw],
        "csv": [b"v.a,v.n\r\n1.5,3\r\n,4\r\n", b'symbol,shop,amount,member\n"a, b",1,1e3,true\n'],
        "v1": [
            encode({"instances": [[1.5, 2], [None, 3]]}),
            encode({"inputs": FEATURES}),
            encode({"dataframe_split": {"columns": ["v.n", "v.a"], "data": [[1, 2.5]]}}),
        ],
        "grpc": [request.SerializeToString(), typed.SerializeToString()],
        "gzip": [gzip.compress(body, mtime=0) for body in plain],
        "deflate": [zlib.compress(body) for body in plain],
    }


SEEDS: Mapping[str, list[bytes]] = _bodies()
"""Good bodies for each decoder, by the same names."""

TYPES: Mapping[str, type | tuple[type, ...]] = {
    "string": str,
    "int64": int,
    "float64": (int, float),
    "boolean": bool,
}


def check(wire: str, body: bytes) -> bool:
    """Whether it was read; what was read is what a model takes."""
    try:
        rows = WIRES[wire](body)
    except InputError:
        return False
    assert 0 < len(rows) <= 1_000
    for row in rows:
        if row.values is not None:
            assert len(row.values) == len(MANIFEST.features)
            assert all(value is None or math.isfinite(value) for value in row.values)
        if row.key is not None:
            assert isinstance(row.key, str)
        for name, value in row.given.items():
            dtype = {**MANIFEST.keys, **MANIFEST.request}[name]
            assert value is None or isinstance(value, TYPES[dtype])
    return True


@pytest.mark.parametrize("wire", WIRES)
def test_good_bodies_are_read(wire: str) -> None:
    assert all(check(wire, body) for body in SEEDS[wire])


@pytest.mark.parametrize("wire", WIRES)
def test_any_bytes_are_rows_or_a_fault(wire: str) -> None:
    @given(st.one_of(st.binary(max_size=80), damaged(SEEDS[wire])))
    @example(b"")
    @example(b"[" * 100_000)
    @example(b"\xff" * 64)
    def fuzzed(body: bytes) -> None:
        check(wire, body)

    fuzzed()
