from __future__ import annotations

import json

import pytest

from penstock.ingest.json_records import json_cells
from penstock.spec import DType

CASES: list[tuple[DType, list[object], list[object], list[int]]] = [
    (DType.STRING, ["a", None, 1], ["a", None, None], [2]),
    (DType.BOOLEAN, [True, False, None], [True, False, None], []),
    (DType.BOOLEAN, [True, 1, "true"], [True, None, None], [1, 2]),
    (DType.INT64, [1, 2.0, -(2**63)], [1, 2, -(2**63)], []),
    (DType.INT64, [True, 2.5, "3", 2**63], [None, None, None, None], [0, 1, 2, 3]),
    (DType.INT64, [1, 2**63, None, 2**200], [1, None, None, None], [1, 3]),
    (DType.FLOAT64, [0.5, None], [0.5, None], []),
    (DType.FLOAT64, [1, 0.5, 10**400], [1.0, 0.5, float("inf")], []),
    (DType.FLOAT64, [True, "1", [1]], [None, None, None], [0, 1, 2]),
    (DType.TIMESTAMP, ["2026-01-01T00:00:00Z", 5], ["2026-01-01T00:00:00Z", None], [1]),
]


@pytest.mark.parametrize(("dtype", "given", "expected", "wrong"), CASES)
def test_a_cell_has_its_type_or_is_marked(
    dtype: DType, given: list[object], expected: list[object], wrong: list[int]
) -> None:
    payloads = [json.dumps({"x": value, "other": 1}).encode() for value in given]
    cells = json_cells(payloads, {"x": dtype}, optional=[])
    assert cells.columns["x"].to_list() == expected
    faults = cells.faults["dtype(x)"].arg_true().to_list() if cells.faults else []
    assert faults == wrong


def test_a_column_that_no_record_names_is_left_out_unless_it_may_be() -> None:
    payloads = [b'{"a": 1}', b"{}", b"5", b"{"]
    cells = json_cells(payloads, {"a": DType.INT64, "b": DType.INT64}, optional=[])
    assert list(cells.columns) == ["a"]
    assert {reason: rows.arg_true().to_list() for reason, rows in cells.faults.items()} == {
        "json": [3],
        "object": [2],
    }
    assert cells.texts([3, 0]) == ["{", '{"a": 1}']
    optional = json_cells(payloads, {"b": DType.INT64}, optional=["b"])
    assert optional.columns["b"].to_list() == [None] * 4


def test_a_record_nested_past_reading_is_marked() -> None:
    deep = b"[" * 200_000 + b"]" * 200_000
    cells = json_cells([b'{"a": 1}', deep], {"a": DType.INT64}, optional=[])
    assert cells.columns["a"].to_list() == [1, None]
    assert cells.faults["json"].to_list() == [False, True]
