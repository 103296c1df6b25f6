from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest

from penstock.control import submit_job
from penstock.deployment import deploy
from penstock.errors import UnavailableError
from penstock.ports import EVENTS_TOPIC
from penstock.runtime import open_services
from penstock.scoring import JobRow, pin_job, score_job

if TYPE_CHECKING:
    from collections.abc import Iterator

    from penstock.records import ScoringJob
    from penstock.runtime import LocalServices
    from penstock.testing.served_project import ServedProject

ROWS = [JobRow(key=key) for key in ("BTC", "ETH", "ADA") * 10]


@pytest.fixture
def services(served: ServedProject) -> Iterator[LocalServices]:
    with open_services(served.home, actor="tester") as opened:
        deploy(opened, "btc", version=1)
        yield opened


def _job(services: LocalServices, job_id: str = "one") -> ScoringJob:
    return submit_job(services, "btc", 1, ROWS, job_id=job_id)


def _quiet(what: str, share: float) -> None:
    del what, share


def test_a_job_that_dies_after_its_append_does_nothing_twice(
    services: LocalServices, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = _job(services)
    pinned = pin_job(services, job)

    def fail(*_: object, **__: object) -> None:
        raise UnavailableError("killed here")

    with monkeypatch.context() as patch:
        patch.setattr(services.log, "publish", fail)
        with pytest.raises(UnavailableError):
            score_job(services, job, pinned, _quiet)
    first = services.tables.scan("scores/btc").collect()
    done = score_job(services, job, pinned, _quiet)

    ids = services.tables.scan("scores/btc").collect()["prediction_id"].sort().to_list()
    assert ids == first["prediction_id"].sort().to_list()
    assert (done.rows, done.first_id, done.last_id) == (30, ids[0], ids[-1])
    assert len(services.log.read(EVENTS_TOPIC, after=0, limit=1_000)) >= 1


def test_two_workers_at_one_job_score_it_once(services: LocalServices) -> None:
    job = _job(services)
    pinned = pin_job(services, job)

    with ThreadPoolExecutor(2) as threads:
        runs = [threads.submit(score_job, services, job, pinned, _quiet) for _ in range(2)]
        first, second = [run.result() for run in runs]

    assert first == second
    assert services.tables.scan("scores/btc").collect().height == 30


def test_jobs_of_one_deployment_do_not_meet(services: LocalServices) -> None:
    jobs = [_job(services, f"j{n}") for n in range(4)]

    done = [score_job(services, job, pin_job(services, job), _quiet) for job in reversed(jobs)]

    assert [one.rows for one in done] == [30] * 4
    stored = services.tables.scan("scores/btc").collect()
    assert stored.group_by("request_id").len()["len"].to_list() == [30] * 4


def test_a_job_reads_what_was_pinned(services: LocalServices) -> None:
    job = _job(services)
    pinned = pin_job(services, job)
    done = score_job(services, job, pinned, _quiet)

    stored = services.tables.scan("scores/btc").collect()
    assert stored["at_us"].unique().to_list() == [pinned.now_us]
    assert set(stored["progress"]) == {'{"momentum":1}'}
    assert done.version == "direction@1"
