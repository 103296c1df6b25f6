from __future__ import annotations

import math
import re
from datetime import UTC, datetime

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from penstock.ingest.columns import POLARS_TYPES, typed
from penstock.spec import DType

NOON = datetime(2026, 1, 31, 12, tzinfo=UTC)
CASES: list[tuple[DType, object, object, str]] = [
    (DType.STRING, "", "", ""),
    (DType.STRING, " x ", " x ", ""),
    (DType.INT64, "12", 12, ""),
    (DType.INT64, " -7 ", -7, ""),
    (DType.INT64, "5.0", 5, ""),
    (DType.INT64, "5.5", None, "dtype"),
    (DType.INT64, "9223372036854775807", 9223372036854775807, ""),
    (DType.INT64, "9223372036854775808", None, "dtype"),
    (DType.INT64, "1e400", None, "dtype"),
    (DType.INT64, "nan", None, "dtype"),
    (DType.FLOAT64, "1e3", 1000.0, ""),
    (DType.FLOAT64, "  ", None, ""),
    (DType.FLOAT64, "1,5", None, "dtype"),
    (DType.FLOAT64, "-inf", -math.inf, ""),
    (DType.BOOLEAN, "TRUE", True, ""),
    (DType.BOOLEAN, "0", False, ""),
    (DType.BOOLEAN, "maybe", None, "dtype"),
    (DType.TIMESTAMP, "2026-01-31T12:00:00Z", NOON, ""),
    (DType.TIMESTAMP, "2026-01-31 12:00:00+00:00", NOON, ""),
    (DType.TIMESTAMP, "2026-01-31T13:00:00.000000999+0100", NOON, ""),
    (DType.TIMESTAMP, " 2026-01-31t12:00z", NOON, ""),
    (DType.TIMESTAMP, "2026-01-31 12:00:00 UTC", NOON, ""),
    (DType.TIMESTAMP, "2026-01-31 12:00:00", None, "timestamp_zone"),
    (DType.TIMESTAMP, "2026-01-31T12:00", None, "timestamp_zone"),
    (DType.TIMESTAMP, "2026-01-31", None, "timestamp_zone"),
    (DType.TIMESTAMP, "2026-02-31T12:00:00Z", None, "dtype"),
    (DType.TIMESTAMP, "1769860800", None, "dtype"),
    (DType.TIMESTAMP, "yesterday", None, "dtype"),
]


@pytest.mark.parametrize(("dtype", "cell", "expected", "reason"), CASES)
def test_a_cell_is_read_or_marked(dtype: DType, cell: str, expected: object, reason: str) -> None:
    cells = pl.Series("c", [None, cell, None], dtype=pl.String)
    values, faults = typed(cells, dtype)
    assert values.dtype == POLARS_TYPES[dtype]
    assert values.to_list() == [None, expected, None]
    wanted = {f"{reason}(c)": [False, True, False]} if reason else {}
    assert {name: rows.to_list() for name, rows in faults.items()} == wanted


TEXTS = st.text(alphabet="0123456789+-.e xX_", max_size=4)


@settings(deadline=None)
@given(st.lists(st.none() | st.integers(-(10**20), 10**20).map(str) | TEXTS))
def test_whole_numbers_are_read_like_python_reads_them(cells: list[str | None]) -> None:
    values, faults = typed(pl.Series("c", cells, dtype=pl.String), DType.INT64)
    wrong = faults.get("dtype(c)", pl.repeat(value=False, n=len(cells), eager=True)).to_list()
    for cell, value, fault in zip(cells, values.to_list(), wrong, strict=True):
        if cell is None or not cell.strip():
            assert (value, fault) == (None, False)
        elif re.fullmatch(r"[+-]?\d+", cell) and -(2**63) <= int(cell) < 2**63:
            assert (value, fault) == (int(cell), False)
        elif value is None:
            assert fault
        else:
            assert value == float(cell)


def test_values_of_another_type_are_converted_where_nothing_is_lost() -> None:
    values, faults = typed(pl.Series("c", [1.0, 2.5, None, math.nan, 1e300]), DType.INT64)
    assert values.to_list() == [1, None, None, None, None]
    assert faults["dtype(c)"].to_list() == [False, True, False, True, True]
    unsigned, more = typed(pl.Series("c", [2**64 - 1, 3], dtype=pl.UInt64), DType.INT64)
    assert unsigned.to_list() == [None, 3]
    assert more["dtype(c)"].to_list() == [True, False]
    berlin = pl.Series("c", [NOON]).dt.convert_time_zone("Europe/Berlin")
    assert typed(berlin, DType.TIMESTAMP)[0].to_list() == [NOON]
    assert typed(pl.Series("c", [None]), DType.BOOLEAN)[0].dtype == pl.Boolean
