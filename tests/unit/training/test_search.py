"""A search keeps its seed, its number of trials and its time, and survives trials that fail."""

from __future__ import annotations

import contextlib
import signal
import time
from collections.abc import Callable, Mapping

import pytest

import penstock as ps
from penstock.errors import InputError, UserCodeError
from penstock.spec import Search
from penstock.training.search import Attempt, search

Attempted = Callable[[Mapping[str, object]], Attempt[str]]
SPACE: Mapping[str, object] = {"x": ps.uniform(0.0, 1.0), "kind": ps.choice("a", "b"), "fixed": 3}


def number(value: object) -> float:
    assert isinstance(value, (int, float))
    return float(value)


def near_a_third(params: Mapping[str, object]) -> Attempt[str]:
    assert params["fixed"] == 3
    return Attempt(str(params), -abs(number(params["x"]) - 1 / 3))


def test_the_best_of_the_trials_is_kept() -> None:
    best, trials = search(SPACE, Search(trials=12, seed=1), maximise=True, attempt=near_a_third)
    assert [trial.number for trial in trials] == list(range(12))
    values = [trial.value for trial in trials if trial.value is not None]
    assert best.value == max(values) != values[0]
    assert set(trials[0].params) == {"x", "kind"}


def test_the_same_seed_tries_the_same() -> None:
    def tried(seed: int) -> list[Mapping[str, object]]:
        _, trials = search(SPACE, Search(trials=8, seed=seed), maximise=True, attempt=near_a_third)
        return [trial.params for trial in trials]

    assert tried(3) == tried(3)
    assert tried(3) != tried(4)


def test_minimising_turns_the_order_round() -> None:
    def distance(params: Mapping[str, object]) -> Attempt[str]:
        return Attempt("", abs(number(params["x"]) - 1 / 3))

    best, trials = search(SPACE, Search(trials=8), maximise=False, attempt=distance)
    assert best.value == min(trial.value for trial in trials if trial.value is not None)


def test_every_kind_of_space_is_kept_to() -> None:
    seen: list[Mapping[str, object]] = []
    spaces = {
        "i": ps.integer(2, 5),
        "l": ps.loguniform(1e-3, 1e2),
        "n": ps.integer(1, 64, log=True),
    }

    def look(params: Mapping[str, object]) -> Attempt[str]:
        seen.append(params)
        return Attempt("", number(params["i"]))

    search(spaces, Search(trials=15), maximise=True, attempt=look)
    assert {type(params["i"]) for params in seen} == {int}
    assert {params["i"] for params in seen} <= {2, 3, 4, 5}
    assert all(1e-3 <= number(params["l"]) <= 1e2 for params in seen)
    assert all(1 <= number(params["n"]) <= 64 for params in seen)


def test_without_a_space_there_is_one_trial() -> None:
    _, trials = search(
        {"x": 0.5, "fixed": 3}, Search(trials=9), maximise=True, attempt=near_a_third
    )
    assert [(trial.params, trial.value is None) for trial in trials] == [({}, False)]


def test_a_trial_that_fails_is_noted_and_the_others_go_on() -> None:
    def often(params: Mapping[str, object]) -> Attempt[str]:
        if params["kind"] == "a":
            raise UserCodeError("kind a does not work")
        return near_a_third(params)

    _, trials = search(SPACE, Search(trials=10, seed=1), maximise=True, attempt=often)
    assert len(trials) == 10
    assert {(trial.params["kind"], trial.error) for trial in trials} == {
        ("a", "kind a does not work"),
        ("b", ""),
    }
    assert all((trial.value is None) == bool(trial.error) for trial in trials)


def test_when_every_trial_fails_the_first_error_is_told() -> None:
    def never(params: Mapping[str, object]) -> Attempt[str]:
        raise UserCodeError(f"no {params['fixed']}")

    with pytest.raises(UserCodeError, match="no 3"):
        search(SPACE, Search(trials=3), maximise=True, attempt=never)


def test_a_trial_that_never_ends_is_ended() -> None:
    """The second trial sleeps for ever; the first one is the best."""
    done: list[int] = []

    def stuck(params: Mapping[str, object]) -> Attempt[str]:
        if done:
            time.sleep(60)
        done.append(1)
        return near_a_third(params)

    start = time.monotonic()
    best, trials = search(SPACE, Search(trials=5, timeout="300ms"), maximise=True, attempt=stuck)
    assert time.monotonic() - start < 20
    assert (len(trials), best.value) == (1, trials[0].value)


def test_a_limit_that_a_callback_swallowed_comes_again() -> None:
    """As where native code calls back: what is raised there goes nowhere."""

    def deaf(_params: Mapping[str, object]) -> Attempt[str]:
        with contextlib.suppress(BaseException):
            time.sleep(60)
        time.sleep(60)
        return Attempt("", 0.0)

    with pytest.raises(InputError, match="No trial ended"):
        search(SPACE, Search(timeout="50ms"), maximise=True, attempt=deaf)


def test_a_search_gives_back_the_alarm_it_found() -> None:
    before = signal.getsignal(signal.SIGALRM)
    left_s, _ = signal.getitimer(signal.ITIMER_REAL)
    search(SPACE, Search(trials=2, timeout="9s"), maximise=True, attempt=near_a_third)
    assert signal.getsignal(signal.SIGALRM) is before
    after_s, _ = signal.getitimer(signal.ITIMER_REAL)
    assert (after_s == 0) == (left_s == 0)
    assert left_s - 30 < after_s <= left_s


def test_a_search_that_ends_nothing_says_so() -> None:
    def stuck(_params: Mapping[str, object]) -> Attempt[str]:
        time.sleep(60)
        return Attempt("", 0.0)

    with pytest.raises(InputError, match="No trial ended within timeout='100ms'"):
        search(SPACE, Search(timeout="100ms"), maximise=True, attempt=stuck)
