"""What the score log stores of features."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import msgspec
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import penstock as ps
from penstock.control import check_served, replay, submit_job
from penstock.deployment import deploy
from penstock.errors import DeclarationError
from penstock.monitoring.measures import drift_checks
from penstock.plan import Catalogue
from penstock.registry import get_version, read_manifest
from penstock.runtime import open_services
from penstock.scoring import (
    Ask,
    Fleet,
    JobRow,
    build_fleet,
    drain_scores,
    find_score,
    pin_job,
    read_target,
    score_batch,
    score_frame,
    score_job,
    scores_in,
)
from penstock.scoring.payloads import Payload, payload_of
from penstock.spec import Deployment, fingerprint, to_document
from penstock.testing.score_logs import declare_log

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from penstock.records import Manifest, Score
    from penstock.runtime import LocalServices
    from penstock.testing.served_project import ServedProject

CLOSE = "momentum.last_close"


@pytest.fixture
def services(served: ServedProject) -> Iterator[LocalServices]:
    with open_services(served.home, actor="tester") as opened:
        deploy(opened, "btc", version=1)
        yield opened


def _manifest(services: LocalServices) -> Manifest:
    record = get_version(services.metadata, "direction", 1)
    return read_manifest(services.artifacts.path(record.package))


def _answer(services: LocalServices, *asks: Ask) -> list[Score]:
    """Scores as clients get them."""
    nothing = Fleet()
    fleet = build_fleet(services, nothing, read_target(services.metadata, nothing.target))

    async def go() -> list[Score]:
        endpoint = fleet.endpoints["btc"]
        return list(await asyncio.gather(*[endpoint.score(ask) for ask in asks]))

    found = asyncio.run(go())
    fleet.close()
    return found


def _asks(services: LocalServices, number: int) -> list[Ask]:
    now_us = services.clock.now_us()
    return [Ask(now_us, key=("BTC", "ETH", "ADA")[n % 3], request_id="r") for n in range(number)]


def _stored(services: LocalServices, prediction_id: str) -> Score:
    found = find_score(services, prediction_id)
    assert found is not None
    return found


def test_whoever_declares_nothing_means_what_they_meant(services: LocalServices) -> None:
    declared = Catalogue.load(services.metadata).deployment("btc")

    assert "log" not in to_document(declared)
    with_log = msgspec.structs.replace(declared, log=ps.ScoreLog(payload=0.5, redact=["pii"]))
    assert fingerprint(with_log) != fingerprint(declared)


@pytest.mark.parametrize(
    "wrong",
    [{"payload": 1.5}, {"payload": "some"}, {"by": "drop"}, {"redact": "pii"}, {"payload": True}],
)
def test_a_policy_that_cannot_work_says_so(wrong: dict[str, object]) -> None:
    with pytest.raises(DeclarationError, match=next(iter(wrong))):
        ps.ScoreLog(**wrong)  # type: ignore[arg-type]  # that is the point


@pytest.mark.parametrize("payload", ["none", 0.5, "all"])
def test_what_is_not_kept_is_nowhere_and_all_else_is(
    services: LocalServices, payload: float | str
) -> None:
    declare_log(services, ps.ScoreLog(payload=payload))  # type: ignore[arg-type]  # one of three
    answered = _answer(services, *_asks(services, 60))

    assert all(len(score.features) == 5 and not score.withheld for score in answered)
    before = [_stored(services, score.prediction_id) for score in answered]
    drain_scores(services)
    after = [_stored(services, score.prediction_id) for score in answered]
    assert before == after
    withheld = [score.withheld for score in after]
    share = sum(not one for one in withheld) / 60
    assert {"none": share == 0, "all": share == 1}.get(str(payload), 0.2 < share < 0.8)
    for answer, score in zip(answered, after, strict=True):
        whole = not score.withheld
        assert score.features == (answer.features if whole else ())
        blank = {"features": (), "withheld": ""}
        assert msgspec.structs.replace(score, **blank) == msgspec.structs.replace(answer, **blank)


@pytest.mark.parametrize("by", ["null", "hash"])
def test_a_redacted_value_is_in_no_file_and_no_table(services: LocalServices, by: str) -> None:
    declare_log(services, ps.ScoreLog(redact=["pii"], by=by))  # type: ignore[arg-type]  # of two
    answered = _answer(services, *_asks(services, 6))
    values = {score.features[0] for score in answered}

    on_disk = b"".join(path.read_bytes() for path in (services.score_log / "btc").glob("*.jsonl"))
    assert not any(repr(value).encode() in on_disk for value in values)
    drain_scores(services)
    score_batch(services, "btc")
    job = submit_job(services, "btc", 1, [JobRow(key="BTC"), JobRow(key="ETH")])
    score_job(services, job, pin_job(services, job), lambda _, __: None)
    table = services.tables.scan("scores/btc").collect()
    closes = set(services.tables.scan("raw/candles").collect()["close"].to_list())
    stored = table["features"].list.first()
    assert not set(stored.drop_nulls().to_list()) & (values | closes)
    assert table["withheld"].unique().to_list() == [CLOSE]
    assert table["features"].list.len().unique().to_list() == [5]
    if by == "null":
        assert stored.null_count() == len(stored)
    else:
        online = table.filter(route="champion")
        pairs = online.select("entity", stored.filter(table["route"] == "champion").alias("h"))
        assert pairs.unique().height == pairs["h"].n_unique() == 3


@pytest.mark.parametrize("log", [ps.ScoreLog(payload="none"), ps.ScoreLog(redact=["pii"])])
def test_a_replay_computes_from_raw_data_and_says_so(
    services: LocalServices, log: ps.ScoreLog
) -> None:
    declare_log(services, log)
    (score,) = _answer(services, *_asks(services, 1))

    found = replay(services, score.prediction_id)

    assert (found.same, found.causes, found.from_stored) == (True, (), None)
    assert found.from_raw == pytest.approx(score.prediction, abs=1e-6)
    assert found.withheld == ("*" if log.payload == "none" else CLOSE)
    assert [one.name for one in found.features] == (
        []
        if log.payload == "none"
        else [name for name in _manifest(services).features if name != CLOSE]
    )


def test_features_that_came_with_the_request_and_are_not_stored_cannot_be_replayed(
    services: LocalServices,
) -> None:
    declare_log(services, ps.ScoreLog(payload="none"))
    ask = Ask(services.clock.now_us(), values=(100.0, 0.0, 0.1, 101.0, 24.0))
    (score,) = _answer(services, ask)

    found = replay(services, score.prediction_id)

    assert not found.same
    assert "came with the request" in found.causes[0].reason


def test_drift_is_not_measured_of_what_is_not_stored(
    learned: tuple[Score, Manifest, Sequence[ps.FeatureView]],
) -> None:
    score, manifest, _ = learned
    rows = [msgspec.structs.replace(score, withheld=CLOSE) for _ in range(50)]
    bound = ps.psi(max=0.2, min_rows=10)

    checks = drift_checks(score_frame(rows).select("features", "withheld"), manifest, bound)

    assert [check.value is None for check in checks] == [
        name == CLOSE for name in manifest.features
    ]
    assert not checks[0].breached
    assert "does not store" in checks[0].reason


def test_a_check_of_served_features_looks_at_what_is_whole(services: LocalServices) -> None:
    declare_log(services, ps.ScoreLog(payload=0.5))
    answered = _answer(services, *_asks(services, 30))
    drain_scores(services)

    report = check_served(services, "btc", from_us=0, to_us=services.clock.now_us())

    whole = sum(not _stored(services, one.prediction_id).withheld for one in answered)
    assert report.skipped == {}
    assert {check.compared for check in report.checks} == {whole}
    assert {check.mismatches for check in report.checks} == {0}


values = st.lists(
    st.none() | st.floats(allow_nan=False, allow_infinity=False), min_size=5, max_size=5
)


@settings(max_examples=30, deadline=None)
@given(
    rows=st.lists(st.tuples(st.integers(0, 2**80), values), min_size=1, max_size=20),
    share=st.floats(0, 1),
    by=st.sampled_from(["null", "hash"]),
    redact=st.sampled_from([(), ("pii",)]),
)
def test_rows_of_a_batch_are_stored_as_single_scores_are(
    learned: tuple[Score, Manifest, Sequence[ps.FeatureView]],
    rows: list[tuple[int, list[float | None]]],
    share: float,
    by: str,
    redact: tuple[str, ...],
) -> None:
    score, manifest, views = learned
    policy = ps.ScoreLog(payload=share, redact=redact, by=by)  # type: ignore[arg-type]  # of two
    payload = Payload(policy, views, b"key")
    payload.learn(manifest)
    scores = [
        msgspec.structs.replace(score, prediction_id=str(number), features=tuple(features))
        for number, features in rows
    ]

    singly = [payload.stored(one) for one in scores]
    together = scores_in(payload.stored_frame(score_frame(scores), manifest))

    assert singly == together
    for one, stored in zip(scores, singly, strict=True):
        if stored.withheld == "*":
            assert stored.features == ()
            continue
        assert stored.features[1:] == one.features[1:]
        same = stored.features[0] == one.features[0]
        assert same or redact


@pytest.fixture(scope="module")
def learned(
    served_template: ServedProject, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Score, Manifest, Sequence[ps.FeatureView]]:
    import shutil  # noqa: PLC0415 - this fixture alone

    home = tmp_path_factory.mktemp("learned") / "home"
    shutil.copytree(served_template.home, home)
    with open_services(home, actor="tester") as services:
        deploy(services, "btc", version=1, wait_s=0)
        declare_log(services, None)
        (score,) = _answer(services, *_asks(services, 1))
        views = Catalogue.load(services.metadata).all(ps.FeatureView)
        return score, _manifest(services), views


def test_a_version_that_nobody_has_learned_is_stored_without_anything(
    services: LocalServices,
) -> None:
    declare_log(services, ps.ScoreLog(redact=["pii"]))
    catalogue = Catalogue.load(services.metadata)
    (declared,) = [one for one in catalogue.all(Deployment) if one.name == "btc"]
    payload = payload_of(services, declared, catalogue, [])
    assert payload is not None
    (score,) = _answer(services, *_asks(services, 1))
    given = msgspec.structs.replace(score, given={"amount": 3.0}, version=0)

    stored = payload.stored(given)

    assert (stored.features, stored.given, stored.withheld) == ((), {}, "*")
    key = services.score_log / "key"
    assert (key.stat().st_mode & 0o777, len(key.read_bytes())) == (0o600, 32)


def test_what_is_about_to_be_replaced_is_stored_as_before(services: LocalServices) -> None:
    declare_log(services, ps.ScoreLog(redact=["pii"]))
    nothing = Fleet()
    first = build_fleet(services, nothing, read_target(services.metadata, nothing.target))
    deploy(services, "btc", version=2, wait_s=0)
    # It answers while its successor is made, and finishes what is under way after that.
    second = build_fleet(services, first, read_target(services.metadata, first.target))

    async def ask(fleet: Fleet) -> Score:
        return await fleet.endpoints["btc"].score(_asks(services, 1)[0])

    scores = [asyncio.run(ask(fleet)) for fleet in (first, second)]
    second.close()
    assert [score.version for score in scores] == [1, 2]
    stored = [_stored(services, score.prediction_id) for score in scores]
    assert [one.withheld for one in stored] == [CLOSE, CLOSE]
    assert all(len(one.features) == 5 for one in stored)


def test_older_rows_of_the_table_are_read(services: LocalServices) -> None:
    score_batch(services, "btc")
    frame = (
        services.tables.scan("scores/btc")
        .head(3)
        .collect()
        .with_columns(withheld=pl.lit(None, dtype=pl.String))
    )

    assert [score.withheld for score in scores_in(frame)] == ["", "", ""]
