"""The docstring of each aggregate tells its state as it is."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, get_args

import pytest

from penstock.algebra.finish import needs_of
from penstock.algebra.states import state_of
from penstock.spec import Aggregate, AggregateOp, aggregate_functions

if TYPE_CHECKING:
    from collections.abc import Mapping

K = 7
PARTS = ("State", "Merge", "Removal", "Error")


def built(name: str) -> Aggregate:
    """The aggregate that a function makes."""
    given: Mapping[str, dict[str, object]] = {
        "first_k": {"k": K}, "last_k": {"k": K}, "top_k": {"k": K},
        "approx_quantile": {"q": 0.5}, "decayed_mean": {"half_life": "1h"},
    }  # fmt: skip
    made = getattr(aggregate_functions, name)("x", **given.get(name, {}))
    assert isinstance(made, Aggregate)
    return made


def told(name: str) -> dict[str, str]:
    """What the docstring of a function says, by part, in the order of the parts."""
    text = str(getattr(aggregate_functions, name).__doc__)
    return dict(re.findall(r"^ *- (\w+): (.+)$", text, re.MULTILINE))


def test_each_operator_has_a_function() -> None:
    made = [built(name).op for name in aggregate_functions.__all__]
    assert sorted(made) == sorted(get_args(AggregateOp))


@pytest.mark.parametrize("name", aggregate_functions.__all__)
def test_a_docstring_tells_the_state_its_merge_removal_and_error(name: str) -> None:
    assert tuple(told(name)) == PARTS


@pytest.mark.parametrize("name", aggregate_functions.__all__)
def test_the_words_of_a_state_are_as_many_as_are_told(name: str) -> None:
    number, per_place = re.findall(r"^(\d*)(k?) words?:", told(name)["State"])[0]
    expected = int(number or 1) * (K if per_place else 1)
    assert sum(state_of(key).width for key in needs_of(built(name))) == expected


@pytest.mark.parametrize("name", aggregate_functions.__all__)
def test_only_what_is_told_to_be_exact_is(name: str) -> None:
    aggregate = built(name)
    has_no_error = told(name)["Error"].startswith("none")
    is_approximate = aggregate.op.startswith("approx")
    assert has_no_error == (aggregate.is_exact and not is_approximate)
