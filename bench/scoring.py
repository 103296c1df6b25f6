"""Single predictions over HTTP beside the servers that teams use today, one worker each.

Each is asked as it is meant to be: ours by the names of the features, others as they have it.

PENSTOCK_BENCH_PEERS names a folder with an environment for each of them, all with the same
scikit-learn; one that is missing is left out:

    for peer in mlflow bentoml mlserver byhand pytriton; do python3.11 -m venv peers/$peer; done
    peers/mlflow/bin/pip install mlflow==3.17.2
    peers/bentoml/bin/pip install bentoml==1.4.39 scikit-learn
    peers/mlserver/bin/pip install mlserver==1.7.1 mlserver-sklearn==1.7.1 'uvloop<0.22'
    peers/byhand/bin/pip install fastapi 'uvicorn[standard]' onnxruntime scikit-learn
    peers/pytriton/bin/pip install nvidia-pytriton==0.7.0 scikit-learn
    packages="$(echo peers/pytriton/lib/python3*/site-packages)"
    cp bench/peers/triton_patch.py "$packages" && echo 'import triton_patch' > "$packages/patch.pth"
    PENSTOCK_BENCH_PEERS=peers python -m bench scoring
"""

from __future__ import annotations

import os
import statistics
import tempfile
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import NamedTuple

import joblib
import numpy as np

from penstock.deployment.convert import to_onnx
from penstock.errors import NotSupportedError
from penstock.registry import get_version, load_native, read_manifest
from penstock.runtime import open_services

from .figure import Figure
from .load import Load, need_wrk, script, wrk
from .project import build, echoing, free_port, process, serving, token_of
from .servers import PEERS, Peer, Place

FOLDER = "PENSTOCK_BENCH_PEERS"
CONNECTIONS = (1, 64)
NAMES = [f"recent.last_x{i}" for i in range(10)] + [f"recent.mean_x{i}_6h" for i in range(10)]
MORE = """
linear = ps.Model("linear", dataset=rows, candidates=[
    ps.sklearn("sklearn.linear_model:LogisticRegression")],
    gates=[ps.at_least("roc_auc", 0.5)])
centroid = ps.Model("centroid", dataset=rows, candidates=[
    ps.sklearn("sklearn.neighbors:NearestCentroid")],
    gates=[ps.at_least("roc_auc", 0.5)])
linear_endpoint = ps.Deployment("linear", model=linear)
centroid_endpoint = ps.Deployment("centroid", model=centroid)
"""
MODELS = {
    "boosted": "HistGradientBoosting of 100 trees",
    "linear": "logistic regression",
    "centroid": "nearest centroid, which has no ONNX form",
}
BUDGETS = {
    ("boosted", "mlflow models serve"): 100.0,
    ("boosted", "BentoML"): 100.0,
    ("boosted", "MLServer"): 50.0,
    ("boosted", "FastAPI by hand, onnxruntime where it can"): 8.0,
    ("linear", "mlflow models serve"): 40.0,
    ("linear", "Triton's Python backend"): 12.0,
    ("centroid", "mlflow models serve"): 40.0,
}
ECHO_BUDGET, P50_BUDGET, P99_BUDGET = 0.5, 0.2, 0.05


class _Server(NamedTuple):
    """A server under load."""

    url: str
    lua: Path


class _Effort(NamedTuple):
    """How long is measured."""

    rounds: int
    seconds: int


class _Compared(NamedTuple):
    """What a pair of servers did, by the number of connections."""

    ours: dict[int, list[Load]]
    theirs: dict[int, list[Load]]


def measure(*, quick: bool) -> list[Figure]:
    """Take the figures."""
    need_wrk("scoring")
    effort = _Effort(1, 2) if quick else _Effort(3, 4)
    figures: list[Figure] = []
    with tempfile.TemporaryDirectory(prefix="penstock-bench-") as folder:
        home = Path(folder) / "home"
        home.mkdir()
        build(home, more=MORE, models=tuple(MODELS))
        files = {name: _exported(home, name) for name in MODELS}
        with serving(home) as server:
            for model in MODELS:
                ours = _ours(home, server.url, model)
                figures.append(_beside_echo(home, model, ours, effort))
                for peer in _present(model):
                    theirs = _beside(home, peer, files[model], ours, effort)
                    figures += _figures(model, peer, theirs)
    return figures


