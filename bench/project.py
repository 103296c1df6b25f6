"""A small project with everything trained and deployed, and processes, for benchmarks."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import polars as pl
import psutil

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

DECLARED = """
import penstock as ps

device = ps.Entity("device", dtype=ps.Int64)
readings = ps.Source(
    "readings", entity=device, timestamp="ts",
    schema={"device": ps.Int64, "ts": ps.Timestamp}
    | {f"x{i}": ps.Float64 for i in range(10)},
    expect=[ps.unique("device", "ts")], batch=ps.Files("data/*.parquet"))
recent = ps.FeatureView(
    "recent", source=readings,
    features=[ps.last(f"x{i}") for i in range(10)]
    + [ps.mean(f"x{i}", over="6h") for i in range(10)])
rows = ps.Dataset(
    "rows", spine=readings, features=[recent],
    label=ps.Label("up", ps.lead("x0", "1h") > ps.col("x0")), split=ps.TimeSplit(embargo="1h"))
boosted = ps.Model(
    "boosted", dataset=rows, candidates=[ps.sklearn(
        "sklearn.ensemble:HistGradientBoostingClassifier", max_iter=100, early_stopping=False)],
    gates=[ps.at_least("roc_auc", 0.5)])
endpoint = ps.Deployment("boosted", model=boosted)
"""
DEVICES, HOURS = 40, 500


def command(*arguments: str) -> list[str]:
    """A Penstock command line for this interpreter."""
    return [sys.executable, "-m", "penstock.cli", *arguments]


def run(home: Path, *arguments: str) -> None:
    """Run a command in the project; its output is shown when it fails."""
    done = subprocess.run(
        command(*arguments, "--home", str(home)), capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise RuntimeError(f"penstock {' '.join(arguments)}:\n{done.stdout}{done.stderr}")


def build(home: Path, *, more: str = "", models: Sequence[str] = ("boosted",)) -> None:
    """Declare, ingest, train and deploy; ``more`` declares further models."""
    (home / "data").mkdir(parents=True)
    rng = np.random.default_rng(7)
    rows = DEVICES * HOURS
    walks = {f"x{i}": rng.normal(size=(DEVICES, HOURS)).ravel() for i in range(10)}
    frame = {
        "device": np.repeat(np.arange(DEVICES), HOURS),
        "ts": np.tile(np.arange(HOURS) * 3_600_000_000 + 1_700_000_000_000_000, DEVICES),
    }
    stamped = pl.DataFrame(frame | walks).with_columns(pl.col("ts").cast(pl.Datetime("us", "UTC")))
    assert len(stamped) == rows
    stamped.write_parquet(home / "data" / "readings.parquet")
    run(home, "init")
    (home / "project.py").write_text(DECLARED + more, encoding="utf-8")
    for arguments in (
        ("apply",),
        ("ingest", "readings"),
        ("features", "build"),
        *(("train", model) for model in models),
    ):
        run(home, *arguments)


def free_port() -> int:
    """A port of the loopback interface that nothing uses."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def process(
    arguments: list[str], url: str, *, wait_s: float = 60.0, given: Mapping[str, str] | None = None
) -> Iterator[float]:
    """Run a server until the block ends; yields the seconds until it answered.

    Args:
        arguments: Its command line.
        url: What answers when it is ready.
        wait_s: How long it may take until then.
        given: Variables of its environment.
    """
    environment = os.environ | {"OMP_NUM_THREADS": "1"} | dict(given or {})
    start = time.perf_counter()
    with subprocess.Popen(
        arguments,
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    ) as child:
        try:
            while not answers(url):
                if child.poll() is not None or time.perf_counter() - start > wait_s:
                    raise RuntimeError(f"{' '.join(arguments)} does not answer at {url}")
                time.sleep(0.01)
            yield time.perf_counter() - start
        finally:
            # Some servers leave children behind that still hold the port.
            with suppress(ProcessLookupError):  # it ended by itself
                os.killpg(child.pid, signal.SIGTERM)
            child.wait(20)


class Server(NamedTuple):
    """A serving process.

    Attributes:
        url: Its address.
        process_id: Of the process.
        ready_s: Seconds until it was ready.
    """

    url: str
    process_id: int
    ready_s: float


@contextmanager
def serving(home: Path) -> Iterator[Server]:
    """Run a serving process over a project until the block ends."""
    url = f"http://127.0.0.1:{(port := free_port())}"
    known = {one.pid for one in psutil.Process().children()}
    words = command("serve", "--home", str(home), "--port", str(port))
    with process(words, f"{url}/v2/health/ready") as seconds:
        (child,) = {one.pid for one in psutil.Process().children()} - known
        yield Server(url, child, seconds)


def token_of(home: Path) -> str:
    """The administrator's token of a project."""
    return (home / ".penstock" / "token").read_text(encoding="utf-8").strip()


def ask(url: str, body: object, token: str) -> bytes:
    """What a server answers to a JSON body."""
    headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
    request = urllib.request.Request(  # noqa: S310 - our own loopback address
        url, json.dumps(body).encode(), headers
    )
    with urllib.request.urlopen(request) as answer:  # noqa: S310 - as above
        return bytes(answer.read())


@contextmanager
def echoing(answer: Path | None = None) -> Iterator[str]:
    """Run the floor of HTTP until the block ends, which may answer a file; gives its address."""
    url = f"http://127.0.0.1:{(port := free_port())}/"
    words = [sys.executable, str(Path(__file__).with_name("echo.py")), str(port)]
    with process(words if answer is None else [*words, str(answer)], url):
        yield url


def answers(url: str) -> bool:
    """Whether the address answers at all, with 2xx or 405."""
    try:
        with urllib.request.urlopen(url, timeout=1):  # noqa: S310 - our own loopback address
            return True
    except urllib.error.HTTPError as error:
        return error.code == 405
    except OSError:
        return False
