"""Single predictions over gRPC with h2load, beside echoes of grpcio."""

from __future__ import annotations

import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from unittest import mock

import grpc
import numpy as np

from penstock.http.grpc_messages import SERVICE, message

from .figure import Figure
from .project import build, command, free_port, process, token_of

CONNECTIONS, STREAMS = 4, 16
BUDGET = 0.8
METHOD = f"/{SERVICE}/ModelInfer"
NUMBER = r"[\d.]+"


def measure(*, quick: bool) -> list[Figure]:
    """Take the figures."""
    if shutil.which("h2load") is None:
        raise SystemExit("This needs h2load, such as from 'apt-get install nghttp2-client'.")
    rounds, seconds = (2, 2) if quick else (5, 4)
    with tempfile.TemporaryDirectory(prefix="penstock-bench-") as folder:
        home = Path(folder) / "home"
        home.mkdir()
        build(home)
        token = token_of(home)
        body = _request().SerializeToString()
        framed = home / "request.bin"
        framed.write_bytes(b"\0" + len(body).to_bytes(4, "big") + body)
        http, ours, echo, threads = (free_port() for _ in range(4))
        script = str(Path(__file__).with_name("grpc_echo.py"))
        serve = command("serve", "--home", str(home), "--port", str(http))
        with ExitStack() as stack:
            stack.enter_context(mock.patch.dict(os.environ, PENSTOCK_SERVE_GRPC_PORT=str(ours)))
            stack.enter_context(process(serve, f"http://127.0.0.1:{http}/v2/health/ready"))
            for port, more in ((echo, []), (threads, ["threads"])):
                child = subprocess.Popen([sys.executable, script, str(port), *more])
                stack.callback(child.wait)
                stack.callback(child.terminate)
            for port in (ours, echo, threads):
                _check(port, token)
            rates: dict[int, list[float]] = {ours: [], echo: [], threads: []}
            for _ in range(rounds):
                for port, found in rates.items():
                    found.append(_load(port, framed, token, seconds))
    return [
        Figure(
            what=f"ModelInfer, {CONNECTIONS} connections of {STREAMS} streams",
            ours=statistics.median(rates[ours]),
            unit="1/s",
            baseline=statistics.median(rates[port]),
            baseline_name=name,
            budget=BUDGET if port == echo else None,
            spread=(min(rates[ours]), max(rates[ours])),
            note="with a token, routes, metrics and a log of every score",
        )
        for port, name in ((echo, "echo, grpcio on uvloop"), (threads, "echo, grpcio's threads"))
    ]


def _request() -> Any:  # noqa: ANN401 - a message
    request = message("ModelInferRequest")(model_name="boosted")
    request.inputs.add(name="x", datatype="FP64", shape=[1, 20])
    request.raw_input_contents.append(np.random.default_rng(3).normal(size=20).tobytes())
    return request


def _check(port: int, token: str) -> None:
    """See that the server answers what a client would read: h2load does not look."""
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        grpc.channel_ready_future(channel).result(60)
        call: Any = channel.unary_unary(
            METHOD,
            request_serializer=lambda request: request.SerializeToString(),
            response_deserializer=message("ModelInferResponse").FromString,
        )
        answer = call(_request(), metadata=(("authorization", f"Bearer {token}"),), timeout=10)
        assert answer.raw_output_contents
    time.sleep(0.1)


def _load(port: int, body: Path, token: str, seconds: int) -> float:
    """Requests per second."""
    command_ = [str(shutil.which("h2load")), "-c", str(CONNECTIONS), "-m", str(STREAMS)]
    headers = ["content-type: application/grpc", "te: trailers", f"authorization: Bearer {token}"]
    listed = [word for header in headers for word in ("-H", header)]
    url = f"http://127.0.0.1:{port}{METHOD}"
    timing = ["-D", str(seconds), "--warm-up-time", "1"]
    done = subprocess.run(
        [*command_, *timing, *listed, "-d", str(body), url],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    failed = re.search(rf"({NUMBER}) failed, ({NUMBER}) errored", done)
    rate = re.search(rf"finished in .*?, ({NUMBER}) req/s", done)
    if rate is None or failed is None or failed.groups() != ("0", "0"):
        raise RuntimeError(f"requests failed:\n{done}")
    return float(rate[1])
