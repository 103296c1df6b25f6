from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import TYPE_CHECKING

import msgspec
import polars as pl
import pytest

import penstock as ps
from penstock.control import drop_unread_spaces
from penstock.deployment import deploy
from penstock.errors import DeclarationError, StateError
from penstock.features import lock_of
from penstock.ingest import ingest_files
from penstock.plan import Catalogue, apply
from penstock.runtime import open_services
from penstock.scoring import Ask, Fleet, build_fleet, read_target, score_batch, scores_in
from penstock.scoring.ready import key_of
from penstock.testing.served_project import HOURS, START, SYMBOLS, candles

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from penstock.records import Score
    from penstock.runtime import LocalServices
    from penstock.testing.served_project import ServedProject

AGES = "9999d"


def _declare(services: LocalServices, **changes: object) -> None:
    """Let ``btc`` answer with batch scores, and have nothing else declared."""
    declared = Catalogue.load(services.metadata).deployment("btc")
    given: dict[str, object] = {
        "routes": (ps.champion(), ps.precomputed(max_age=AGES)),
        "batch": ps.BatchScoring(on=ps.new_data(declared.model.dataset.spine)),
    }
    made = msgspec.structs.replace(declared, **(given | changes))
    project = ps.Project("served", declarations=[made])
    apply(services.metadata, project, actor="tester", now=services.clock.now())


@pytest.fixture
def services(served: ServedProject) -> Iterator[LocalServices]:
    with open_services(served.home, actor="tester") as opened:
        _declare(opened)
        deploy(opened, "btc", version=1)
        yield opened


def _ingest(services: LocalServices, folder: Path, hours: int, begin: int = HOURS) -> None:
    path = folder / f"more-{begin}.parquet"
    candles(SYMBOLS, START + timedelta(hours=begin), hours, begin + 999).write_parquet(path)
    ingest_files(services, Catalogue.load(services.metadata).source("candles"), paths=[path])


def _ask(services: LocalServices, *asks: Ask) -> list[Score]:
    nothing = Fleet()
    fleet = build_fleet(services, nothing, read_target(services.metadata, nothing.target))

    async def together() -> Sequence[Score]:
        return await asyncio.gather(*[fleet.endpoints["btc"].score(ask) for ask in asks])

    try:
        return list(asyncio.run(together()))
    finally:
        fleet.close()


def _keys(services: LocalServices) -> list[Ask]:
    return [Ask(services.clock.now_us(), key=key, request_id=key) for key in SYMBOLS]


def _newest(services: LocalServices) -> dict[str, Score]:
    """The newest batch score of each entity, the slow way."""
    found: dict[str, Score] = {}
    for score in scores_in(services.tables.scan("scores/btc").collect()):
        before = found.get(score.entity)
        if score.route == "batch" and (before is None or before.at_us < score.at_us):
            found[score.entity] = score
    return found


def _check(services: LocalServices) -> None:
    newest = _newest(services)
    for key, score in zip(SYMBOLS, _ask(services, *_keys(services)), strict=True):
        batch = newest[key]
        assert score.reason.startswith(f"score {batch.prediction_id} of ")
        assert score.prediction_id != batch.prediction_id
        same = msgspec.structs.replace(
            batch,
            prediction_id=score.prediction_id,
            route="precomputed",
            scored_at_us=score.scored_at_us,
            duration_us=score.duration_us,
            reason=score.reason,
            request_id=key,
        )
        assert score == same
        assert score.origin == "batch"


def test_an_answer_is_the_newest_batch_score_bit_by_bit(
    services: LocalServices, tmp_path: Path
) -> None:
    assert score_batch(services, "btc").ready == len(SYMBOLS)
    _check(services)
    _ingest(services, tmp_path, 5)
    assert score_batch(services, "btc").ready == len(SYMBOLS)
    _check(services)
    # What is of an earlier time takes nobody's place, however late it comes.
    _ingest(services, tmp_path, 3, begin=-50)
    assert score_batch(services, "btc").ready == 0
    _check(services)
    assert score_batch(services, "btc").ready == 0


def test_the_champion_answers_what_no_batch_score_does(services: LocalServices) -> None:
    score_batch(services, "btc")
    now_us = services.clock.now_us()
    width = len(_newest(services)["BTC"].features)
    asks = [
        Ask(now_us, key="NOBODY"),
        Ask(now_us, key="BTC", at_us=now_us),
        Ask(now_us, values=(1.0,) * width),
    ]
    assert [score.route for score in _ask(services, *asks)] == ["champion"] * 3
    _declare(services, routes=(ps.champion(), ps.precomputed(max_age="1h")))
    assert {score.route for score in _ask(services, *_keys(services))} == {"champion"}