def _present(model: str) -> list[Peer]:
    folder = os.environ.get(FOLDER)
    if folder is None:
        raise SystemExit(f"bench scoring needs {FOLDER}; see the head of {__file__}.")
    there = [peer for peer in PEERS if (Path(folder) / peer.environment).exists()]
    return [peer for peer in there if not peer.models or model in peer.models]


def _exported(home: Path, model: str) -> Path:
    """The model as scikit-learn's users keep it, its ONNX form beside it where there is one."""
    with open_services(home) as services:
        folder = services.artifacts.path(get_version(services.metadata, model, 1).package)
        manifest = read_manifest(folder)
        native = load_native(folder, manifest).estimator
        path = home / f"{model}.joblib"
        joblib.dump(native, path)
        with suppress(NotSupportedError):  # then the peer runs scikit-learn too
            path.with_suffix(".onnx").write_bytes(to_onnx(native, manifest).model)
    return path


def _row() -> list[float]:
    return list(np.random.default_rng(3).normal(size=20).round(6).tolist())


def _ours(home: Path, url: str, model: str) -> _Server:
    token = token_of(home)
    body = {"features": dict(zip(NAMES, _row(), strict=True))}
    lua = script(home / "ours.lua", [body], token)
    return _Server(f"{url}/v1/deployments/{model}/predict", lua)


def _beside_echo(home: Path, model: str, ours: _Server, effort: _Effort) -> Figure:
    """The share of the floor: the same server, which decodes and sums and answers as shortly."""
    lua = script(home / "echo.lua", [{"features": dict(zip(NAMES, _row(), strict=True))}], "")
    with echoing() as url:
        found = _alternate(ours, _Server(url, lua), effort)
    return Figure(
        what=f"{MODELS[model]}, 64 connections",
        ours=_rate(found.ours[64]),
        unit="1/s",
        baseline=_rate(found.theirs[64]),
        baseline_name="echo on the same server",
        budget=ECHO_BUDGET,
        note="with a token, routes, metrics and a log of every score",
    )


def _beside(home: Path, peer: Peer, model: Path, ours: _Server, effort: _Effort) -> _Compared:
    environment = Path(os.environ[FOLDER]).resolve() / peer.environment
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="penstock-peer-")))
        port = free_port()
        variables = {
            "PATH": f"{environment}/bin:{os.environ['PATH']}",
            "PEER_MODEL": str(model),
        }
        started = peer.start(Place(environment / "bin" / "python", folder, model, port))
        base = f"http://127.0.0.1:{port}"
        stack.enter_context(process(started, base + peer.ready, wait_s=120, given=variables))
        lua = script(home / "peer.lua", [peer.body(_row())], "")
        wrk(base + peer.path, lua, 16, 2)  # some learn how to batch first
        return _alternate(ours, _Server(base + peer.path, lua), effort)


def _alternate(ours: _Server, theirs: _Server, effort: _Effort) -> _Compared:
    found = _Compared({n: [] for n in CONNECTIONS}, {n: [] for n in CONNECTIONS})
    for n in CONNECTIONS:
        for _ in range(effort.rounds):
            found.ours[n].append(wrk(ours.url, ours.lua, n, effort.seconds))
            found.theirs[n].append(wrk(theirs.url, theirs.lua, n, effort.seconds))
    return found


def _figures(model: str, peer: Peer, found: _Compared) -> list[Figure]:
    what = MODELS[model]
    rates = [load.requests_per_s for load in found.ours[64]]
    figures = [
        Figure(
            what=f"{what}, 64 connections",
            ours=_rate(found.ours[64]),
            unit="1/s",
            baseline=_rate(found.theirs[64]),
            baseline_name=peer.name,
            budget=BUDGETS.get((model, peer.name)),
            spread=(min(rates), max(rates)),
        )
    ]
    if peer.environment == "mlflow":
        figures += [
            Figure(
                what=f"{what}, 1 connection, p50",
                ours=statistics.median(load.p50_ms for load in found.ours[1]),
                unit="ms",
                baseline=statistics.median(load.p50_ms for load in found.theirs[1]),
                baseline_name=peer.name,
                budget=P50_BUDGET,
            ),
            Figure(
                what=f"{what}, 64 connections, p99",
                ours=statistics.median(load.p99_ms for load in found.ours[64]),
                unit="ms",
                baseline=statistics.median(load.p99_ms for load in found.theirs[64]),
                baseline_name=peer.name,
                budget=P99_BUDGET,
            ),
        ]
    return figures


def _rate(loads: list[Load]) -> float:
    return statistics.median(load.requests_per_s for load in loads)
