"""Native models: written and read in their library's own format, never as pickles.

A skops file may name any class, so only those of ``TRUSTED_TYPES`` and what skops itself knows
are built from it. The list is ours: the file has no say in it. Files of XGBoost (UBJ)
and LightGBM (text) hold data only.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, cast
from zipfile import BadZipFile

import numpy as np

from penstock.errors import NotSupportedError, StateError

from .custom import CustomModel, open_custom
from .graph_files import GraphModel
from .packages import NATIVE_FILES, check_file

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from penstock.records import Manifest, NativeFormat

    Floats = NDArray[np.float64]

__all__ = ["TRUSTED_TYPES", "NativeModel", "as_native", "load_native", "open_native", "save_native"]

TRUSTED_TYPES: tuple[str, ...] = (
    "numpy.dtype",
    "sklearn.ensemble._hist_gradient_boosting.predictor.TreePredictor",
    "sklearn.metrics._dist_metrics.EuclideanDistance64",
    "sklearn.metrics._dist_metrics.ManhattanDistance64",
    "sklearn.metrics._dist_metrics.MinkowskiDistance64",
    "sklearn.neighbors._ball_tree.BallTree",
    "sklearn.neighbors._kd_tree.KDTree",
    "sklearn.neural_network._stochastic_optimizers.AdamOptimizer",
    "sklearn.neural_network._stochastic_optimizers.SGDOptimizer",
    "sklearn.tree._tree.Tree",
)
"""What may be built from a model file beyond skops' own list: data holders of scikit-learn."""


_UNREADABLE = (
    OSError, ValueError, KeyError, TypeError, AttributeError, ImportError, BadZipFile
)  # fmt: skip


class NativeModel(Protocol):
    """A trained model in its own library. Safe for one thread at a time."""

    @property
    def estimator(self) -> object:
        """What the library itself calls the model: the fitted estimator, or the booster."""
        ...

    def predict(self, x: Floats) -> Floats:
        """Predict rows.

        Args:
            x: float64 ``[n, features]`` in the manifest's order; NaN for none.

        Returns:
            float64 ``[n]``: the probability of true, or the value.
        """
        ...


class _Estimator(Protocol):
    """What is used of a fitted scikit-learn estimator."""

    classes_: Sequence[object]

    def predict(self, x: Floats) -> Floats: ...

    def predict_proba(self, x: Floats) -> Floats: ...


class _Booster(Protocol):
    """What is used of an XGBoost booster."""

    def inplace_predict(self, data: Floats) -> NDArray[np.float32]: ...

    def save_raw(self, raw_format: str) -> bytearray: ...


class _BoosterHolder(Protocol):
    """What is used of XGBoost's scikit-learn interface."""

    def get_booster(self) -> _Booster: ...


class _Light(Protocol):
    """What is used of a LightGBM booster."""

    def predict(self, data: Floats, *, num_threads: int) -> Floats: ...

    def num_feature(self) -> int: ...

    def model_to_string(self) -> str: ...


class _LightHolder(Protocol):
    """What is used of LightGBM's scikit-learn interface."""

    booster_: _Light


class _SklearnModel:
    """An estimator or pipeline of scikit-learn."""

    def __init__(self, estimator: _Estimator, *, classifies: bool) -> None:
        # A heavy library; whoever is here has an estimator of it.
        from sklearn import config_context  # noqa: PLC0415

        self._estimator = estimator
        self._trusting = config_context
        self._true = list(estimator.classes_).index(1) if classifies else None

    @property
    def estimator(self) -> object:
        return self._estimator

    def predict(self, x: Floats) -> Floats:
        # Its parameters were validated when it was fitted. Rows are looked at as ever.
        with self._trusting(skip_parameter_validation=True):
            if self._true is None:
                return np.asarray(self._estimator.predict(x), dtype=np.float64).reshape(len(x))
            return np.asarray(self._estimator.predict_proba(x)[:, self._true], dtype=np.float64)


class _BoosterModel:
    """A booster of XGBoost."""

    def __init__(self, booster: _Booster) -> None:
        self._booster = booster

    @property
    def estimator(self) -> object:
        return self._booster

    def predict(self, x: Floats) -> Floats:
        return np.asarray(self._booster.inplace_predict(x), dtype=np.float64).reshape(len(x))


class _LightModel:
    """A booster of LightGBM."""

    def __init__(self, booster: _Light) -> None:
        self._booster = booster

    @property
    def estimator(self) -> object:
        return self._booster

    def predict(self, x: Floats) -> Floats:
        found = self._booster.predict(x, num_threads=1)
        return np.asarray(found, dtype=np.float64).reshape(len(x))


def load_native(folder: Path, manifest: Manifest) -> NativeModel:
    """Load the native model of a package.

    Args:
        folder: The package.
        manifest: Its manifest.

    Raises:
        StateError: The file is missing, was altered or cannot be read.
        NotSupportedError: It needs a library that is not installed, or holds a type that is not
            trusted.
    """
    path = check_file(folder, manifest, NATIVE_FILES[manifest.native])
    return open_native(path, manifest.native, classifies=manifest.task == "classification")


