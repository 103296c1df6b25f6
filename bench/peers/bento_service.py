"""BentoML's own services around a scikit-learn model: as it comes, and with adaptive batching.

PEER_MODEL names the model's file.
"""

import os

import bentoml
import joblib
import numpy as np


@bentoml.service(workers=1)
class Model:
    """Answers probabilities, a request at a time in each of its threads."""

    def __init__(self) -> None:
        self.model = joblib.load(os.environ["PEER_MODEL"])

    @bentoml.api
    def predict(self, rows: np.ndarray) -> np.ndarray:
        """``float64[n, features]`` to ``float64[n, classes]``."""
        return self.model.predict_proba(rows)


@bentoml.service(workers=1)
class Batching:
    """Answers probabilities, the requests that come together in one call."""

    def __init__(self) -> None:
        self.model = joblib.load(os.environ["PEER_MODEL"])

    @bentoml.api(batchable=True)
    def predict(self, rows: np.ndarray) -> np.ndarray:
        """``float64[n, features]`` to ``float64[n, classes]``."""
        return self.model.predict_proba(rows)
