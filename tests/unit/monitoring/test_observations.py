from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
import polars as pl
import pytest
from deltalake import DeltaTable
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from penstock.errors import InputError, NotFoundError
from penstock.monitoring import (
    OBSERVATIONS_TOPIC,
    REJECTED_TOPIC,
    drain_observations,
    latest_outcomes,
    measured,
    observe,
)
from penstock.ports import EVENTS_TOPIC
from penstock.records import Event, Observation

if TYPE_CHECKING:
    from tests.unit.conftest import Watched

    from penstock.ports import EventLog, Services

TABLE = "observations/btc"


def seen(name: str, value: float = 1.0, at_us: int = 5) -> Observation:
    return Observation(prediction_id=name, value=value, observed_at_us=at_us)


def stored(services: Services) -> list[tuple[str, float, int]]:
    rows = services.tables.scan(TABLE).sort("_offset").collect()
    return rows.select("prediction_id", "value", "observed_at_us").rows()


def test_outcomes_reach_their_table_once_and_are_announced(watched: Watched) -> None:
    services = watched.services
    assert observe(services, "btc", [seen("a"), seen("b", 0.0)]) == 2
    assert observe(services, "btc", [seen("a"), seen("c")]) == 2
    assert drain_observations(services) == 3
    assert drain_observations(services) == 0
    assert stored(services) == [("a", 1.0, 5), ("b", 0.0, 5), ("c", 1.0, 5)]
    events = services.log.read(EVENTS_TOPIC, after=0, limit=10)
    said = [msgspec.json.decode(entry.payload, type=Event) for entry in events]
    assert [(event.kind, event.subject) for event in said] == [("observation.received", "btc")]


def test_small_files_of_the_table_are_merged_now_and_then(
    watched: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("penstock.ports.compaction.EVERY", 4)
    services = watched.services
    for number in range(12):
        observe(services, "btc", [seen(f"{number:02}")])
        assert drain_observations(services) == 1
    table = DeltaTable(services.layout.tables / TABLE)
    assert len(table.file_uris()) < 6
    assert stored(services) == [(f"{number:02}", 1.0, 5) for number in range(12)]


def test_all_faults_are_listed_and_nothing_is_taken(watched: Watched) -> None:
    wrong = [seen("a"), seen("b", float("nan")), seen("", 1.0), seen("d", 0.5), seen("e", 7e300)]
    with pytest.raises(InputError) as raised:
        observe(watched.services, "btc", wrong)
    message = raised.value.message
    assert "4 faults in 5 observations" in message
    for part in ("1: value nan", "2: prediction_id is empty", "3: value 0.5", "4: value 7e+300"):
        assert part in message
    assert watched.services.log.end(OBSERVATIONS_TOPIC) == 0


def measured_of(services: Services, *names: str) -> dict[str, float | None]:
    scores = pl.LazyFrame({"prediction_id": names})
    found = latest_outcomes(services.tables, "btc", scores)
    rows = found.select("prediction_id", measured("revenue").alias("told")).collect().rows()
    return dict(rows)


def test_measures_are_kept_beside_the_value_and_the_latest_count(watched: Watched) -> None:
    services, more = watched.services, msgspec.structs.replace
    told = [
        more(seen("a"), measures={"revenue": 1.5, "clicks": 2.0}),
        more(seen("a", at_us=9), measures={"revenue": -2.5e-3}),
        more(seen("b"), measures={"clicks": 1.0}),
        seen("c"),
    ]
    observe(services, "btc", told)
    observe(services, "btc", told)
    assert drain_observations(services) == 4

    assert measured_of(services, "a", "b", "c") == {"a": -2.5e-3, "b": None, "c": None}


def test_a_table_from_before_there_were_measures_is_read_and_goes_on(watched: Watched) -> None:
    services = watched.services
    old = pl.DataFrame(
        {"prediction_id": ["a"], "value": [1.0], "observed_at_us": [5], "_offset": [0]}
    )
    services.tables.append(TABLE, old, app="before", number=1)
    assert measured_of(services, "a") == {"a": None}

    observe(services, "btc", [msgspec.structs.replace(seen("b"), measures={"revenue": 3.0})])
    drain_observations(services)

    assert measured_of(services, "a", "b") == {"a": None, "b": 3.0}


@pytest.mark.parametrize(
    ("measures", "said"),
    [
        ({"Revenue": 1.0}, "measure 'Revenue': use lower-case letters"),
        ({"": 1.0}, "measure '': use lower-case letters"),
        ({"revenue": float("inf")}, "measure 'revenue' is inf"),
        ({f"m{number}": 1.0 for number in range(21)}, "21 measures; send 20 at most"),
    ],
)
def test_measures_have_names_and_numbers(
    watched: Watched, measures: dict[str, float], said: str
) -> None:
    with pytest.raises(InputError, match=said):
        observe(watched.services, "btc", [msgspec.structs.replace(seen("a"), measures=measures)])
    assert watched.services.log.end(OBSERVATIONS_TOPIC) == 0


def test_an_unknown_deployment_names_the_nearest(watched: Watched) -> None:
    with pytest.raises(NotFoundError, match="Did you mean 'btc'"):
        observe(watched.services, "btcc", [seen("a")])


def test_a_message_that_is_no_observation_holds_up_nobody(watched: Watched) -> None:
    log = watched.services.log
    bad = [b"{", b'{"deployment": "../x", "prediction_id": "a", "value": 1, "observed_at_us": 1}']
    log.publish(OBSERVATIONS_TOPIC, bad)
    observe(watched.services, "btc", [seen("a")])
    assert drain_observations(watched.services) == 3
    assert stored(watched.services) == [("a", 1.0, 5)]
    assert [entry.payload for entry in log.read(REJECTED_TOPIC, after=0, limit=9)] == bad


class Killed(Exception):  # noqa: N818 - what a kill -9 looks like from inside
    """Nothing after this point was done."""


@settings(
    max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.lists(st.integers(1, 4), min_size=1, max_size=3), st.integers(0, 2))
def test_killed_before_the_commit_nothing_is_lost_or_doubled(
    watched: Watched, monkeypatch: pytest.MonkeyPatch, sizes: list[int], more: int
) -> None:
    """The append is in the table, its offset not committed, and more has arrived since."""
    services = watched.services
    before = len(stored(services)) if services.tables.version(TABLE) is not None else 0
    sent = 0
    for size in sizes:
        names = [f"{services.ids.new()}" for _ in range(size)]
        observe(services, "btc", [seen(name) for name in names])
        sent += size
        with monkeypatch.context() as patched:
            patched.setattr(type(services.log), "commit", _killed)
            with pytest.raises(Killed):
                drain_observations(services)
        observe(services, "btc", [seen(services.ids.new()) for _ in range(more)])
        sent += more
    drain_observations(services)
    rows = stored(services)
    assert len(rows) == before + sent
    assert len({name for name, _, _ in rows}) == len(rows)


def _killed(log: EventLog, topic: str, group: str, offset: int) -> None:
    del log, topic, group, offset
    raise Killed
