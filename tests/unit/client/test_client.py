"""A client gives the same from a project's folder as over HTTP, and raises the same."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import polars as pl
import pytest
from polars.testing import assert_frame_equal

import penstock as ps
from penstock.errors import (
    AccessError,
    InputError,
    NotFoundError,
    NotReadyError,
    NotSupportedError,
    UnavailableError,
)
from penstock.features import point_in_time
from penstock.plan import Catalogue, apply
from penstock.runtime import open_services

if TYPE_CHECKING:
    from collections.abc import Callable

    from penstock.client import Client
    from penstock.testing.served_project import ServedProject

pytestmark = pytest.mark.filterwarnings("ignore::penstock.errors.UnknownEntitiesWarning")

LATER = datetime(2026, 1, 20, tzinfo=UTC)
NEWEST = datetime(2026, 1, 11, tzinfo=UTC)
NAMES = ["BTC", "nobody", "ETH", "BTC"]


def test_both_give_the_same(folder: Client, remote: Client) -> None:
    assert folder.services() == remote.services() == ["scoring"]
    for name in NAMES:
        ask = {"symbol": name}
        assert folder.online("scoring", ask, at=LATER) == remote.online("scoring", ask, at=LATER)
    rows = [{"symbol": name} for name in NAMES]
    listed = folder.online("scoring", rows, at=LATER)
    assert listed == remote.online("scoring", rows, at=LATER)
    assert listed == [folder.online("scoring", row, at=LATER) for row in rows]
    frame = pl.DataFrame({"weight": [1.5, 2.5, 3.5, 4.5], "symbol": NAMES})
    found = folder.online("scoring", frame, at=LATER)
    assert_frame_equal(found, remote.online("scoring", frame, at=LATER), check_exact=True)
    assert_frame_equal(found.select(frame.columns), frame)
    assert found.drop(frame.columns).to_dicts() == listed
    hours = [LATER - timedelta(days=day) for day in range(4)]
    timed = frame.with_columns(at=pl.Series(hours).cast(pl.Datetime("ms", "Europe/Paris")))
    found = folder.online("scoring", timed)
    assert_frame_equal(found, remote.online("scoring", timed), check_exact=True)
    assert found["at"].dtype == pl.Datetime("ms", "Europe/Paris")


def test_one_is_a_dictionary_of_plain_values(client: Client) -> None:
    found = client.online("scoring", {"symbol": "BTC"}, at=NEWEST)
    assert list(found)[-1] == "momentum.count_1d"
    assert [type(value) for value in found.values()] == [float] * 4 + [int]
    unknown = client.online("scoring", {"symbol": "nobody"})
    assert list(unknown.values()) == [None] * 4 + [0]


def test_a_time_that_is_none_is_refused(client: Client) -> None:
    for ask in ({"symbol": "BTC"}, [{"symbol": "BTC"}], pl.DataFrame({"symbol": ["BTC"]})):
        with pytest.raises(InputError, match="is no time"):
            client.online("scoring", ask, at=cast("datetime", "2026-01-02"))
    with pytest.raises(InputError, match="has no time zone"):
        client.online("scoring", {"symbol": "BTC"}, at=datetime(2026, 1, 2))  # noqa: DTZ001 - without


def test_what_was_before_the_newest_record_is_refused(client: Client) -> None:
    before = NEWEST - timedelta(microseconds=1)
    message = r"as of 2026-01-11T00:00:00Z, its newest record.*penstock features get --at"
    with pytest.raises(InputError, match=message):
        client.online("scoring", {"symbol": "BTC"}, at=before)
    times = [LATER, before, NEWEST]
    frame = pl.DataFrame({"symbol": ["BTC"] * 3, "at": times})
    with pytest.raises(InputError, match=r"rows\[1\]: .*2026-01-10T23:59:59.999999Z that was the"):
        client.online("scoring", frame)
    unknown = client.online("scoring", {"symbol": "nobody"}, at=before)
    assert unknown["momentum.count_1d"] == 0


def test_a_row_among_many_is_named_by_its_place(folder: Client, remote: Client) -> None:
    times = [LATER] * 1_200 + [NEWEST - timedelta(microseconds=1)]
    frame = pl.DataFrame({"symbol": ["BTC"] * 1_201, "at": times})
    with pytest.raises(InputError, match=r"^rows\[1200\]: "):
        folder.online("scoring", frame)
    # Over HTTP a thousand go at once.
    with pytest.raises(InputError, match=r"^Of the rows from 1,000 on, .*: rows\[200\]: "):
        remote.online("scoring", frame)


def test_now_is_now(client: Client) -> None:
    old = client.online("scoring", {"symbol": "BTC"})
    assert (old["momentum.count_1d"], old["momentum.mean_ret_6h"]) == (0, None)
    assert old["momentum.last_close"] is not None


def test_many_rows_come_in_their_order(client: Client) -> None:
    keys = [NAMES[number * 7 % 4] for number in range(2_501)]
    found = client.online("scoring", pl.DataFrame({"symbol": keys}), at=LATER)
    assert found["symbol"].to_list() == keys
    one = client.online("scoring", {"symbol": "ETH"}, at=LATER)
    of_eth = found.filter(symbol="ETH").drop("symbol").unique().to_dicts()
    assert of_eth == [one]
    assert client.online(
        "scoring", pl.DataFrame({"symbol": []}, schema={"symbol": pl.String})
    ).is_empty()
    assert client.online("scoring", []) == []


def test_keys_of_other_libraries_are_taken(client: Client) -> None:
    plain = client.online("scoring", {"symbol": "BTC"}, at=LATER)
    assert client.online("scoring", {"symbol": np.str_("BTC")}, at=LATER) == plain
    categories = pl.DataFrame({"symbol": pl.Series(["BTC"], dtype=pl.Categorical)})
    assert client.online("scoring", categories, at=LATER).drop("symbol").to_dicts() == [plain]


def test_past_features_are_those_of_the_tables(folder: Client, project: ServedProject) -> None:
    times = [datetime(2026, 1, 1 + day, 5, tzinfo=UTC) for day in range(4)]
    spine = pl.DataFrame({"at": times, "symbol": NAMES, "label": [1, 0, 1, 1]})
    found = folder.features("scoring", spine)
    assert found.columns[:3] == spine.columns
    assert_frame_equal(found.select(spine.columns), spine)
    assert found["momentum.count_1d"].to_list()[0] == 5
    whole = folder.features("scoring", spine.drop("at"), at=times[0])
    assert whole.columns == [name for name in found.columns if name != "at"]
    assert whole["momentum.last_close"][0] == found["momentum.last_close"][0]
    assert project.features == tuple(found.columns[3:])


def test_past_features_are_not_told_over_http(remote: Client) -> None:
    spine = pl.DataFrame({"symbol": ["BTC"]})
    with pytest.raises(NotSupportedError, match=r"penstock.connect\('/path/to/project'\)"):
        remote.features("scoring", spine, at=LATER)


WRONG: dict[str, tuple[Callable[[Client], object], type[Exception], str]] = {
    "service": (
        lambda client: client.online("scorin", {"symbol": "BTC"}),
        NotFoundError,
        "Did you mean 'scoring'?",
    ),
    "service of a frame": (
        lambda client: client.online("scorin/g", pl.DataFrame({"symbol": ["BTC"]})),
        NotFoundError,
        "no feature service 'scorin/g'",
    ),
    "key": (lambda client: client.online("scoring", {"symbl": "BTC"}), InputError, "symbol"),
    "type": (lambda client: client.online("scoring", {"symbol": 7}), InputError, "str"),
    "two keys": (
        lambda client: client.online("scoring", {"symbol": "BTC", "x": 1}),
        InputError,
        "symbol",
    ),
    "object": (lambda client: client.online("scoring", {"symbol": object()}), InputError, "key"),
    "column": (
        lambda client: client.online("scoring", pl.DataFrame({"symbl": ["BTC"]})),
        InputError,
        "symbol",
    ),
    "type of a column": (
        lambda client: client.online("scoring", pl.DataFrame({"symbol": [1]})),
        InputError,
        "symbol",
    ),
    "null": (
        lambda client: client.online("scoring", pl.DataFrame({"symbol": ["BTC", None]})),
        InputError,
        "symbol",
    ),
    "list of other things": (
        lambda client: client.online("scoring", [{"symbol": "BTC"}, 3]),
        InputError,
        "list does not make a frame",
    ),
    "no frame": (lambda client: client.online("scoring", 7), InputError, "int is no frame"),
    "time without zone": (
        lambda client: client.online("scoring", {"symbol": "BTC"}, at=datetime(2026, 1, 1)),  # noqa: DTZ001 - wrong
        InputError,
        "zone",
    ),
    "times without zone": (
        lambda client: client.online(
            "scoring",
            pl.DataFrame({"symbol": ["BTC"], "at": [datetime(2026, 1, 1)]}),  # noqa: DTZ001 - wrong
        ),
        InputError,
        "at",
    ),
    "time twice": (
        lambda client: client.online(
            "scoring", pl.DataFrame({"symbol": ["BTC"], "at": [LATER]}), at=LATER
        ),
        InputError,
        "Give one of them",
    ),
    "column of a feature": (
        lambda client: client.online(
            "scoring", pl.DataFrame({"symbol": ["BTC"], "momentum.last_close": [1.0]})
        ),
        InputError,
        "'momentum.last_close' already",
    ),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_is_wrong_is_the_same_error_from_both(client: Client, case: str) -> None:
    ask, kind, words = WRONG[case]
    with pytest.raises(kind, match=words):
        ask(client)


def test_a_key_of_another_type_is_told_by_its_value(folder: Client) -> None:
    with pytest.raises(InputError, match="does not fit: 5 is int"):
        folder.online("scoring", {"symbol": 5})


def test_a_folder_follows_what_is_applied(served: ServedProject) -> None:
    with open_services(served.home) as services:
        catalogue = Catalogue.load(services.metadata)
    (view,) = catalogue.all(ps.FeatureView)
    with ps.connect(served.home) as client:
        assert client.services() == ["scoring"]

        def declare(*names: str) -> None:
            service = ps.FeatureService("other", features=[view[names]])
            project = ps.Project("p", declarations=[*catalogue.all(ps.Deployment), service])
            apply(client._ports.metadata, project, actor="t", now=LATER)  # type: ignore[attr-defined]  # noqa: SLF001 - the folder is open once

        declare("count_1d")
        assert client.online("other", {"symbol": "BTC"}) == {"momentum.count_1d": 0}
        declare("last_close", "count_1d")
        assert list(client.online("other", {"symbol": "BTC"})) == [
            "momentum.last_close",
            "momentum.count_1d",
        ]
        spine = pl.DataFrame({"symbol": NAMES, "at": [LATER] * 4})
        found = client.features("other", spine)
        wanted = point_in_time(client._ports.tables, [view], spine)  # type: ignore[attr-defined]  # noqa: SLF001 - as above
        assert_frame_equal(found, wanted.select(found.columns))
    # What is closed can be opened again.
    with ps.connect(str(served.home)) as client:
        assert client.services() == ["scoring", "other"]


def test_where_nothing_is(tmp_path: Any, remote: Client) -> None:  # noqa: ANN401 - a path
    with pytest.raises(NotReadyError, match="penstock init"):
        ps.connect(tmp_path)
    with pytest.raises(InputError, match="is no address"):
        ps.connect("http://host:port")
    with pytest.raises(InputError, match="like http://localhost:8001"):
        ps.connect("localhost:8001")
    with (
        ps.connect("http://127.0.0.1:1") as client,
        pytest.raises(UnavailableError, match="penstock serve"),
    ):
        client.services()
    stranger = ps.connect(remote._url, token="nobody's")  # type: ignore[attr-defined]  # noqa: S106, SLF001 - none
    with stranger, pytest.raises(AccessError, match="Nobody has that token"):
        stranger.services()


def test_pandas_comes_back_as_pandas(client: Client) -> None:
    pd = pytest.importorskip("pandas", reason="pandas is not installed")
    index = [7, 5, 3, 1]
    frame = pd.DataFrame({"symbol": NAMES, "weight": [1, None, 3, 4]}, index=index)
    found = client.online("scoring", frame, at=LATER)
    plain = client.online("scoring", pl.DataFrame({"symbol": NAMES}), at=LATER)
    assert list(found.index) == index
    pd.testing.assert_frame_equal(found[["symbol", "weight"]], frame)
    for name in plain.columns:
        expected = plain[name].to_list()
        given = [None if value != value else value for value in found[name].tolist()]  # noqa: PLR0124 - NaN is null
        assert given == expected
    timed = frame.assign(at=pd.to_datetime(["2026-01-20 12:00"] * 4).tz_localize("Europe/Paris"))
    at = datetime(2026, 1, 20, 11, tzinfo=UTC)
    assert client.online("scoring", timed)["momentum.count_1d"].tolist() == (
        client.online("scoring", frame, at=at)["momentum.count_1d"].tolist()
    )


def test_pandas_spines_come_back_as_pandas(folder: Client) -> None:
    pd = pytest.importorskip("pandas", reason="pandas is not installed")
    at = pd.to_datetime(["2026-01-05 12:00", "2026-01-03 00:00"]).tz_localize("UTC")
    spine = pd.DataFrame({"symbol": ["BTC", "ETH"], "at": at})
    found = folder.features("scoring", spine)
    pd.testing.assert_frame_equal(found[["symbol", "at"]], spine)
    plain = folder.features("scoring", pl.DataFrame({"symbol": ["BTC", "ETH"], "at": at.to_list()}))
    assert found["momentum.count_1d"].tolist() == plain["momentum.count_1d"].to_list() == [24, 24]
