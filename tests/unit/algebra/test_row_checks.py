"""Functions of the user that look at other rows are found, and no others."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.algebra import compile_vector, require_by_row, to_polars
from penstock.errors import UserCodeError
from penstock.spec import Function, col, function

if TYPE_CHECKING:
    from collections.abc import Callable

    from penstock.algebra import FloatArray

    Body = Callable[..., object]

RNG = np.random.default_rng()
WEIGHTS = np.random.default_rng(5).normal(size=(2, 64)).astype(np.float32)


def centred(x: FloatArray) -> FloatArray:
    return x - np.nanmean(x)


def summed(x: FloatArray) -> FloatArray:
    return np.cumsum(x)


def ranked(x: FloatArray) -> FloatArray:
    return np.argsort(np.argsort(x)).astype(np.float64)


def changed(x: FloatArray) -> FloatArray:
    return np.diff(x, prepend=x[:1])


def sorted_(x: FloatArray) -> FloatArray:
    return np.sort(x)


def counted(x: FloatArray) -> FloatArray:
    return x + len(x)


def many_only(x: FloatArray) -> FloatArray:
    return x * (2 if len(x) > 100 else 1)


def random(x: FloatArray) -> FloatArray:
    return x + RNG.random(len(x))


def filled(x: FloatArray) -> FloatArray:
    return np.where(np.isnan(x), np.nanmax(x, initial=0), x)


def two_at_least(x: FloatArray) -> FloatArray:
    if len(x) == 1:
        raise ValueError("one row")
    return x


LOOKING: list[Body] = [centred, summed, ranked, changed, sorted_, counted, random]


def doubled(x: FloatArray) -> FloatArray:
    return 2 * x


def divided(x: FloatArray, y: FloatArray) -> FloatArray:
    with np.errstate(all="ignore"):
        return np.log(x) / y


def network(x: FloatArray, y: FloatArray) -> FloatArray:
    """As a small model in float32 computes: products of matrices, and sums that nearly cancel."""
    hidden = np.tanh(np.stack([x, y], axis=1).astype(np.float32) @ WEIGHTS)
    out: FloatArray = (hidden @ WEIGHTS[0] - hidden @ WEIGHTS[0][::-1]).astype(np.float64)
    return out


ROWWISE: list[tuple[Body, int]] = [(doubled, 1), (divided, 2), (network, 2)]


def over_frame(node: Function, *columns: FloatArray) -> list[float | None]:
    names = "xy"[: len(columns)]
    frame = pl.DataFrame(dict(zip(names, columns, strict=True)))
    return frame.select(to_polars(node).alias("out"))["out"].to_list()


@pytest.mark.parametrize("body", LOOKING, ids=lambda body: body.__name__)
def test_what_looks_at_other_rows_is_refused(body: Body) -> None:
    node = function(body, "x")
    x = np.array([3.0, 1.0, 2.0, 5.0])
    message = r"does not compute row by row: for x=\S+ it gives \S+ alone and \S+ (among|in)"
    with pytest.raises(UserCodeError, match=message):
        over_frame(node, x)
    with pytest.raises(UserCodeError, match=message):
        compile_vector(node)({"x": x.copy()})


def test_the_row_that_differs_is_shown() -> None:
    node = function(changed, "x")
    message = (
        "'.*test_row_checks.changed' .*: for x=1 it gives 0 alone and -2 among 3 rows.*own row"
    )
    with pytest.raises(UserCodeError, match=message) as found:
        over_frame(node, np.array([3.0, 1.0, 1.5]))
    assert "x=" not in found.value.plain


def test_rows_that_are_all_alike_say_nothing_yet() -> None:
    run = compile_vector(function(centred, "x"))
    assert run({"x": np.array([2.0, 2.0, 2.0])}).tolist() == [0, 0, 0]
    assert run({"x": np.array([7.0])}).tolist() == [0]
    with pytest.raises(UserCodeError, match="row by row"):
        run({"x": np.array([2.0, 4.0])})


def test_what_differs_among_many_rows_only_is_found_among_them() -> None:
    node = function(many_only, "x")
    assert over_frame(node, np.arange(9.0)) == [*range(9)]
    with pytest.raises(UserCodeError, match="among 500 rows"):
        over_frame(node, np.arange(500.0))


def test_what_looks_at_nulls_of_others_is_found_where_there_are_some() -> None:
    node = function(filled, "x")
    assert over_frame(node, np.array([1.0, 2.0])) == [1, 2]
    with pytest.raises(UserCodeError, match="for x=nan it gives 0 alone and 2 among 3"):
        over_frame(node, np.array([1.0, np.nan, 2.0]))


def test_what_fails_for_one_row_is_refused_before_it_is_asked_for_one() -> None:
    with pytest.raises(UserCodeError, match="failed with ValueError: one row"):
        over_frame(function(two_at_least, "x"), np.array([1.0, 2.0]))


def test_it_is_tried_once() -> None:
    calls: list[int] = []

    def body(x: FloatArray) -> FloatArray:
        calls.append(len(x))
        return x

    node = Function("m", "f", "", "", (col("x"),))
    x = np.arange(4.0)
    require_by_row(node, body, [x], x, 4)
    assert sorted(calls) == [1, 1, 1, 1, 2, 2, 4, 4]
    run = compile_vector(function(many_only, "x"))
    run({"x": x})
    run({"x": np.arange(500.0)})  # found no more


@pytest.mark.parametrize(("body", "width"), ROWWISE, ids=[body.__name__ for body, _ in ROWWISE])
@given(data=st.data())
def test_what_computes_row_by_row_is_never_refused(
    body: Body, width: int, data: st.DataObject
) -> None:
    number = st.floats() | st.sampled_from([0.0, -1.0, 1e15, 1e-300, np.nan, np.inf])
    columns = data.draw(
        st.integers(1, 40).flatmap(
            lambda rows: st.tuples(*[st.lists(number, min_size=rows, max_size=rows)] * width)
        )
    )
    node = function(body, *"xy"[:width])
    arrays = {name: np.array(column) for name, column in zip("xy", columns, strict=False)}
    with np.errstate(all="ignore"):
        compile_vector(node)(arrays)
