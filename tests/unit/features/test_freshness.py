"""How old online features are is measured from the arrival of the newest batch in them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import msgspec
import pytest

from penstock.errors import NotReadyError, StaleError
from penstock.features import ViewAge, refresh, require_fresh, space_of, view_ages
from penstock.ingest import delete_records
from penstock.plan import Catalogue
from penstock.ports import Put
from penstock.records import Batch, Deletion
from penstock.runtime import open_services

if TYPE_CHECKING:
    from collections.abc import Iterator

    from penstock.runtime import LocalServices
    from penstock.spec import FeatureView
    from penstock.testing.served_project import ServedProject

ARRIVED = datetime(2026, 3, 1, 12, tzinfo=UTC)
ARRIVED_US = round(ARRIVED.timestamp() * 1e6)
MINUTE_US = 60_000_000
HOUR_US = 60 * MINUTE_US


@pytest.fixture
def services(served: ServedProject) -> Iterator[LocalServices]:
    """A project whose only batch arrived at noon."""
    with open_services(served.home) as opened:
        (batch,) = opened.metadata.find(Batch)
        opened.metadata.write(Put(msgspec.structs.replace(batch, arrived_at=ARRIVED)))
        yield opened


def view_of(services: LocalServices, freshness: str = "2h") -> FeatureView:
    view = Catalogue.load(services.metadata).view("momentum")
    return msgspec.structs.replace(view, freshness=freshness)


def age_of(services: LocalServices, freshness: str = "2h") -> ViewAge:
    view = view_of(services, freshness)
    (age,) = view_ages(services.metadata, services.online, [view])
    return age


def test_the_age_counts_from_the_arrival_of_the_newest_batch_online(
    services: LocalServices,
) -> None:
    age = age_of(services)
    assert (age.view, age.batch, age.waiting) == ("momentum", 1, 0)
    assert (age.arrived_us, age.allowed_us) == (ARRIVED_US, 2 * HOUR_US)
    assert age.fresh_until_us == ARRIVED_US + 2 * HOUR_US
    require_fresh([age], ARRIVED_US + 2 * HOUR_US)
    with pytest.raises(StaleError) as raised:
        require_fresh([age], ARRIVED_US + 3 * HOUR_US + 12 * MINUTE_US)
    said = raised.value
    assert "view 'momentum' are stale" in said.message
    assert "1 of 'candles', arrived 3h12m ago, and freshness allows 2h" in said.message
    assert "penstock ingest candles" in said.message
    assert isinstance(said, NotReadyError)
    assert (said.kind, said.facts["allowed_s"]) == ("stale", 7200.0)


def test_a_deletion_brings_nothing_new(services: LocalServices) -> None:
    view = view_of(services)
    before = age_of(services)
    deletion = Deletion(delete_id="x", keys=("BTC",))
    batch = delete_records(services, view.source, deletion)
    refresh(services.tables, services.online, services.locks, view)
    after = age_of(services)
    assert after.batch == batch.number
    assert after.arrived_us == before.arrived_us


def test_newer_batches_that_wait_are_the_reason_named(services: LocalServices) -> None:
    (batch,) = services.metadata.find(Batch)
    later = msgspec.structs.replace(batch, number=2, arrived_at=ARRIVED + timedelta(hours=3))
    services.metadata.write(Put(later))
    begun = msgspec.structs.replace(later, number=3, state="started")
    services.metadata.write(Put(begun))
    age = age_of(services)
    assert (age.batch, age.waiting, age.arrived_us) == (1, 1, ARRIVED_US)
    with pytest.raises(StaleError, match="1 newer are stored: run 'penstock features build mom"):
        require_fresh([age], ARRIVED_US + 3 * HOUR_US)
    raw = services.tables.scan("raw/candles").collect()
    services.tables.append("raw/candles", raw.head(0), app="raw/candles", number=2)
    refresh(services.tables, services.online, services.leases, view_of(services))
    newer = age_of(services)
    assert (newer.batch, newer.waiting) == (2, 0)
    require_fresh([newer], ARRIVED_US + 4 * HOUR_US)


def test_a_view_without_a_bound_is_never_stale(services: LocalServices) -> None:
    age = age_of(services, "")
    assert age.fresh_until_us is None
    assert not age.is_stale(1 << 60)
    require_fresh([age], 1 << 60)


def test_a_view_that_is_not_built_has_no_age(services: LocalServices) -> None:
    view = view_of(services)
    services.online.drop(space_of(view))
    assert view_ages(services.metadata, services.online, [view]) == ()


def test_of_several_the_one_that_ran_out_first_is_named(services: LocalServices) -> None:
    hour, two = age_of(services, "1h"), msgspec.structs.replace(age_of(services), view="other")
    with pytest.raises(StaleError, match="view 'momentum'"):
        require_fresh([two, hour], ARRIVED_US + 5 * HOUR_US)


@pytest.mark.parametrize(
    ("age_us", "said"),
    [
        (1, "arrived 1s ago"),
        (59_900_000, "arrived 59s ago"),
        (26 * HOUR_US + 5 * MINUTE_US, "arrived 1d2h ago"),
        (48 * HOUR_US + 30_000_000, "arrived 2d ago"),
    ],
)
def test_ages_are_said_in_two_units(services: LocalServices, age_us: int, said: str) -> None:
    age = age_of(services, "1us")
    assert said in age.error(ARRIVED_US + age_us).message
