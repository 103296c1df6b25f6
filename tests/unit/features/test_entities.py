"""Places of keys among known ones, however they lie."""

from __future__ import annotations

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.features.entities import codes_of

INT64 = st.integers(-(2**63), 2**63 - 1)
CLOSE = st.integers(-30, 30)
KEYS = st.one_of(CLOSE, CLOSE.map(lambda key: key + 10**12), INT64)


@given(known=st.lists(KEYS, unique=True), keys=st.lists(st.one_of(KEYS, st.none())))
def test_every_key_has_the_place_of_its_equal(known: list[int], keys: list[int | None]) -> None:
    found = codes_of(pl.Series(keys, dtype=pl.Int64), pl.Series(known, dtype=pl.Int64))
    assert found.tolist() == [known.index(key) if key in known else -1 for key in keys]


@pytest.mark.parametrize("edge", [2**63 - 1, -(2**63)])
def test_the_ends_of_the_range_are_keys_like_others(edge: int) -> None:
    known = pl.Series([edge])
    found = codes_of(pl.Series([edge, 0, -edge - 1]), known)
    assert found.tolist() == [0, -1, -1]


@given(known=st.lists(st.text(max_size=3), unique=True), keys=st.lists(st.text(max_size=3)))
def test_text_is_a_key_too(known: list[str], keys: list[str]) -> None:
    found = codes_of(pl.Series(keys, dtype=pl.String), pl.Series(known, dtype=pl.String))
    assert found.tolist() == [known.index(key) if key in known else -1 for key in keys]
