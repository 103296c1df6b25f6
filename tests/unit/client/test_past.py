"""Features of the past from a folder: as they were known then, whatever came in later."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

import polars as pl
import pytest
from polars.testing import assert_frame_equal

import penstock as ps
from penstock.errors import AccessError, NotSupportedError
from penstock.features import point_in_time
from penstock.ingest import ingest_files
from penstock.plan import Catalogue
from penstock.runtime import open_services
from penstock.testing.protecting import protect
from penstock.testing.served_project import candles

if TYPE_CHECKING:
    from pathlib import Path

    from penstock.client import Client
    from penstock.testing.served_project import ServedProject

pytestmark = pytest.mark.filterwarnings("ignore::penstock.errors.UnknownEntitiesWarning")

LATE = datetime(2026, 1, 12, tzinfo=UTC)


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
