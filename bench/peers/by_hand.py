"""What a team writes by hand: FastAPI with pydantic and onnxruntime, an asynchronous handler.

``by_hand.py MODEL PORT``; a file that ends with ``.onnx`` runs on onnxruntime with one thread.
"""

from __future__ import annotations

import sys
from pathlib import Path

import joblib
import numpy as np
import onnxruntime
import uvicorn
from fastapi import FastAPI
from pydantic import BaseModel


class Rows(BaseModel):
    """What is sent."""

    rows: list[list[float]]


app = FastAPI()
path = Path(sys.argv[1])
if path.suffix == ".onnx":
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(path.read_bytes(), options)
    given = session.get_inputs()[0]
    outputs = [session.get_outputs()[0].name]
    dtype = np.float64 if "double" in given.type else np.float32

    def compute(rows: list[list[float]]) -> list[object]:
        """Predict with onnxruntime."""
        return session.run(outputs, {given.name: np.array(rows, dtype=dtype)})[0].tolist()
else:
    model = joblib.load(path)

    def compute(rows: list[list[float]]) -> list[object]:
        """Predict with scikit-learn."""
        return model.predict_proba(np.array(rows)).tolist()


@app.post("/predict")
async def predict(rows: Rows) -> dict[str, object]:
    """Answer the predictions."""
    return {"predictions": compute(rows.rows)}


uvicorn.run(app, port=int(sys.argv[2]), loop="uvloop", http="httptools", access_log=False)
