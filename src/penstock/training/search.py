"""Search: which parameters do best on the validation part, in so many trials and so much time."""

from __future__ import annotations

import signal
import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Generic, TypeVar

import msgspec
import optuna

from penstock.errors import InputError, UserCodeError
from penstock.spec import Choice, Integer, SearchSpace, Uniform, duration_us

from .learned import Trial

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Mapping

    from penstock.spec import Search

__all__ = ["Attempt", "search"]

M = TypeVar("M")

AGAIN_S = 1.0
LEAST_S = 1e-3


class Attempt(msgspec.Struct, Generic[M], frozen=True):
    """A model that was fitted, and how good it is."""

    model: M
    value: float


class _OutOfTimeError(BaseException):
    """The search's time is over. No ``Exception``, so that no estimator catches it."""


class _Best(msgspec.Struct, Generic[M]):
    """The best attempt so far, and every trial."""

    attempt: Attempt[M] | None
    trials: list[Trial]


def search(
    params: Mapping[str, object],
    settings: Search,
    *,
    maximise: bool,
    attempt: Callable[[Mapping[str, object]], Attempt[M]],
) -> tuple[Attempt[M], tuple[Trial, ...]]:
    """Try parameters; the same seed tries the same ones, as long as the time does not run out.

    Args:
        params: Fixed values and spaces to search. Without a space there is one trial.
        settings: Trials, seed and time.
        maximise: Whether a greater value is better.
        attempt: Fits a model with the values and says how good it is; its ``UserCodeError`` fails
            the trial.

    Returns:
        The best attempt, the first of equals, and every trial.

    Raises:
        UserCodeError: Every trial failed; says how the first one did.
        InputError: The time was over before a trial ended.
    """
    spaces = {name: value for name, value in params.items() if isinstance(value, SearchSpace)}
    fixed = {name: value for name, value in params.items() if name not in spaces}
    best: _Best[M] = _Best(None, [])
    failures: list[UserCodeError] = []

    def objective(trial: optuna.Trial) -> float:
        chosen = {name: _suggest(trial, name, space) for name, space in spaces.items()}
        start = time.perf_counter()
        try:
            found = attempt(fixed | chosen)
        except UserCodeError as error:
            failures.append(error)
            _note(best, chosen, None, time.perf_counter() - start, error.message)
            raise
        _note(best, chosen, found.value, time.perf_counter() - start)
        if best.attempt is None or _better(found.value, best.attempt.value, maximise=maximise):
            best.attempt = found
        return found.value

    _run(objective, settings, trials=settings.trials if spaces else 1, maximise=maximise)
    if best.attempt is None and failures:
        raise failures[0]
    if best.attempt is None:
        raise InputError(
            f"No trial ended within timeout={settings.timeout!r}. Give the search more time, or "
            "the candidate less to do.",
            timeout=settings.timeout,
        )
    return best.attempt, tuple(best.trials)


def _run(
    objective: Callable[[optuna.Trial], float], settings: Search, *, trials: int, maximise: bool
) -> None:
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    study = optuna.create_study(
        direction="maximize" if maximise else "minimize",
        sampler=optuna.samplers.TPESampler(seed=settings.seed),
    )
    limit_s = duration_us(settings.timeout) / 1e6 if settings.timeout else 0.0
    try:
        with _time_limit(limit_s):
            study.optimize(objective, n_trials=trials, catch=(UserCodeError,))
    except _OutOfTimeError:
        return


def _note(
    best: _Best[M],
    chosen: Mapping[str, object],
    value: float | None,
    duration_s: float,
    error: str = "",
) -> None:
    number = len(best.trials)
    best.trials.append(
        Trial(number=number, params=chosen, value=value, duration_s=duration_s, error=error)
    )


def _better(value: float, than: float, *, maximise: bool) -> bool:
    return value > than if maximise else value < than


def _suggest(trial: optuna.Trial, name: str, space: SearchSpace) -> object:
    match space:
        case Uniform(low=low, high=high, log=log):
            return trial.suggest_float(name, low, high, log=log)
        case Integer(low=low, high=high, log=log):
            return trial.suggest_int(name, low, high, log=log)
        case Choice(options=options):
            return trial.suggest_categorical(name, options)


@contextmanager
def _time_limit(limit_s: float) -> Generator[None]:
    """Raise ``_OutOfTimeError`` in this thread when the time is over; 0 for no limit.

    A timer signal interrupts a fit between two of its Python instructions, and so a single trial
    that would never end. It comes again every second, because an exception that is raised inside a
    callback from native code is lost. Signals reach the main thread only, and that is where a
    worker process runs its task; in another thread the limit is not kept.
    """
    if not limit_s or threading.current_thread() is not threading.main_thread():
        yield
        return

    def over(_signal: int, _frame: object) -> None:
        raise _OutOfTimeError

    handler = signal.signal(signal.SIGALRM, over)
    start = time.monotonic()
    remaining_s, _ = signal.setitimer(signal.ITIMER_REAL, limit_s, AGAIN_S)
    try:
        yield
    finally:
        # The timer stops before the handler goes: a late alarm would else end the process.
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, handler)
        if remaining_s:
            left_s = remaining_s - (time.monotonic() - start)
            signal.setitimer(signal.ITIMER_REAL, max(left_s, LEAST_S))
