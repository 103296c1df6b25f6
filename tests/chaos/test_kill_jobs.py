"""Jobs and their messages through kill -9 of the worker."""

from __future__ import annotations

import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, cast

import polars as pl
import pytest

from penstock.control import job_page, job_state, submit_job
from penstock.deployment import deploy
from penstock.ports import EVENTS_TOPIC
from penstock.records import Delivery
from penstock.runtime import open_services
from penstock.scoring import JobRow
from penstock.testing.working import until, working

if TYPE_CHECKING:
    from collections.abc import Iterator

    from penstock.records import ScoringJob
    from penstock.runtime import LocalServices
    from penstock.testing.served_project import ServedProject

PATIENCE_S = 120.0
ROWS = 120_000  # scored in three parts


class Receiver(ThreadingHTTPServer):
    """Takes messages in, and keeps the first sender waiting for as long as it lives."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.ids: list[str] = []
        self.gone = threading.Event()


class _Handler(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        server = cast("Receiver", self.server)
        self.rfile.read(int(self.headers["content-length"]))
        server.ids.append(self.headers["webhook-id"])
        if len(server.ids) == 1:
            server.gone.wait(PATIENCE_S)
        else:
            self.send_response(204)
            self.end_headers()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the library's name
        """Say nothing."""


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with Receiver() as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.gone.set()
        server.shutdown()
        thread.join()


@pytest.fixture
def services(served: ServedProject) -> Iterator[LocalServices]:
    settings = served.home / "penstock.toml"
    settings.write_text(settings.read_text() + '\nwebhook_hosts = "127.0.0.1"\n')
    with open_services(served.home, actor="tester") as opened:
        deploy(opened, "btc", version=1)
        yield opened


def _is_scoring(services: LocalServices, job: ScoringJob) -> bool:
    run = services.workflows.get(job.run_id)
    return bool(run and run.steps and run.steps[-1].name == "score")


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_job_ends_once_and_its_message_arrives(
    services: LocalServices, receiver: Receiver
) -> None:
    rows = [JobRow(key=("ADA", "BTC", "ETH")[n % 3], at_us=0) for n in range(ROWS)]
    hook = f"http://127.0.0.1:{receiver.server_port}/"
    # What stores the scores waits for the lock: the job cannot be over before it was seen at work.
    with services.locks.hold("jobs/btc"), working(services.home) as first:
        job = submit_job(services, "btc", 1, rows, job_id="big", webhook=hook)
        until(lambda: _is_scoring(services, job))
        first.kill()
    assert job_state(services, job).state == "running"
    with working(services.home) as second:
        until(lambda: bool(receiver.ids))
        second.kill()  # while the receiver has not answered
    found = services.metadata.read(Delivery, f"{job.run_id}.ended")
    assert found is not None
    assert found.state == "waiting"
    receiver.gone.set()
    with working(services.home):
        until(lambda: bool(services.metadata.find(Delivery, where={"state": "delivered"})))

    state = job_state(services, job)
    assert (state.state, state.webhook, state.error) == ("succeeded", "delivered", "")
    stored = services.tables.scan("scores/btc").collect()
    assert stored.height == ROWS
    assert stored["prediction_id"].n_unique() == ROWS
    assert stored["request_id"].unique().to_list() == ["big"]
    told = services.log.read(EVENTS_TOPIC, after=0, limit=1_000)
    assert len([one for one in told if b"scores.ready" in one.payload]) == 1
    assert receiver.ids == [f"{job.run_id}.ended"] * 2
    page = job_page(services, job, after="", limit=9)
    assert page["entity"].to_list() == ["ADA", "BTC", "ETH"] * 3
    assert page.select(pl.col("prediction_id").is_sorted()).item()
