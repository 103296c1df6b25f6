"""Vectors that a deployment asks for: written with the views, and with the clock, then dropped."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import msgspec
import numpy as np
import pytest

import penstock as ps
from penstock.control import (
    drop_ready_vectors,
    drop_unread_spaces,
    refresh_features,
    refresh_ready_vectors,
    want_partitions,
)
from penstock.features import groups_of, part_of, partition_of
from penstock.ingest import accept_events, ingest_log
from penstock.plan import Catalogue, apply
from penstock.ports import Put
from penstock.records import Aliases, AppliedProject
from penstock.runtime.lanes import VectorLane
from penstock.scoring import Fleet, build_fleet, look_at_ages, read_target

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from penstock.features.vectors import VectorGroup
    from penstock.runtime import LocalServices
    from penstock.scoring import ServedVersion

    Floats = NDArray[np.float64]

KEYS = ["ADA", "BTC", "ETH", "nobody"]
ARRIVED = datetime(2026, 1, 1, tzinfo=UTC) + timedelta(hours=241)


def precompute(services: LocalServices, *, wanted: bool) -> None:
    """Apply the project with ``btc`` asking for vectors, or not."""
    catalogue = Catalogue.load(services.metadata)
    deployments = [
        msgspec.structs.replace(one, precompute=wanted and one.name == "btc")
        for one in catalogue.all(ps.Deployment)
    ]
    project = ps.Project("served", declarations=deployments)
    apply(services.metadata, project, actor="tester", now=services.clock.now())


def arrive(services: LocalServices, close: float) -> None:
    source = Catalogue.load(services.metadata).source("candles")
    row = {"symbol": "BTC", "ts": ARRIVED.isoformat(), "open": 9.0, "close": close, "volume": 5.0}
    accept_events(services, source, json.dumps(row).encode(), "application/json")
    assert ingest_log(services, source) is not None


@pytest.fixture
def group(scored: LocalServices) -> VectorGroup:
    """The vectors that ``btc`` asks for, up to date."""
    precompute(scored, wanted=True)
    refresh_features(scored, "candles")
    dataset = Catalogue.load(scored.metadata).deployment("btc").model.dataset
    (found,) = groups_of(dataset.base_views)
    return found


@pytest.fixture
def served(scored: LocalServices, group: VectorGroup) -> Iterator[ServedVersion]:
    """The version that answers, as a serving process has loaded it."""
    del group
    nothing = Fleet()
    fleet = build_fleet(scored, nothing, read_target(scored.metadata, nothing.target))
    yield fleet.lanes["btc/champion"].version
    fleet.close()


def values(
    served: ServedVersion, at: datetime
) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
    at_us = np.full(len(KEYS), int(at.timestamp() * 1e6))
    return served.read(KEYS, at_us)[0]


def test_a_deployment_reads_the_vectors_it_asked_for(
    scored: LocalServices, group: VectorGroup, served: ServedVersion
) -> None:
    assert group.space in scored.online.spaces()
    assert len(list(scored.online.items(group.space))) == 4  # three symbols, and the marks
    now = scored.clock.now()
    ready = values(served, now)
    served.take_vectors(scored.online, wanted=False)
    np.testing.assert_array_equal(ready, values(served, now))
    assert np.isfinite(ready).any()


def test_new_batches_come_into_the_vectors(
    scored: LocalServices, group: VectorGroup, served: ServedVersion
) -> None:
    place = served.features.index("momentum.last_close")
    arrive(scored, 777.0)
    refresh_features(scored, "candles")
    assert values(served, ARRIVED)[1, place] == 777.0
    # Only the vectors tell it now: the views' values are not looked at.
    for space in group.spaces:
        scored.online.write(space, {b"BTC": b"nonsense"}, progress=5)
    number = scored.online.progress(group.space) or 0
    marks = group.marks.pack(5, 1 << 62)
    scored.online.write(group.space, {b"m": marks}, progress=number + 1)
    assert served.read(["BTC"], np.array([scored.clock.now_us()]))[0][0, place] == 777.0


def test_what_no_longer_holds_is_written_by_the_stream(
    scored: LocalServices, group: VectorGroup
) -> None:
    number = scored.online.progress(group.space) or 0
    past_us = scored.clock.now_us() - 1
    (marks,) = scored.online.get(group.space, [b"m"])
    assert marks is not None
    batch, ends_us = group.marks.unpack(marks)
    assert ends_us > past_us
    # As it looks when a window has moved on: a vector that held until a moment ago.
    (vector,) = scored.online.get(group.space, [b"eBTC"])
    assert vector is not None
    ended = vector[:24] + past_us.to_bytes(8, "little") + vector[32:]
    changed = {b"eBTC": ended, b"m": group.marks.pack(batch, past_us)}
    scored.online.write(group.space, changed, progress=number + 1)
    VectorLane(scored).turn()
    assert scored.online.get(group.space, [b"eBTC"]) == [vector]
    assert scored.online.get(group.space, [b"m"]) == [marks]
    assert sum(one.written for one in refresh_ready_vectors(scored)) == 0


def test_vectors_go_when_nobody_asks_for_them(
    scored: LocalServices, group: VectorGroup, served: ServedVersion
) -> None:
    nothing = Fleet()
    fleet = build_fleet(scored, nothing, read_target(scored.metadata, nothing.target))
    precompute(scored, wanted=False)
    long_ago(scored)
    assert drop_unread_spaces(scored) == [group.space]
    assert refresh_ready_vectors(scored) == []
    look_at_ages(scored, fleet)
    # Who has not noticed yet reads the views.
    np.testing.assert_array_equal(
        values(served, ARRIVED), values(fleet.lanes["btc/champion"].version, ARRIVED)
    )
    fleet.close()


def test_vectors_follow_their_views_into_partitions(
    scored: LocalServices, group: VectorGroup, served: ServedVersion
) -> None:
    long_ago(scored)
    want_partitions(scored, 3)
    # A process that has one of the partitions writes the vectors of that one.
    refresh_features(scored, "candles", slots=lambda _, count: range(min(count, 1)))
    assert [name for name in spaces_of(scored, group) if "of3" in name] == []
    refresh_features(scored, "candles")
    assert drop_unread_spaces(scored) == [group.space]
    parts = [part.space for part in group.parts(3)]
    assert spaces_of(scored, group) == parts
    arrive(scored, 777.0)
    slot = partition_of(b"BTC", 3)
    refresh_features(scored, "candles", slots=lambda _, count: {slot} & set(range(count)))
    marks = [scored.online.get(space, [b"m"])[0] for space in parts]
    batches = [group.marks.unpack(one or b"")[0] for one in marks]
    assert [batch == max(batches) for batch in batches] == [one == slot for one in range(3)]
    read = values(served, ARRIVED)
    assert read[1, served.features.index("momentum.last_close")] == 777.0
    served.take_vectors(scored.online, wanted=False)
    np.testing.assert_array_equal(read, values(served, ARRIVED))
    drop_ready_vectors(scored, group.views[0])
    assert spaces_of(scored, group) == []


def spaces_of(services: LocalServices, group: VectorGroup) -> list[str]:
    return [name for name in services.online.spaces() if part_of(name).space == group.space]


def test_vectors_go_before_their_view_is_built_from_nothing(
    scored: LocalServices, group: VectorGroup
) -> None:
    drop_ready_vectors(scored, group.views[0])
    assert group.space not in scored.online.spaces()
    assert [one.from_zero for one in refresh_ready_vectors(scored)] == [True]


def long_ago(services: LocalServices) -> None:
    """Let everything that changed have changed an hour ago."""
    before = services.clock.now() - timedelta(hours=1)
    applied = services.metadata.read(AppliedProject, "project")
    assert applied is not None
    services.metadata.write(Put(msgspec.structs.replace(applied, applied_at=before)))
    for one in services.metadata.find(Aliases):
        services.metadata.write(Put(msgspec.structs.replace(one, changed_at=before)))
