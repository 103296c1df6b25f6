"""The servers that are measured beside ours: how each is started, and what it is asked."""

from __future__ import annotations

import json
import subprocess
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from .project import free_port

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["PEERS", "Peer", "Place"]

SCRIPTS = Path(__file__).with_name("peers")


class Place(NamedTuple):
    """What a server runs with.

    Attributes:
        python: The interpreter of its environment.
        folder: A folder of its own.
        model: The file of the scikit-learn model.
        port: Where it is to listen.
    """

    python: Path
    folder: Path
    model: Path
    port: int


class Peer(NamedTuple):
    """A server.

    Attributes:
        name: What it is called; no two are alike.
        environment: Name of the folder of its environment.
        start: Its command line.
        ready: The path that answers when it is ready.
        path: The path that predicts.
        body: From a row to what is sent.
        models: What it is measured with; everything when empty.
    """

    name: str
    environment: str
    start: Callable[[Place], list[str]]
    ready: str
    path: str
    body: Callable[[list[float]], object]
    models: tuple[str, ...] = ()


def _mlflow(at: Place) -> list[str]:
    saved = str(at.folder / "model")
    save = [str(at.python), str(SCRIPTS / "mlflow_save.py"), str(at.model), saved]
    subprocess.run(save, check=True, capture_output=True)
    serve = [str(at.python), "-m", "mlflow", "models", "serve", "-m", saved, "-p", str(at.port)]
    return [*serve, "--env-manager", "local", "--workers", "1"]


def _bentoml(service: str, at: Place) -> list[str]:
    serve = [str(at.python), "-m", "bentoml", "serve", f"bento_service:{service}"]
    options = ["--port", str(at.port), "--host", "127.0.0.1"]
    return [*serve, *options, "--working-dir", str(SCRIPTS)]


def _mlserver(at: Place) -> list[str]:
    settings = {
        "parallel_workers": 0,  # its worker process never became ready here
        "http_port": at.port,
        "grpc_port": free_port(),
        "metrics_port": free_port(),
        "host": "127.0.0.1",
    }
    declared = {
        "name": "model",
        "implementation": "mlserver_sklearn.SKLearnModel",
        "parameters": {"uri": str(at.model)},
    }
    (at.folder / "settings.json").write_text(json.dumps(settings), encoding="utf-8")
    (at.folder / "model-settings.json").write_text(json.dumps(declared), encoding="utf-8")
    return [str(at.python.with_name("mlserver")), "start", str(at.folder)]


def _by_hand(at: Place) -> list[str]:
    converted = at.model.with_suffix(".onnx")
    given = converted if converted.exists() else at.model
    return [str(at.python), str(SCRIPTS / "by_hand.py"), str(given), str(at.port)]


def _triton(at: Place) -> list[str]:
    ports = [str(at.port), str(free_port()), str(free_port())]
    return [str(at.python), str(SCRIPTS / "triton_side.py"), str(at.model), *ports]


def _rows(row: list[float]) -> object:
    return {"rows": [row]}


def _tensor(row: list[float]) -> dict[str, object]:
    return {"name": "x", "shape": [1, len(row)], "datatype": "FP64", "data": row}


def _v2(row: list[float]) -> object:
    return {"inputs": [_tensor(row)]}


def _v2_probabilities(row: list[float]) -> object:
    return {"inputs": [_tensor(row)], "outputs": [{"name": "predict_proba"}]}


PEERS = (
    Peer("mlflow models serve", "mlflow", _mlflow, "/ping", "/invocations",
         lambda row: {"inputs": [row]}),
    Peer("BentoML", "bentoml", partial(_bentoml, "Model"), "/readyz", "/predict", _rows),
    Peer("BentoML, adaptive batching", "bentoml", partial(_bentoml, "Batching"), "/readyz",
         "/predict", _rows),
    Peer("MLServer", "mlserver", _mlserver, "/v2/health/ready", "/v2/models/model/infer",
         _v2_probabilities),
    Peer("FastAPI by hand, onnxruntime where it can", "byhand", _by_hand, "/docs", "/predict",
         _rows),
    Peer("Triton's Python backend", "pytriton", _triton, "/v2/models/model/ready",
         "/v2/models/model/infer", _v2, ("linear",)),
)  # fmt: skip