def open_native(path: Path, native: NativeFormat, *, classifies: bool) -> NativeModel:
    """Open a file that ``save_native`` wrote.

    Args:
        path: The file.
        native: Its format.
        classifies: Whether it answers with a probability.

    Raises:
        StateError: It cannot be read.
        NotSupportedError: As for ``load_native``.
    """
    if native == "ubj":
        return _BoosterModel(_read_booster(path))
    if native == "custom":
        return open_custom(path.read_bytes())
    if native == "graph":
        return GraphModel(path.read_bytes(), lambda *part: load_native(*part).predict)
    if native == "lgb":
        return _LightModel(_read_light(path))
    return _SklearnModel(_read_skops(path), classifies=classifies)


def as_native(estimator: object, *, classifies: bool) -> NativeModel:
    """Take a fitted estimator with scikit-learn's interface, or a model of ours, as a native model.

    Args:
        estimator: The estimator.
        classifies: Whether it answers with a probability.
    """
    if isinstance(estimator, (CustomModel, GraphModel)):
        return estimator
    return _SklearnModel(cast("_Estimator", estimator), classifies=classifies)


def save_native(estimator: object, path: Path, native: NativeFormat) -> None:
    """Write a fitted estimator in its own format.

    Args:
        estimator: Of scikit-learn for ``skops``; of the scikit-learn interface of XGBoost for
            ``ubj``, of LightGBM for ``lgb``; a ``CustomModel`` for ``custom``, a ``GraphModel`` for
            ``graph``.
        path: The file to write.
        native: The format.

    Raises:
        NotSupportedError: It holds a type that would not be trusted when it is loaded.
    """
    if native == "ubj":
        booster = cast("_BoosterHolder", estimator).get_booster()
        path.write_bytes(booster.save_raw("ubj"))
        return
    if isinstance(estimator, (CustomModel, GraphModel)):
        estimator.save(path)
        return
    if native == "lgb":
        light = cast("_LightHolder", estimator).booster_
        path.write_text(light.model_to_string(), encoding="utf-8")
        return
    import skops.io  # noqa: PLC0415 - loads scikit-learn, which most processes never need

    skops.io.dump(estimator, path)
    _refuse_untrusted(path, skops.io.get_untrusted_types(file=path))


def _read_skops(path: Path) -> _Estimator:
    import skops.io  # noqa: PLC0415 - loads scikit-learn, which most processes never need

    try:
        _refuse_untrusted(path, skops.io.get_untrusted_types(file=path))
        loaded = skops.io.load(path, trusted=list(TRUSTED_TYPES))
    except _UNREADABLE as error:
        raise StateError(
            f"{path} cannot be read as a skops model: {error}. It was written by another version "
            "of scikit-learn, or damaged; train the model again.",
            path=str(path),
        ) from error
    return cast("_Estimator", loaded)


def _refuse_untrusted(path: Path, found: Sequence[str]) -> None:
    unknown = sorted(set(found) - set(TRUSTED_TYPES))
    if unknown:
        raise NotSupportedError(
            f"The model {path.name} holds {', '.join(unknown)}, which is not on the list of types "
            "that may be built from a model file. Use estimators of scikit-learn, "
            "XGBoost or LightGBM.",
            types=unknown,
        )


def _read_booster(path: Path) -> _Booster:
    try:
        import xgboost  # noqa: PLC0415 - an extra
    except ImportError as error:
        raise NotSupportedError(
            "This model needs XGBoost, which is not installed. "
            "Install it with: pip install 'penstock[xgboost]'",
            extra="xgboost",
        ) from error
    booster = xgboost.Booster({"nthread": 1})
    try:
        booster.load_model(bytearray(path.read_bytes()))
    except (OSError, xgboost.core.XGBoostError) as error:
        raise StateError(
            f"{path} cannot be read as an XGBoost model: {str(error).splitlines()[-1]}. It is "
            "damaged; train the model again.",
            path=str(path),
        ) from error
    return cast("_Booster", booster)


def _read_light(path: Path) -> _Light:
    try:
        import lightgbm  # noqa: PLC0415 - an extra
    except ImportError as error:
        raise NotSupportedError(
            "This model needs LightGBM, which is not installed. "
            "Install it with: pip install 'penstock[lightgbm]'",
            extra="lightgbm",
        ) from error
    try:
        booster = lightgbm.Booster(model_str=path.read_text(encoding="utf-8"))
    except (OSError, ValueError, lightgbm.basic.LightGBMError) as error:
        raise StateError(
            f"{path} cannot be read as a LightGBM model: {str(error).splitlines()[-1]}. It is "
            "damaged; train the model again.",
            path=str(path),
        ) from error
    return cast("_Light", booster)
