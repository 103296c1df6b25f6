"""A feature server gives what the raw tables give, from either store, while it runs for real."""

from __future__ import annotations

import io
import time
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from penstock.control import refresh_features
from penstock.features import OnlineReader, point_in_time
from penstock.plan import Catalogue
from penstock.runtime import open_services
from penstock.testing.composed import SHOPS, add_composed
from penstock.testing.ports import free_port
from penstock.testing.redis_server import need_redis, redis_server
from penstock.testing.serving import serving

if TYPE_CHECKING:
    from pathlib import Path

    import httpx

    from penstock.runtime import LocalServices
    from penstock.testing.served_project import ServedProject

pytestmark = pytest.mark.slow

PATH = "/v1/features/scoring"
ARROW = "application/vnd.apache.arrow.stream"
START = datetime(2026, 1, 1, tzinfo=UTC)
START_US = int(START.timestamp() * 1e6)
HOURS = 250

asks = st.lists(
    st.tuples(
        st.sampled_from(["BTC", "ETH", "ADA", "nobody", "", "ü"]),
        # From before the first record to long after the last, at whole hours and beside them.
        st.builds(
            lambda hours, us: START + timedelta(hours=hours, microseconds=us),
            st.integers(-24, 400),
            st.sampled_from([-1, 0, 1]),
        ),
    ),
    min_size=1,
    max_size=40,
)


composed_asks = st.lists(
    st.fixed_dictionaries(
        {
            "symbol": st.sampled_from(["BTC", "ETH", "nobody"]),
            "shop": st.sampled_from([*SHOPS, 99]),
            # From the last record on, of which the store can tell.
            "at": st.integers(HOURS, 400).map(lambda hours: START + timedelta(hours=hours)),
            "amount": st.none() | st.floats(-1e9, 1e9) | st.just(0.0),
            "pieces": st.none() | st.integers(-(1 << 40), 1 << 40),
            "card": st.sampled_from([None, "debit", "credit", ""]),
            "member": st.sampled_from([None, True, False]),
        }
    ),
    min_size=1,
    max_size=100,
)
COMPOSED: dict[str, Any] = {
    "symbol": pl.String, "shop": pl.Int64, "at": pl.Datetime("us", "UTC"), "amount": pl.Float64,
    "pieces": pl.Int64, "card": pl.String, "member": pl.Boolean,
}  # fmt: skip


def wait_for(http: httpx.Client, path: str) -> None:
    """Until the process has seen what was applied; ten seconds at most."""
    for _ in range(500):
        if http.get(path).is_success:
            return
        time.sleep(0.02)
    raise AssertionError(f"{path} never came")


def asked_by_json(http: httpx.Client, keys: list[str], times: list[datetime]) -> httpx.Response:
    ask = {"entities": {"symbol": keys}, "at": [time.isoformat() for time in times]}
    return http.post(PATH, json=ask)


def asked_by_arrow(http: httpx.Client, keys: list[str], times: list[datetime]) -> httpx.Response:
    body = io.BytesIO()
    pl.DataFrame({"symbol": keys, "at": times}).write_ipc_stream(body)
    return http.post(PATH, content=body.getvalue(), headers={"content-type": ARROW})


def by_json(http: httpx.Client, keys: list[str], times: list[datetime]) -> pl.DataFrame:
    answer = asked_by_json(http, keys, times)
    assert answer.status_code == 200, answer.text
    told = answer.json()
    as_of = pl.Series(told["as_of"]).str.to_datetime("%+", time_unit="us", time_zone="UTC")
    return pl.DataFrame(told["features"], strict=False).with_columns(as_of=as_of)


def by_arrow(http: httpx.Client, keys: list[str], times: list[datetime]) -> pl.DataFrame:
    answer = asked_by_arrow(http, keys, times)
    assert answer.status_code == 200, answer.text
    return pl.read_ipc_stream(answer.content)


