from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import msgspec
import pytest

import penstock as ps
from penstock.control import (
    PruneSchedule,
    due,
    explain,
    lineage,
    prune_scores,
    replay,
    shown_score,
    step_functions,
)
from penstock.deployment import deploy
from penstock.errors import DeclarationError, NotFoundError
from penstock.monitoring import drain_observations, observe
from penstock.plan import Catalogue, apply
from penstock.ports import Put
from penstock.records import ExperimentState, Observation, Score
from penstock.runtime import open_services
from penstock.scoring import ScoreLog, score_batch, score_frame

if TYPE_CHECKING:
    from collections.abc import Iterator

    from penstock.runtime import LocalServices
    from penstock.testing.served_project import ServedProject

DAY_US = 86_400_000_000
KEEP = 90


def _declare(services: LocalServices, log: ps.ScoreLog | None) -> None:
    """Have ``btc`` alone declared, with this log."""
    declared = Catalogue.load(services.metadata).deployment("btc")
    made = msgspec.structs.replace(declared, log=log)
    project = ps.Project("served", declarations=[made])
    apply(services.metadata, project, actor="tester", now=services.clock.now())


@pytest.fixture
def services(served: ServedProject) -> Iterator[LocalServices]:
    with open_services(served.home, actor="tester") as opened:
        _declare(opened, ps.ScoreLog(keep=f"{KEEP}d"))
        deploy(opened, "btc", version=1)
        yield opened


def _score(services: LocalServices, days: float) -> Score:
    """A score that was given so many days ago."""
    at_us = services.clock.now_us() - int(days * DAY_US)
    return Score(
        prediction_id=services.ids.new(), deployment="btc", model="direction", version=1,
        route="champion", engine="native", entity="BTC", at_us=at_us, features=(),
        prediction=0.5, scored_at_us=at_us, duration_us=1,
    )  # fmt: skip


def _store(services: LocalServices, *days: float, number: int = 1) -> dict[float, str]:
    scores = {age: _score(services, age) for age in days}
    frame = score_frame(list(scores.values()))
    services.tables.append("scores/btc", frame, app="test", number=number)
    return {age: score.prediction_id for age, score in scores.items()}


def _there(services: LocalServices) -> set[str]:
    return set(services.tables.scan("scores/btc").collect()["prediction_id"])


def _removed(services: LocalServices, prediction_id: str) -> bool:
    """Whether everything that is asked for a score says that it was removed, and when."""
    today = f"{datetime.now(tz=UTC):%Y-%m-%d}"
    try:
        detail = lineage(services, prediction_id).detail
    except NotFoundError:
        return False
    if "removed" not in detail:
        return False
    assert detail == {"deployment": "btc", "removed": f"removed by retention on {today}"}
    for ask in (shown_score, replay, explain):
        with pytest.raises(NotFoundError, match=f"removed by retention on {today}"):
            ask(services, prediction_id)
    return True


def test_scores_go_when_they_have_been_kept_long_enough(services: LocalServices) -> None:
    ids = _store(services, 200, 91, 89, 0)
    now_us = services.clock.now_us()
    observe(services, "btc", [Observation(prediction_id=ids[91], value=1.0, observed_at_us=1)])
    drain_observations(services)

    (told,) = prune_scores(services, now_us=now_us, dry_run=True)
    assert (told.deployment, told.keep, told.rows, told.unobserved) == ("btc", "90d", 2, 1)
    assert _there(services) == set(ids.values())
    assert not any(_removed(services, one) for one in ids.values())

    assert prune_scores(services, now_us=now_us) == [told]
    assert _there(services) == {ids[89], ids[0]}
    assert {age: _removed(services, one) for age, one in ids.items()} == {
        200: True, 91: True, 89: False, 0: False,
    }  # fmt: skip
    with pytest.raises(NotFoundError, match="Nothing is called"):
        lineage(services, services.ids.new())
    entry = services.metadata.audit()[-1]
    assert (entry.action, entry.subject) == ("prune scores", "deployment/btc")
    assert (entry.difference["rows"], entry.difference["unobserved"]) == (2, 1)

    (again,) = prune_scores(services, now_us=now_us)
    assert again.rows == 0
    assert services.metadata.audit()[-1] == entry
    # A day later another goes; the ids of those before stay.
    (later,) = prune_scores(services, now_us=now_us + 2 * DAY_US, deployment="btc")
    assert later.rows == 1
    assert [_removed(services, ids[age]) for age in (200, 91, 89)] == [True] * 3


