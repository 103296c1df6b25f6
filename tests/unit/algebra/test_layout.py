from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.algebra import Events, ValueReader, as_of, compile_view, fold
from penstock.errors import StateError
from penstock.spec import Aggregate, FeatureView
from penstock.testing.strategies import source


def view_of(*features: Aggregate) -> FeatureView:
    return FeatureView(name="v", source=source(), features=features)


VIEW = view_of(Aggregate(op="count"), Aggregate(op="max", column="x", over="1h"))
PROGRAM = compile_view(VIEW)


EVENT = Events(codes=np.zeros(1, np.int64), times=np.ones(1, np.int64), values=(np.ones(1),) * 2)


def value_of(size: int) -> bytes:
    events = Events(
        codes=np.zeros(size, np.int64),
        times=np.arange(size, dtype=np.int64) * 1_000_000,
        values=(np.ones(size), np.ones(size)),
    )
    return fold(PROGRAM, [None], events)[0]


def refused(value: bytes) -> None:
    reader = ValueReader(PROGRAM)
    for count in (1, 20):
        with pytest.raises(StateError, match="penstock features build"):
            reader.read([value] * count, np.zeros(count, np.int64))
    with pytest.raises(StateError, match="penstock features build"):
        fold(PROGRAM, [value], EVENT)


@given(st.binary(max_size=200))
def test_garbage_is_refused(value: bytes) -> None:
    refused(value)


@given(st.integers(0, 400))
def test_a_value_cut_short_is_refused(length: int) -> None:
    value = value_of(2000)
    refused(value[: min(length, len(value) - 1)])


def test_damaged_counts_and_other_programs_are_refused() -> None:
    value = value_of(5)
    refused(value + b"\0" * 8)
    refused(value[:24] + (-1).to_bytes(8, "little", signed=True) + value[32:])
    refused(value[:24] + (2).to_bytes(8, "little") + value[32:])
    other = compile_view(view_of(Aggregate(op="count"), Aggregate(op="min", column="x", over="1h")))
    assert other.fingerprint != PROGRAM.fingerprint
    with pytest.raises(StateError, match="another version of the feature view"):
        ValueReader(other).read_one(value, 0)


def test_a_value_too_short_for_its_time_is_refused() -> None:
    with pytest.raises(StateError, match="too short"):
        as_of([b"PNSK"], np.zeros(1, np.int64))


def test_the_bytes_written_by_the_first_format_stay_readable() -> None:
    value = bytes.fromhex(
        "504e534b01000000" + PROGRAM.fingerprint.hex() + "40420f0000000000"
        "0100000000000000" + "0200000000000000"
        "0000000000000000" + "0000000000000040"
        "ffffffffffffffff" + "0000000000000000" + "000000000000f03f" + "000000000000f03f"
    )
    assert value == value_of(2)
    assert ValueReader(PROGRAM).read_one(value, 1_000_000) == [2.0, 1.0]


TWO_HOPS = compile_view(
    view_of(
        Aggregate(op="max", column="x", over="1h", hop="1m"),
        Aggregate(op="max", column="x", over="1d", hop="1h"),
    )
)


def of_two_hops(*times_us: int) -> bytes:
    size = len(times_us)
    events = Events(
        codes=np.zeros(size, np.int64),
        times=np.array(times_us, dtype=np.int64),
        values=(np.arange(size, dtype=np.float64),),
    )
    return fold(TWO_HOPS, [None], events)[0]


def test_values_of_one_length_and_other_numbers_of_tiles_are_told_apart() -> None:
    minute, hour = 60_000_000, 3_600_000_000
    # Two tiles of each hop; then three of the shorter and one of the longer: as many words.
    spread = of_two_hops(10 * hour + 1, 11 * hour + 1)
    dense = of_two_hops(11 * hour + minute, 11 * hour + 2 * minute, 11 * hour + 3 * minute)
    assert len(spread) == len(dense)
    at = 11 * hour + 5 * minute
    one = ValueReader(TWO_HOPS)
    many = [spread, dense] * 10
    expected = [one.read_one(value, at) for value in many]
    assert expected[0] != expected[1]
    np.testing.assert_array_equal(one.read(many, np.full(20, at)), expected)


@pytest.mark.parametrize("byte", [0, 9])
def test_one_foreign_value_among_many_of_its_length_is_refused(byte: int) -> None:
    value = value_of(5)
    foreign = bytearray(value)
    foreign[byte] ^= 1
    many = [value] * 20
    many[13] = bytes(foreign)
    with pytest.raises(StateError, match="another format or belongs to another version"):
        ValueReader(PROGRAM).read(many, np.zeros(20, np.int64))