def test_scores_are_withdrawn_with_their_version(services: LocalServices, tmp_path: Path) -> None:
    score_batch(services, "btc")
    deploy(services, "btc", version=2)
    found = _ask(services, *_keys(services))
    assert {(score.route, score.version) for score in found} == {("champion", 2)}
    _ingest(services, tmp_path, 2)
    score_batch(services, "btc")
    found = _ask(services, *_keys(services))
    assert {(score.route, score.version) for score in found} == {("precomputed", 2)}


def test_a_run_killed_before_its_scores_are_ready_leaves_them_to_the_next(
    services: LocalServices, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    score_batch(services, "btc")
    _ingest(services, tmp_path, 5)
    write = services.online.write
    with monkeypatch.context() as patched:

        def die(*_: object, **__: object) -> None:
            raise KeyboardInterrupt

        patched.setattr(services.online, "write", die)
        with pytest.raises(KeyboardInterrupt):
            score_batch(services, "btc")
    assert services.online.write == write
    assert services.tables.applied("scores/btc", "batch/btc") == 2
    again = score_batch(services, "btc")
    assert (again.rows, again.ready) == (0, len(SYMBOLS))
    _check(services)


def test_who_asks_for_it_later_gets_what_the_table_has(
    services: LocalServices, tmp_path: Path
) -> None:
    _declare(services, routes=(ps.champion(),))
    score_batch(services, "btc")
    _ingest(services, tmp_path, 5)
    score_batch(services, "btc")
    assert services.online.progress("scores:btc") is None
    _declare(services)
    assert score_batch(services, "btc").ready == len(SYMBOLS)
    _check(services)


def test_a_store_that_cannot_be_read_leaves_it_to_the_champion(
    services: LocalServices, monkeypatch: pytest.MonkeyPatch
) -> None:
    score_batch(services, "btc")
    get = services.online.get

    def broken(space: str, keys: Sequence[bytes]) -> list[bytes | None]:
        if space == "scores:btc":
            raise StateError("the disk is gone")
        return get(space, keys)

    monkeypatch.setattr(services.online, "get", broken)
    assert {score.route for score in _ask(services, *_keys(services))} == {"champion"}


def test_a_score_that_cannot_be_read_is_none_and_is_made_again(services: LocalServices) -> None:
    score_batch(services, "btc")
    online, space = services.online, "scores:btc"
    progress = online.progress(space) or 0
    with services.leases.hold(lock_of(space, 0)) as token:
        online.claim(space, token)
        damaged = {key_of(SYMBOLS[0], {}): b"of another time", b"done": b"0"}
        online.write(space, damaged, progress=progress + 1, token=token)
    # Those asked in the same look, and later, have theirs.
    for _ in range(2):
        routes = [score.route for score in _ask(services, *_keys(services))]
        assert routes == ["champion", *["precomputed"] * (len(SYMBOLS) - 1)]
    assert score_batch(services, "btc").ready == 1
    _check(services)


def test_what_is_stored_of_features_stays_so(services: LocalServices) -> None:
    _declare(services, log=ps.ScoreLog(payload="none"))
    score_batch(services, "btc")
    for score in _ask(services, *_keys(services)):
        assert (score.route, score.features, score.withheld) == ("precomputed", (), "*")


def test_the_space_is_dropped_when_nobody_answers_with_it(
    services: LocalServices, monkeypatch: pytest.MonkeyPatch
) -> None:
    score_batch(services, "btc")
    monkeypatch.setattr("penstock.control.refreshing.GRACE", timedelta(0))
    assert "scores:btc" not in drop_unread_spaces(services)
    _declare(services, routes=(ps.champion(),))
    assert "scores:btc" in drop_unread_spaces(services)


def test_a_precomputed_route_needs_batches(services: LocalServices) -> None:
    for changes, text in (
        ({"batch": None}, r"give batch=ps\.BatchScoring"),
        ({"routes": (ps.champion(), *[ps.precomputed(max_age="1d")] * 2)}, "one is enough"),
    ):
        with pytest.raises(DeclarationError, match=text):
            _declare(services, **changes)
    with pytest.raises(DeclarationError, match="max_age"):
        ps.precomputed(max_age="soon")


def test_online_scores_of_the_table_are_not_answered_with(services: LocalServices) -> None:
    """Nor are those of jobs: only runs over the spine say what an entity's score is."""
    score_batch(services, "btc")
    frame = services.tables.scan("scores/btc").collect()
    late = frame.head(1).with_columns(
        at_us=pl.lit(services.clock.now_us()), request_id=pl.lit("job"), prediction_id=pl.lit("x")
    )
    services.tables.append("scores/btc", late, app="job", number=1)
    services.online.drop("scores:btc")
    score_batch(services, "btc")
    found = _ask(services, Ask(services.clock.now_us(), key=str(late["entity"][0])))
    assert "score x" not in found[0].reason
