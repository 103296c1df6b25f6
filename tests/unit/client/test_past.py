"""Features of the past from a folder: as they were known then, whatever came in later."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import polars as pl
import pytest
from polars.testing import assert_frame_equal

import penstock as ps
from penstock.errors import (
    AccessError,
    InputError,
    NotReadyError,
    NotSupportedError,
    StoredFeaturesWarning,
)
from penstock.features import Wanted, backfill, point_in_time
from penstock.ingest import delete_records, ingest_files
from penstock.plan import Catalogue
from penstock.records import Deletion
from penstock.runtime import open_services
from penstock.testing.protecting import protect
from penstock.testing.served_project import START, candles

if TYPE_CHECKING:
    from pathlib import Path

    from penstock.client import Client
    from penstock.testing.served_project import ServedProject

pytestmark = pytest.mark.filterwarnings("ignore::penstock.errors.UnknownEntitiesWarning")

LATE = datetime(2026, 1, 12, tzinfo=UTC)
HOUR_US = 3_600_000_000
SPINE = pl.DataFrame(
    {
        "symbol": ["BTC", "BTC", "nobody"],
        "at": [START + timedelta(hours=hour) for hour in (8, 30, 31)],
    }
)


def bring_late(home: Path, folder: Path) -> datetime:
    """Take in a candle of long ago; answers a time when it was known and had not arrived."""
    path = folder / "late.parquet"
    candles(("BTC",), LATE, 1, 7).write_parquet(path)
    before = datetime.now(UTC)
    with open_services(home, actor="tester") as services:
        source = Catalogue.load(services.metadata).source("candles")
        ingest_files(services, source, paths=[path])
    return before


def test_a_late_record_is_left_out_where_it_had_not_arrived(
    served: ServedProject, tmp_path: Path
) -> None:
    before = bring_late(served.home, tmp_path)
    times = [before, datetime.now(UTC), LATE]
    spine = pl.DataFrame({"symbol": ["BTC"] * 3, "at": times}).with_columns(
        pl.col("at").cast(pl.Datetime("us", "UTC"))
    )
    with ps.connect(served.home) as client:
        known = client.features("scoring", spine, as_known=True)
        all_of_it = client.features("scoring", spine)
    with open_services(served.home) as services:
        views = Catalogue.load(services.metadata).feature_service("scoring").views
        wanted = point_in_time(services.tables, views, spine, as_known=True)
    assert_frame_equal(known, wanted, check_exact=True)
    was, late, nothing = known["momentum.last_close"].to_list()
    assert nothing is None  # no file had been ingested by then
    assert was != late
    assert all_of_it["momentum.last_close"].to_list() == [late, late, was]


def test_what_was_known_takes_the_same_grant(served: ServedProject) -> None:
    with open_services(served.home, actor="tester") as services:
        token = protect(services, "momentum")
    with (
        ps.connect(served.home, token=token) as client,
        pytest.raises(AccessError, match="penstock access grant ana --view momentum"),
    ):
        client.features("scoring", pl.DataFrame({"symbol": ["BTC"]}), at=LATE, as_known=True)


def test_what_was_known_is_not_told_over_http(remote: Client) -> None:
    with pytest.raises(NotSupportedError, match=r"penstock.connect\('/path/to/project'\)"):
        remote.features("scoring", pl.DataFrame({"symbol": ["BTC"]}), at=LATE, as_known=True)


def fill(home: Path) -> None:
    """Store the features of every eighth hour of the first two days."""
    with open_services(home, actor="tester") as services:
        view = Catalogue.load(services.metadata).view("momentum")
        start_us = int(START.timestamp()) * 1_000_000
        wanted = Wanted(from_us=start_us, until_us=start_us + 48 * HOUR_US, every_us=8 * HOUR_US)
        backfill(services.tables, services.locks, view, wanted)


def test_stored_features_are_joined_to_the_age_they_may_have(
    served: ServedProject, tmp_path: Path
) -> None:
    fill(served.home)
    stored_at = SPINE.with_columns(pl.col("at").dt.truncate("8h"))
    with ps.connect(served.home) as client:
        exact = client.features("scoring", stored_at).drop("symbol", "at")
        with pytest.warns(StoredFeaturesWarning, match="^1 of 3 rows found no stored values of"):
            found = client.features("scoring", SPINE, stored={"momentum": "7h"})
        assert_frame_equal(found.select(SPINE.columns), SPINE)
        assert_frame_equal(found[:2].drop("symbol", "at"), exact[:2], check_exact=True)
        assert set(found.drop("symbol", "at").row(2)) == {None}
        with pytest.warns(StoredFeaturesWarning) as caught:
            young = client.features("scoring", SPINE, stored={"momentum": "5h"})
        assert young["momentum.count_1d"].to_list() == [8, None, None]
        assert str(caught[0].message).startswith("2 of 3 rows found")
        assert caught[0].filename == __file__
    bring_late(served.home, tmp_path)
    message = "^Stored features of view 'momentum' are right up to raw batch 1 of 2"
    with ps.connect(served.home) as client, pytest.warns(StoredFeaturesWarning, match=message):
        client.features("scoring", SPINE[:2], stored={"momentum": "7h"})


def test_stored_features_take_the_same_grant(served: ServedProject) -> None:
    fill(served.home)
    with open_services(served.home, actor="tester") as services:
        token = protect(services, "momentum")
    with (
        ps.connect(served.home, token=token) as client,
        pytest.raises(AccessError, match="penstock access grant ana --view momentum"),
    ):
        client.features("scoring", SPINE, stored={"momentum": "7h"})


def test_stored_features_that_do_not_do_are_refused(served: ServedProject) -> None:
    with ps.connect(served.home) as client, pytest.raises(NotReadyError, match="Nothing is stored"):
        client.features("scoring", SPINE, stored={"momentum": "7h"})
    fill(served.home)
    with ps.connect(served.home) as client:
        wrong = {"momentm": "7h"}
        with pytest.raises(InputError, match=r"names no view of it\. Did you mean 'momentum'"):
            client.features("scoring", SPINE, stored=wrong)
        with pytest.raises(InputError, match="'soon'"):
            client.features("scoring", SPINE, stored={"momentum": "soon"})
        with pytest.raises(InputError, match="leave one of the two out"):
            client.features("scoring", SPINE, stored={"momentum": "7h"}, as_known=True)
        message = "the last row of service 'scoring' .* allows no such age"
        with pytest.raises(NotReadyError, match=message):
            client.features("scoring", SPINE.drop("at"), at=LATE, stored={"momentum": "7h"})
    with open_services(served.home, actor="tester") as services:
        source = Catalogue.load(services.metadata).source("candles")
        delete_records(services, source, Deletion(delete_id="gone", keys=("ETH",)))
    with ps.connect(served.home) as client, pytest.raises(NotReadyError, match="were deleted"):
        client.features("scoring", SPINE, stored={"momentum": "7h"})


def test_stored_features_are_not_told_over_http(remote: Client) -> None:
    with pytest.raises(NotSupportedError, match=r"penstock.connect\('/path/to/project'\)"):
        remote.features("scoring", SPINE, stored={"momentum": "7h"})
