"""Estimators: found by their path, checked before anything is trained, and built."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Literal, Protocol, cast

from penstock.errors import NotSupportedError, PenstockError, nearest
from penstock.registry import CustomModel, CustomPlace
from penstock.spec import duration_us

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    import numpy as np
    from numpy.typing import NDArray

    from penstock.spec import Trainer

    Task = Literal["classification", "regression"]
    Prepare = Literal["none", "impute", "scale"]

__all__ = ["Estimator", "build_estimator", "estimator_faults", "estimator_path", "prepare_of"]

BOOSTERS = {
    "xgboost": {"classification": "XGBClassifier", "regression": "XGBRegressor"},
    "lightgbm": {"classification": "LGBMClassifier", "regression": "LGBMRegressor"},
}
CUSTOM_TIMEOUT = "10s"
TITLES = {"xgboost": "XGBoost", "lightgbm": "LightGBM"}
DEFAULTS: Mapping[str, Mapping[str, object]] = {
    "xgboost": {"tree_method": "hist", "n_jobs": 1},
    "lightgbm": {"n_jobs": 1, "verbose": -1, "deterministic": True, "force_col_wise": True},
}
TYPE_OF_TASK = {"classification": "classifier", "regression": "regressor"}


class Estimator(Protocol):
    """What learns."""

    def fit(self, x: NDArray[np.float64], y: NDArray[np.generic]) -> object:
        """Learn."""
        ...


class _Described(Estimator, Protocol):
    """What is used of an estimator of a library beside."""

    def get_params(self) -> Mapping[str, object]:
        """Every parameter by name."""
        ...


def estimator_path(trainer: Trainer, task: Task) -> str:
    """``module:Class`` of what a trainer trains for a task."""
    if trainer.kind in {"sklearn", "custom", "graph"}:
        return trainer.estimator
    return f"{trainer.kind}:{BOOSTERS[trainer.kind][task]}"


def estimator_faults(trainer: Trainer, task: Task) -> list[str]:
    """Everything that keeps a trainer from being tried, without training it.

    Args:
        trainer: The trainer.
        task: What its dataset asks for.

    Returns:
        Sentences; none when it can be tried.
    """
    if trainer.kind == "graph":  # applying it has checked what can be checked without versions
        return []
    if trainer.kind == "custom":
        return _custom_faults(trainer)
    try:
        estimator = _find(trainer, task)()
    except NotSupportedError as error:
        return [error.message]
    except Exception as error:  # noqa: BLE001 - building the estimator runs code of its author
        return [f"{trainer.estimator} cannot be built: {type(error).__name__}: {error}"]
    return [*_param_faults(trainer, estimator), *_task_faults(trainer, estimator, task)]


def prepare_of(trainer: Trainer, task: Task) -> Prepare:
    """What stands before the estimator, with ``auto`` resolved by whether it takes NaN."""
    if trainer.prepare != "auto":
        return trainer.prepare
    if trainer.kind != "sklearn":
        return "none"
    return "none" if _tags(_find(trainer, task)()).input_tags.allow_nan else "scale"


def build_estimator(
    trainer: Trainer, task: Task, params: Mapping[str, object], seed: int
) -> tuple[Estimator, dict[str, object]]:
    """Build the estimator, with what stands before it.

    Args:
        trainer: The trainer.
        task: The task.
        params: Values for all of its parameters.
        seed: The ``random_state`` of an estimator that takes one and was given none.

    Returns:
        The estimator, and the parameters it was built with.
    """
    if trainer.kind == "custom":
        custom = CustomModel(_place(trainer))
        return custom, custom.make(params, seed)
    make = _find(trainer, task)
    chosen = {**DEFAULTS.get(trainer.kind, {}), **params}
    if "random_state" in make().get_params():
        chosen.setdefault("random_state", seed)
    return _prepared(make(**chosen), prepare_of(trainer, task)), chosen


def _custom_faults(trainer: Trainer) -> list[str]:
    """What keeps a class of the user from being trained, asked of its own process."""
    try:
        model = CustomModel(_place(trainer))
    except PenstockError as error:
        return [error.message]
    try:
        return model.check(dict.fromkeys(trainer.params))
    except PenstockError as error:
        return [error.message]
    finally:
        model.close()


def _place(trainer: Trainer) -> CustomPlace:
    return CustomPlace(
        path=trainer.estimator,
        python=trainer.python,
        timeout_s=duration_us(trainer.timeout or CUSTOM_TIMEOUT) / 1e6,
        memory_bytes=trainer.memory_mb * 1_000_000,
    )


def _find(trainer: Trainer, task: Task) -> Callable[..., _Described]:
    """The estimator's class.

    Raises:
        NotSupportedError: Its module is not installed, or has no such class.
    """
    module, _, name = estimator_path(trainer, task).rpartition(":")
    try:
        found = importlib.import_module(module)
    except ImportError as error:
        how = (
            f"{TITLES[trainer.kind]} is not installed. "
            f"Install it with: pip install 'penstock[{trainer.kind}]'"
            if trainer.kind != "sklearn"
            else f"the module {module!r} cannot be imported ({error}); install it, or put it into "
            "the project folder"
        )
        raise NotSupportedError(how, module=module) from error
    if not hasattr(found, name):
        raise NotSupportedError(
            f"the module {module!r} has no {name!r}. {nearest(name, dir(found))}", module=module
        )
    return cast("Callable[..., _Described]", getattr(found, name))


def _param_faults(trainer: Trainer, estimator: _Described) -> Iterator[str]:
    known = estimator.get_params()
    for name in trainer.params:
        if name not in known:
            yield f"it has no parameter {name!r}. {nearest(name, known)}"


def _task_faults(trainer: Trainer, estimator: _Described, task: Task) -> Iterator[str]:
    if trainer.kind != "sklearn":
        if trainer.prepare not in {"auto", "none"}:
            title = TITLES[trainer.kind]
            yield f"prepare={trainer.prepare!r}: {title} needs neither; leave it out"
        return
    kind = _tags(estimator).estimator_type
    if kind != TYPE_OF_TASK[task]:
        yield f"it is a {kind or 'transformer'}, but the label asks for a {TYPE_OF_TASK[task]}"
    elif task == "classification" and not hasattr(type(estimator), "predict_proba"):
        yield (
            "it gives no probabilities (predict_proba); take an estimator that does, such as "
            "LogisticRegression"
        )


def _tags(estimator: Estimator):  # type: ignore[no-untyped-def]  # noqa: ANN202 - sklearn.utils.Tags, of a library without types
    from sklearn.utils import get_tags  # noqa: PLC0415 - only worker processes load scikit-learn

    return get_tags(estimator)


def _prepared(estimator: Estimator, prepare: Prepare) -> Estimator:
    if prepare == "none":
        return estimator
    from sklearn.impute import SimpleImputer  # noqa: PLC0415 - only workers load scikit-learn
    from sklearn.pipeline import Pipeline  # noqa: PLC0415 - only workers load scikit-learn
    from sklearn.preprocessing import StandardScaler  # noqa: PLC0415 - only workers load it

    # A column that is empty in every training row is kept, so that the model's columns stay those
    # of the manifest.
    steps: list[tuple[str, object]] = [
        ("impute", SimpleImputer(strategy="median", keep_empty_features=True))
    ]
    if prepare == "scale":
        steps.append(("scale", StandardScaler()))
    return cast("Estimator", Pipeline([*steps, ("model", estimator)]))
