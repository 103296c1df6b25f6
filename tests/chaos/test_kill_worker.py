from __future__ import annotations

import math
import os
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest

from penstock.control import ingest_run, start, train_run
from penstock.plan import apply
from penstock.ports import Put
from penstock.records import Process
from penstock.registry import aliases, versions
from penstock.runtime import (
    executing,
    init_project,
    living_processes,
    load_project,
    local_user,
    open_services,
)
from penstock.testing.working import until, working

if TYPE_CHECKING:
    from collections.abc import Generator
    from pathlib import Path

    from penstock.ports import RunInfo
    from penstock.runtime import LocalServices

PATIENCE_S = 200.0
PROJECT = """
import penstock as ps
from sklearn.linear_model import LogisticRegression

shop = ps.Entity("shop")
sales = ps.Source(
    "sales", entity=shop, timestamp="at",
    schema={"shop": ps.String, "at": ps.Timestamp, "amount": ps.Float64},
    expect=[ps.unique("shop", "at")], batch=ps.Files("data/*.csv"),
)
habits = ps.FeatureView(
    "habits", source=sales, features=[ps.last("amount"), ps.mean("amount", over="6h")]
)
data = ps.Dataset(
    "more", spine=sales, features=[habits],
    label=ps.Label("more", ps.lead("amount", "1h") > ps.col("amount")),
    split=ps.TimeSplit(embargo="1h"),
)
model = ps.Model(
    "more", dataset=data, candidates=[ps.sklearn(LogisticRegression, C=ps.loguniform(1e-3, 1e2))],
    search=ps.Search(trials=3, seed=7), select=ps.maximise("roc_auc"),
    gates=[ps.at_least("roc_auc", 0.1)],
)
endpoint = ps.Deployment("more", model=model)
"""


@pytest.fixture
def services(tmp_path: Path) -> Generator[LocalServices]:
    (tmp_path / "project.py").write_text(PROJECT)
    (tmp_path / "penstock.toml").write_text("workers = 1\n")
    init_project(tmp_path)
    (tmp_path / "data").mkdir()
    begin = datetime(2026, 1, 1, tzinfo=UTC)
    rows = [
        f"{shop},{(begin + timedelta(hours=hour)).isoformat()},{10 + math.sin(hour / 3 + number)}"
        for number, shop in enumerate(("a", "b", "c"))
        for hour in range(200)
    ]
    (tmp_path / "data" / "sales.csv").write_text("shop,at,amount\n" + "\n".join(rows) + "\n")
    with open_services(tmp_path) as opened:
        project = load_project(tmp_path)
        apply(opened.metadata, project, actor=local_user(), now=opened.clock.now())
        yield opened


def run_of(services: LocalServices, run_id: str) -> RunInfo:
    run = services.workflows.get(run_id)
    assert run is not None
    return run


def is_at(services: LocalServices, run_id: str, step: str) -> bool:
    steps = run_of(services, run_id).steps
    return bool(steps) and (steps[-1].name, steps[-1].state) == (step, "running")


@contextmanager
def training_held(services: LocalServices) -> Generator[None]:
    """Start the run ``t``, which is at its candidates while the context is open.

    That step ends when MLflow's database is there, which waits for this lock: however late the
    test looks, it finds the run there.
    """
    with services.locks.hold("tracking"):
        start(services, train_run("t", "more"))
        until(lambda: is_at(services, "t", "candidates"))
        yield


@pytest.mark.slow
@pytest.mark.timeout(450)
def test_a_training_survives_the_kill_of_its_worker(services: LocalServices) -> None:
    with working(services.home) as first:
        start(services, ingest_run("i", "sales"))
        ingested = services.workflows.wait("i", timeout_s=PATIENCE_S)
        with training_held(services):
            first.kill()
    killed = run_of(services, "t")
    with working(services.home):
        run = services.workflows.wait("t", timeout_s=PATIENCE_S)

    assert ingested.state == "succeeded"
    assert ingested.steps[0].output is not None
    assert ingested.steps[0].output["stored"] == 600
    assert killed.state == "running"
    assert (run.state, run.error) == ("succeeded", "")
    assert run.executor_id != killed.executor_id
    # The finished step was not done again, and what was done twice is there once.
    assert run.steps[0] == killed.steps[0]
    assert [version.label for version in versions(services.metadata, "more")] == ["more@1"]
    assert aliases(services.metadata, "more").champion == 1


@pytest.mark.slow
@pytest.mark.timeout(450)
def test_a_worker_that_stops_leaves_its_run_unfinished(services: LocalServices) -> None:
    with working(services.home) as process:
        until(lambda: bool(living_processes(services, kind="worker")))
        with executing(services):
            start(services, ingest_run("i", "sales"))
            ingested = services.workflows.wait("i", timeout_s=PATIENCE_S)
        (record,) = services.metadata.find(Process)
        with training_held(services):
            process.terminate()
            code = process.wait(PATIENCE_S)
    stopped = run_of(services, "t")
    left = services.metadata.find(Process)

    assert (ingested.state, ingested.executor_id) == ("succeeded", record.executor_id)
    assert record.process_id == process.pid
    assert (code, left) == (0, [])
    assert (stopped.state, stopped.executor_id) == ("running", record.executor_id)


def test_a_dead_process_is_forgotten(services: LocalServices) -> None:
    now = services.clock.now()
    dead = Process(process_id=2**30, kind="serve", started_at=now, seen_at=now)
    services.metadata.write(Put(dead))
    with executing(services):
        left = [process.process_id for process in services.metadata.find(Process)]

    assert left == [os.getpid()]


def test_without_a_worker_a_command_executes_itself(services: LocalServices) -> None:
    with executing(services):
        (record,) = living_processes(services)
        start(services, ingest_run("i", "sales"))
        run = services.workflows.wait("i", timeout_s=PATIENCE_S)

    assert (run.state, run.executor_id) == ("succeeded", services.executor_id)
    assert (record.process_id, record.executor_id) == (os.getpid(), services.executor_id)
    assert services.metadata.find(Process) == []
