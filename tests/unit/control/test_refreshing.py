"""A view that is declared anew leaves the versions that read the old one as fresh as before."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import msgspec
import numpy as np
import pytest
from structlog.testing import capture_logs

import penstock as ps
from penstock.control import drop_unread_spaces, refresh_features, replay
from penstock.errors import UnavailableError
from penstock.features import lock_of, space_of
from penstock.ingest import accept_events, ingest_log
from penstock.plan import Catalogue, apply
from penstock.ports import Put
from penstock.records import Aliases, AppliedProject, ModelVersion, Score, ServingStatus
from penstock.registry import aliases, point
from penstock.runtime import lanes
from penstock.runtime.lanes import SourceLane
from penstock.scoring import ScoreLog, load_served

if TYPE_CHECKING:
    from penstock.runtime import LocalServices
    from penstock.spec import FeatureView


HOURS, START = 240, datetime(2026, 1, 1, tzinfo=UTC)  # of the candles in the project


def view(services: LocalServices) -> FeatureView:
    return Catalogue.load(services.metadata).deployment("btc").model.dataset.base_views[0]


def declare_anew(
    services: LocalServices,
    features: tuple[ps.Aggregate, ...] = (ps.last("close"), ps.sum("volume", over="6h")),
) -> FeatureView:
    """Apply the project with another definition of the view; returns the old one."""
    catalogue = Catalogue.load(services.metadata)
    old = view(services)
    new = msgspec.structs.replace(old, features=features)
    deployment = catalogue.deployment("btc")
    dataset = msgspec.structs.replace(
        deployment.model.dataset, features=ps.FeatureService("scoring", features=[new])
    )
    model = msgspec.structs.replace(deployment.model, dataset=dataset)
    deployments = [
        msgspec.structs.replace(catalogue.deployment(name), model=model)
        for name in ("btc", "split")
    ]
    project = ps.Project("served", declarations=deployments)
    apply(services.metadata, project, actor="tester", now=services.clock.now())
    return old


def arrive(services: LocalServices, close: float, hours: int = HOURS + 1) -> int:
    """Take one candle of BTC in; returns the number of its batch."""
    source = Catalogue.load(services.metadata).source("candles")
    ts = (START + timedelta(hours=hours)).isoformat()
    row = {"symbol": "BTC", "ts": ts, "open": 99.0, "close": close, "volume": 5.0}
    accept_events(services, source, json.dumps(row).encode(), "application/json")
    batch = ingest_log(services, source)
    assert batch is not None
    return batch.number


def long_ago(services: LocalServices) -> None:
    """Let everything that changed have changed an hour ago."""
    before = services.clock.now() - timedelta(hours=1)
    applied = services.metadata.read(AppliedProject, "project")
    assert applied is not None
    services.metadata.write(Put(msgspec.structs.replace(applied, applied_at=before)))
    for one in services.metadata.find(Aliases):
        services.metadata.write(Put(msgspec.structs.replace(one, changed_at=before)))


def forget_versions(services: LocalServices) -> None:
    """Let no alias name a version."""
    (one,) = services.metadata.find(Aliases)
    nobody = Aliases(model=one.model, revision=one.revision + 1, changed_at=one.changed_at)
    services.metadata.write(Put(nobody))


def test_a_version_in_service_keeps_seeing_new_data(scored: LocalServices) -> None:
    old = declare_anew(scored)
    number = arrive(scored, 777.0)

    folded = refresh_features(scored, "candles")

    assert folded[space_of(old)] > 0
    served = load_served(scored, "direction", 1)
    now_us = np.array([scored.clock.now_us()])
    values, _, progress, _ = served.read(["BTC"], now_us)
    assert values[0][served.features.index("momentum.last_close")] == 777.0
    assert progress == [{"momentum": number}]


def test_records_that_come_too_late_are_told_in_the_log(scored: LocalServices) -> None:
    declare_anew(scored, (ps.sum("volume", over="6h"),))
    refresh_features(scored, "candles")
    arrive(scored, 1.0)
    number = arrive(scored, 1.0, hours=-7)
    with capture_logs() as logs:
        refresh_features(scored, "candles")
        refresh_features(scored, "candles")
    told = [one for one in logs if "too late" in one["event"]]
    assert [(one["view"], one["records"], one["of"], one["batch"]) for one in told] == [
        ("momentum", 1, 2, number)
    ]


def test_its_scores_are_replayed_by_the_view_it_learned_from(scored: LocalServices) -> None:
    declare_anew(scored)
    arrive(scored, 777.0)
    refresh_features(scored, "candles")
    served = load_served(scored, "direction", 1)
    values, as_of_us, progress, _ = served.read(["BTC"], np.array([scored.clock.now_us()]))
    score = Score(
        prediction_id=scored.ids.new(), deployment="btc", model="direction", version=1,
        route="champion", engine=served.engine.name, entity="BTC", at_us=int(as_of_us[0]),
        features=tuple(None if np.isnan(one) else float(one) for one in values[0]),
        prediction=float(served.predict(values)[0]), scored_at_us=scored.clock.now_us(),
        duration_us=1, progress=progress[0],
    )  # fmt: skip
    log = ScoreLog(scored.score_log / "btc", scored.ids)
    log.append([score])
    log.close()
    arrive(scored, 12.0, hours=HOURS - 3)

    assert replay(scored, score.prediction_id).same


def test_the_stream_refreshes_for_a_version_that_begins_to_answer(
    scored: LocalServices, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lanes, "REFRESH_S", 0.0)
    old = declare_anew(scored)
    forget_versions(scored)
    lane = SourceLane(scored, Catalogue.load(scored.metadata).source("candles"))
    arrive(scored, 777.0)
    lane.turn()
    assert scored.online.progress(space_of(old)) == 1

    point(scored.metadata, "direction", alias="champion", version=1, actor="t",
          now=scored.clock.now())  # fmt: skip
    lane.turn()

    assert scored.online.progress(space_of(old)) == 4


@pytest.mark.parametrize("alias", ["champion", "challenger", "previous", "candidate"])
def test_what_an_alias_names_keeps_its_space(scored: LocalServices, alias: str) -> None:
    old = declare_anew(scored)
    forget_versions(scored)
    point(scored.metadata, "direction", alias=alias, version=1, actor="t",
          now=scored.clock.now())  # fmt: skip
    long_ago(scored)

    assert drop_unread_spaces(scored) == []
    assert space_of(old) in scored.online.spaces()


def test_what_a_process_still_answers_with_keeps_its_space(scored: LocalServices) -> None:
    declare_anew(scored)
    forget_versions(scored)
    status = ServingStatus(
        process_id=1, address="", versions={"btc/champion": "direction@1"}, revision={},
        at=scored.clock.now(),
    )  # fmt: skip
    scored.metadata.write(Put(status))
    long_ago(scored)

    assert drop_unread_spaces(scored) == []


def test_a_space_that_nothing_reads_is_dropped(scored: LocalServices) -> None:
    old = declare_anew(scored)
    refresh_features(scored, "candles")
    forget_versions(scored)
    assert drop_unread_spaces(scored) == [], "a request may still be under way"
    long_ago(scored)

    assert drop_unread_spaces(scored) == [space_of(old)]
    assert scored.online.spaces() == [space_of(view(scored))]
    assert drop_unread_spaces(scored) == []


def test_a_space_that_is_being_filled_is_left(scored: LocalServices) -> None:
    old = declare_anew(scored)
    forget_versions(scored)
    long_ago(scored)
    with scored.leases.hold(lock_of(space_of(old), 0)):
        assert drop_unread_spaces(scored) == []


def test_nothing_is_dropped_while_it_is_unknown_what_is_read(scored: LocalServices) -> None:
    declare_anew(scored)
    champion = aliases(scored.metadata, "direction").champion
    (record,) = scored.metadata.find(ModelVersion, where={"version": champion})
    lost = msgspec.structs.replace(record, package="0" * 64)
    scored.metadata.write(Put(lost))
    long_ago(scored)

    assert drop_unread_spaces(scored) == []


def test_a_view_in_service_that_fails_does_not_hold_up_the_others(scored: LocalServices) -> None:
    old = declare_anew(scored)
    number = arrive(scored, 777.0)

    class Taken:
        """The locks, of which the old space's is taken."""

        def hold(self, name: str, *, wait_s: float = 30.0) -> object:
            if name == lock_of(space_of(old), 0):
                raise UnavailableError("Taken by somebody. Try again.")
            return scored.leases.hold(name, wait_s=wait_s)

    class Others:
        """The services with those locks."""

        leases = Taken()

        def __getattr__(self, name: str) -> object:
            return getattr(scored, name)

    folded = refresh_features(Others(), "candles")  # type: ignore[arg-type]  # one port is another

    assert folded == {"momentum": pytest.approx(folded["momentum"])}
    assert scored.online.progress(space_of(view(scored))) == number
