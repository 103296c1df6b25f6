from __future__ import annotations

import pickle

import pytest

import penstock.errors
from penstock.errors import (
    DeclarationError,
    NotFoundError,
    PenstockError,
    PenstockWarning,
    RetryableError,
    UnavailableError,
    nearest,
)

ERRORS = [getattr(penstock.errors, name) for name in penstock.errors.__all__ if name[0].isupper()]


@pytest.mark.parametrize("error", ERRORS)
def test_every_error_is_of_the_tree_and_survives_pickling(
    error: type[PenstockError | PenstockWarning],
) -> None:
    before = error("It broke. Mend it.", part="x", count=3)
    after = pickle.loads(pickle.dumps(before))  # noqa: S301 - our own bytes

    assert isinstance(after, PenstockError | PenstockWarning)
    assert type(after) is error
    assert (after.message, after.facts) == (before.message, {"part": "x", "count": 3})


def test_clients_see_a_kind() -> None:
    assert NotFoundError("x").kind == "not_found"
    assert UnavailableError("x").kind == "unavailable"


def test_what_is_unavailable_may_be_tried_again() -> None:
    assert issubclass(UnavailableError, RetryableError)


def test_an_unknown_name_comes_with_the_nearest_one() -> None:
    error = NotFoundError.of("model", "btc-direktion", ["btc-direction", "eth"], hint="Look.")

    assert str(error) == ("There is no model 'btc-direktion'. Did you mean 'btc-direction'? Look.")


def test_without_a_near_name_the_known_ones_are_listed() -> None:
    assert nearest("zzz", ["a", "b"]) == "Known: 'a', 'b'."
    assert nearest("zzz", [f"n{i}" for i in range(10)], show=2) == "Known: 'n0', 'n1' and 8 more."
    assert not nearest("zzz", [])


def test_faults_are_listed_one_by_one() -> None:
    error = DeclarationError.of("Source('x')", ["a is wrong", "b is wrong"])

    assert str(error) == "Source('x') cannot work:\n  - a is wrong\n  - b is wrong"
    assert error.faults == ("a is wrong", "b is wrong")
    assert DeclarationError("plain").faults == ()
