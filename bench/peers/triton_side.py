"""Triton's Python backend around a scikit-learn model.

``triton_side.py MODEL HTTP GRPC METRICS``, the last three its ports.
"""

from __future__ import annotations

import sys

import joblib
import numpy as np
from pytriton.decorators import batch
from pytriton.model_config import DynamicBatcher, ModelConfig, Tensor
from pytriton.triton import Triton, TritonConfig

model = joblib.load(sys.argv[1])


@batch
def predict(x):  # noqa: ANN001, ANN201 - its caller inspects the signature
    """``float64[n, features]`` to ``float64[n, classes]``."""
    return {"prediction": model.predict_proba(x)}


http, grpc, metrics = map(int, sys.argv[2:5])
config = TritonConfig(http_port=http, grpc_port=grpc, metrics_port=metrics)
with Triton(config=config) as triton:
    triton.bind(
        model_name="model",
        infer_func=predict,
        inputs=[Tensor(name="x", dtype=np.float64, shape=(-1,))],
        outputs=[Tensor(name="prediction", dtype=np.float64, shape=(-1,))],
        config=ModelConfig(
            max_batch_size=64, batcher=DynamicBatcher(max_queue_delay_microseconds=0)
        ),
    )
    triton.serve()