def assert_composed_agree(
    http: httpx.Client, services: LocalServices, asked: list[dict[str, object]]
) -> None:
    """Law 3 over HTTP with two entities and request fields: JSON = Arrow = the raw tables."""
    path = "/v1/features/composed"
    service = Catalogue.load(services.metadata).feature_service("composed")
    spine = pl.DataFrame(asked, schema=COMPOSED)
    body = io.BytesIO()
    spine.write_ipc_stream(body)
    streamed = http.post(path, content=body.getvalue(), headers={"content-type": ARROW})
    assert streamed.status_code == 200, streamed.text
    arrow = pl.read_ipc_stream(streamed.content)
    columns = spine.with_columns(pl.col("at").dt.strftime("%FT%TZ")).to_dict(as_series=False)
    ask = {
        "entities": {name: columns[name] for name in ("symbol", "shop")},
        "request": {name: columns[name] for name in service.request_fields},
        "at": columns["at"],
    }
    told = http.post(path, json=ask)
    assert told.status_code == 200, told.text
    json = pl.DataFrame(told.json()["features"], schema=arrow.drop("as_of").schema, strict=False)
    assert_frame_equal(json, arrow.drop("as_of"), check_exact=True)
    batch = point_in_time(services.tables, service.views, spine.with_columns(at=arrow["as_of"]))
    assert_frame_equal(json, batch.select(service.names), rel_tol=1e-9)


def assert_all_agree(
    http: httpx.Client, services: LocalServices, keys: list[str], times: list[datetime]
) -> None:
    """Law 3 over HTTP: JSON = Arrow = reader to the last bit, and all = the raw tables."""
    service = Catalogue.load(services.metadata).feature_service("scoring")
    reader = OnlineReader(services.online, service.views)
    asked_us = pl.Series(times).cast(pl.Datetime("us", "UTC")).cast(pl.Int64).to_numpy()
    values, as_of_us = reader.read(keys, asked_us)
    early = np.flatnonzero(asked_us < as_of_us)
    if len(early):
        # What the store cannot tell of it refuses: the newest state has seen what was to come.
        row = "" if len(keys) == 1 else f"rows[{early[0]}]: "
        for told in (asked_by_json(http, keys, times), asked_by_arrow(http, keys, times)):
            assert told.status_code == 422
            assert told.json()["error"]["message"].startswith(f"{row}The online store knows")
        times = [START + timedelta(microseconds=int(us) - START_US) for us in as_of_us]
    arrow = by_arrow(http, keys, times)
    plain = arrow.select(pl.col(service.names).cast(pl.Float64).fill_null(np.nan))
    np.testing.assert_array_equal(plain.to_numpy(), values)
    np.testing.assert_array_equal(arrow["as_of"].cast(pl.Int64).to_numpy(), as_of_us)
    json = by_json(http, keys, times)
    assert_frame_equal(json.cast(dict(arrow.schema)), arrow, check_exact=True)  # type: ignore[arg-type]  # a schema is one
    spine = pl.DataFrame({"symbol": keys, "at": arrow["as_of"]})
    batch = point_in_time(services.tables, service.views, spine)
    expected = batch.select(pl.col(service.names).cast(pl.Float64).fill_null(np.nan)).to_numpy()
    np.testing.assert_allclose(values, expected, rtol=1e-9)


@pytest.mark.parametrize("store", ["lmdb", "redis"])
def test_json_is_arrow_is_the_reader_is_the_tables(
    store: str, served: ServedProject, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with ExitStack() as stack:
        if store == "redis":
            need_redis()
            port = free_port()
            stack.enter_context(redis_server(tmp_path / "redis", port, "--save", ""))
            monkeypatch.setenv("PENSTOCK_ONLINE_URL", f"redis://127.0.0.1:{port}/1#features")
        services = stack.enter_context(open_services(served.home, actor="tester"))
        http = stack.enter_context(serving(served))
        if store == "redis":
            unbuilt = http.post(PATH, json={"entity": {"symbol": "BTC"}})
            assert unbuilt.status_code == 503
            assert "penstock features build momentum" in unbuilt.json()["error"]["message"]
            assert refresh_features(services, "candles")
        add_composed(services)
        wait_for(http, "/v1/features/composed")

        @settings(max_examples=30, deadline=None)
        @given(asks)
        def check(found: list[tuple[str, datetime]]) -> None:
            assert_all_agree(http, services, [key for key, _ in found], [at for _, at in found])

        @settings(max_examples=30, deadline=None)
        @given(composed_asks)
        def check_composed(asked: list[dict[str, object]]) -> None:
            assert_composed_agree(http, services, asked)

        check()
        check_composed()