@pytest.mark.parametrize("where", ["append", "write", "remove", "vacuum"])
def test_killed_anywhere_it_goes_on(
    services: LocalServices, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    ids = _store(services, 200, 91, 0)
    now_us = services.clock.now_us()
    port = services.metadata if where == "write" else services.tables
    with monkeypatch.context() as patched:

        def die(*_: object, **__: object) -> None:
            raise KeyboardInterrupt

        patched.setattr(port, where, die)
        with pytest.raises(KeyboardInterrupt):
            prune_scores(services, now_us=now_us)
    for one in ids.values():  # each is there, or was removed
        assert (one in _there(services)) is not _removed(services, one)
    _store(services, 150, number=2)
    prune_scores(services, now_us=now_us)
    assert _there(services) == {ids[0]}
    kept = services.tables.scan("removed/btc").collect()
    assert kept["prediction_id"].n_unique() == kept.height == 3
    assert _removed(services, ids[200])


def test_an_experiment_holds_what_it_counts_until_it_has_ended(services: LocalServices) -> None:
    ids = _store(services, 300, 120, 0)
    now_us = services.clock.now_us()
    began = services.clock.now() - timedelta(days=200)
    trial = ExperimentState(
        deployment="btc", name="try2", model="direction", plan={}, metric="outcome",
        smaller_is_better=False, version=2, champion=1, target="@2", asked_at=began,
        stage="running",
    )  # fmt: skip
    services.metadata.write(Put(trial))
    (told,) = prune_scores(services, now_us=now_us)
    assert (told.rows, told.held_by) == (1, "try2")
    assert _there(services) == {ids[120], ids[0]}
    (written,) = services.metadata.find(ExperimentState)
    ended = msgspec.structs.replace(written, stage="ended")
    services.metadata.write(Put(ended))
    (told,) = prune_scores(services, now_us=now_us)
    assert (told.rows, told.held_by) == (1, "")
    assert _there(services) == {ids[0]}


def test_what_is_logged_and_not_drained_goes_too(services: LocalServices) -> None:
    log = ScoreLog(services.score_log / "btc", services.ids)
    old = _score(services, 100)
    log.append([old])
    log.close()
    (told,) = prune_scores(services, now_us=services.clock.now_us())
    assert told.rows == 1
    assert _removed(services, old.prediction_id)


def test_a_batch_that_was_removed_is_not_scored_again(services: LocalServices) -> None:
    first = score_batch(services, "btc")
    later_us = services.clock.now_us() + (KEEP + 1) * DAY_US
    assert prune_scores(services, now_us=later_us)[0].rows == first.rows
    assert score_batch(services, "btc").rows == 0


def test_without_a_word_scores_are_kept_for_ever(services: LocalServices) -> None:
    ids = _store(services, 5_000)
    for log in (None, ps.ScoreLog(payload="none")):
        _declare(services, log)
        assert prune_scores(services, now_us=services.clock.now_us()) == []
        (run,) = due(services, prune=PruneSchedule(1))  # looks for files that were merged
        done = step_functions(services)["prune.scores"](run.parameters, {})
        assert done == {"deployments": [], "files": 0}
    assert _there(services) == set(ids.values())


def test_the_worker_prunes_once_in_each_interval(services: LocalServices) -> None:
    ids = _store(services, 91, 0)
    now = services.clock.now() + timedelta(days=1)
    now_us = int(now.timestamp() * 1e6)
    schedule = PruneSchedule(DAY_US)
    (submission,) = due(services, now_us=now_us, prune=schedule)
    assert submission.run_id == f"prune-scores-{now:%Y%m%d}T0000"
    services.workflows.submit(
        submission.pipeline, submission.parameters, run_id=submission.run_id, subject="scores"
    )
    assert due(services, now_us=now_us, prune=schedule) == []
    done = step_functions(services)["prune.scores"](submission.parameters, {})
    (told,) = msgspec.convert(done["deployments"], list[dict[str, object]])
    assert told["rows"] == 1
    assert _there(services) == {ids[0]}


def test_files_that_were_merged_go_though_scores_are_kept_for_ever(
    services: LocalServices, monkeypatch: pytest.MonkeyPatch
) -> None:
    _declare(services, None)
    ids = [_store(services, 91, number=number)[91] for number in (1, 2, 3)]
    services.tables.compact("scores/btc")
    now = services.clock.now() + timedelta(days=1)
    (submission,) = due(services, now_us=int(now.timestamp() * 1e6), prune=PruneSchedule(DAY_US))
    prune = step_functions(services)["prune.scores"]
    assert prune(submission.parameters, {}) == {"deployments": [], "files": 0}
    monkeypatch.setattr("penstock.control.pruning.FILES_STAY_H", 0)
    assert prune(submission.parameters, {}) == {"deployments": [], "files": 3}
    assert _there(services) == set(ids)


def test_what_cannot_be_declared() -> None:
    for keep, text in (("soon", "keep"), ("1h", "less than a day")):
        with pytest.raises(DeclarationError, match=text):
            ps.ScoreLog(keep=keep)


def test_precomputed_scores_are_kept_as_long_as_they_answer(services: LocalServices) -> None:
    declared = Catalogue.load(services.metadata).deployment("btc")
    batch = ps.BatchScoring(on=ps.cron("0 3 * * *"))
    routes = (ps.champion(), ps.precomputed(max_age="91d"))
    with pytest.raises(DeclarationError, match="at least as long"):
        msgspec.structs.replace(declared, batch=batch, routes=routes)
