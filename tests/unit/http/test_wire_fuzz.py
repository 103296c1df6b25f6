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
from penstock.http.serve_v2_tensors import Tensor, read_tensor
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
    @example(b'{"inputs":{}}')
    @example(b'{"instances":[{}]}')
    @example(b'{"dataframe_split":{"columns":[],"data":[[]]}}')
    @example(b"\r\n\r\n")
    def fuzzed(body: bytes) -> None:
        check(wire, body)

    fuzzed()


PAIR = manifest_of("v.a", "v.b", dtypes={"v.a": "float64", "v.b": "float64"})
LARGE = st.sampled_from([1.7e308, -1.7e308, math.inf, -math.inf])
ANYTHING = st.one_of(
    st.floats(), LARGE, st.none(), st.booleans(), st.integers(), st.just(10**400), st.text()
)


def _naive(values: list[Any]) -> list[Any] | None:
    """The values as features, one by one; none where one of them is no finite number or null."""
    for value in values:
        if value is None:
            continue
        if isinstance(value, (bool, str)) or not abs(value) <= 1.7976931348623157e308:
            return None
    return values


@given(st.lists(ANYTHING, min_size=1, max_size=3).map(lambda values: values * 2))
@example([1.7e308, 1.7e308])
@example([1.0, math.inf])
@example([math.inf, -math.inf])
@example([True, 1.0])
def test_numbers_are_looked_at_together_as_they_are_one_by_one(values: list[Any]) -> None:
    tensor = Tensor("x", "FP64", [len(values) // 2, 2], values)
    wanted = _naive(values)
    if wanted is None:
        with pytest.raises(InputError, match="Tensor 'x' has"):
            rows_of_tensors(PAIR, [tensor])
    else:
        pairs = list(zip(wanted[::2], wanted[1::2], strict=True))
        assert [row.values for row in rows_of_tensors(PAIR, [tensor])] == pairs


@given(st.lists(st.one_of(st.floats(), LARGE), min_size=1, max_size=6))
@example([math.inf, -math.inf])
@example([1.0, math.nan])
def test_nan_and_only_nan_is_null_in_binary(values: list[float]) -> None:
    data = np.array(values, "<f8").tobytes()
    found = read_tensor("x", "FP64", [len(values)], data).values
    assert found == [None if math.isnan(value) else value for value in values]


@given(st.lists(st.lists(st.floats(-9, 9), min_size=2, max_size=2), min_size=1, max_size=4))
def test_rows_may_be_nested_or_flat(rows: list[list[float]]) -> None:
    def asked(data: object) -> list[Row]:
        tensor = {"name": "x", "datatype": "FP64", "shape": [len(rows), 2], "data": data}
        return rows_of_tensors(
            PAIR, read_request(msgspec.json.encode({"inputs": [tensor]})).tensors
        )

    flat = [value for row in rows for value in row]
    assert [row.values for row in asked(rows)] == [tuple(row) for row in rows]
    assert asked(flat) == asked(rows)
    mixed = [*rows[0], *rows[1:]]
    assert asked(mixed) == asked(rows)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("shop", 1 << 63),
        ("shop", -(1 << 63) - 1),
        ("pieces", 10**30),
        pytest.param("amount", 10**400, id="too large for a float"),
        ("amount", -math.inf),
    ],
)
def test_a_number_that_is_none_of_its_type_is_refused(name: str, value: float) -> None:
    """Further in some would be taken for null, or computed with."""
    manifest = manifest_of(
        "v.a", entities={"shop": "int64"}, request={"amount": "float64", "pieces": "int64"}
    )
    asked: dict[str, Any] = {"symbol": "a", "shop": 1, "amount": 1.5, "pieces": 2}
    for given_value, is_fine in ((asked[name], True), (value, False)):
        columns = asked | {name: given_value}
        tensors = [Tensor(each, "FP64", [1], [one]) for each, one in columns.items()]
        if is_fine:
            assert len(rows_of_tensors(manifest, tensors)) == 1
        else:
            with pytest.raises(InputError, match=f"'{name}' has the"):
                rows_of_tensors(manifest, tensors)
