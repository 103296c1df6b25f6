"""``features get`` of views, on-demand views and services, as a user types it."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

import polars as pl
import pytest

from penstock.features import point_in_time
from penstock.plan import Catalogue
from penstock.runtime import open_services
from penstock.testing.composed import add_composed

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from penstock.testing.served_project import ServedProject

    from .conftest import Said

    Call = Callable[..., Said]

KEYS = ("--key", "symbol=BTC,nobody", "--key", "shop=1,2")
VALUES = ("amount=80", "pieces=2", "card=debit", "member=true")
FIELDS = tuple(word for value in VALUES for word in ("--request", value))
AT = "2026-01-12T03:30:00Z"


@pytest.fixture
def home(served: ServedProject) -> Path:
    with open_services(served.home) as services:
        add_composed(services)
    return served.home


def test_a_service_is_looked_up_online_and_in_the_past(home: Path, call: Call) -> None:
    get = ("features", "get", "composed", "--home", home, "--json", *KEYS, *FIELDS)
    online = call(*get).value
    assert [(row["symbol"], row["shop"]) for row in online] == [("BTC", 1), ("nobody", 2)]
    past = call(*get, "--at", AT).value
    with open_services(home) as services:
        service = Catalogue.load(services.metadata).feature_service("composed")
        spine = pl.DataFrame(
            {"symbol": ["BTC", "nobody"], "shop": [1, 2], "amount": [80.0] * 2, "pieces": [2] * 2,
             "card": ["debit"] * 2, "member": [True] * 2}
        )  # fmt: skip
        timed = spine.with_columns(at=pl.lit(AT).str.to_datetime("%+", time_unit="us"))
        wanted = point_in_time(services.tables, service.views, timed).select(service.names)
    assert [{name: row[name] for name in service.names} for row in past] == wanted.to_dicts()
    # Only what does not age is the same now.
    assert [row["ratios.debit"] for row in online] == [1.0, 1.0]
    assert [row["momentum.count_1d"] for row in online] == [0, 0]


def test_an_on_demand_view_and_one_without_keys(home: Path, call: Call) -> None:
    told = call("features", "get", "ratios", "--home", home, *KEYS, *FIELDS)
    assert told.code == 0, told.err
    assert "ratios.local" in told.out
    assert "BTC, 1" in told.out
    assert "No record of 'nobody' has come to 'momentum' yet" in told.err
    alone = call("features", "get", "asked", "--home", home, "--request", "amount=25", "--json")
    assert alone.value[0]["alone.root"] == 4.0
    null = call("features", "get", "alone", "--home", home, "--request", "amount=", "--json")
    assert null.value[0]["alone.root"] is None
    assert call("features", "get", "asked", "--home", home, "--request", "amount=25").code == 0
    named = call("features", "get", "trade", "--home", home, "--key", "shop=1, 2", "--json")
    assert [row["shop"] for row in named.value] == [1, 2]
    several = ("--key", "1", "--keys", "2,3")
    plain = call("features", "get", "trade", "--home", home, *several, "--json")
    assert [row["shop"] for row in plain.value] == [1, 2, 3]


def test_only_what_had_arrived_is_looked_up(served: ServedProject, call: Call) -> None:
    get = ("features", "get", "momentum", "--key", "BTC", "--home", served.home, "--json")
    at = ("--at", AT)  # long before the files were ingested
    (whole,), (known,) = call(*get, *at).value, call(*get, *at, "--as-known").value
    assert whole["momentum.last_close"] is not None
    assert known["momentum.last_close"] is None
    now = ("--at", datetime.now(UTC).isoformat())
    assert call(*get, *now, "--as-known").value == call(*get, *now).value
    alone = call(*get, "--as-known")
    assert (alone.code, "Give --at with it" in alone.err) == (2, True)


WRONG = {
    "no keys": (("composed", *FIELDS), "names no entity. Give at least one, such as --key symbol="),
    "a key missing": (("composed", *KEYS[:2], *FIELDS), "--key shop=... is missing"),
    "an unknown entity": (
        ("composed", *KEYS, "--key", "shpo=1", *FIELDS), "'shpo': there is no such name"),
    "a key without its name": (("composed", "--key", "BTC", *FIELDS), "there is no such name"),
    "unlike numbers": (
        ("composed", "--key", "symbol=BTC", "--key", "shop=1,2", *FIELDS),
        "--key symbol=... has 1 keys where another has 2",
    ),
    "a key of another type": (("trade", "--key", "one"), "--key shop='one': it is int64"),
    "no fields": (("composed", *KEYS), "--request amount=... --request pieces=..."),
    "a field missing": (("composed", *KEYS, *FIELDS[:2]), "--request pieces=... --request card"),
    "an unknown field": (
        ("composed", *KEYS, *FIELDS, "--request", "amuont=1"), "Did you mean 'amount'"),
    "a field of another type": (
        ("asked", "--request", "amount=much"), "--request amount='much': it is float64"),
    "a field where none is taken": (
        ("momentum", "--key", "BTC", "--request", "x=1"), "'momentum' takes none"),
}  # fmt: skip


def test_what_is_wrong_is_said(home: Path, call: Call) -> None:
    for case, (words, said) in WRONG.items():
        answer = call("features", "get", *words, "--home", home)
        assert answer.code == 2, case
        assert said in answer.err, (case, answer.err)
    missing = call("features", "get", "composd", "--home", home)
    assert missing.code == 1
    assert "Did you mean 'composed'?" in missing.err


def test_a_single_feature_is_looked_up(home: Path, call: Call) -> None:
    get = ("features", "get", "--key", "BTC", "--home", home)
    (whole,) = call(*get, "momentum", "--at", AT, "--json").value
    (one,) = call(*get, "momentum.max_close_2d", "--at", AT, "--json").value
    assert one == {name: whole[name] for name in ("symbol", "at", "momentum.max_close_2d")}
    wrong = call(*get, "momentum.max_clse_2d")
    assert (wrong.code, "Did you mean 'momentum.max_close_2d'?" in wrong.err) == (1, True)


def test_a_value_and_a_time_are_shown_as_they_are(home: Path, call: Call) -> None:
    get = ("features", "get", "momentum", "--key", "BTC", "--home", home)
    told = call(*get, "--at", "2026-01-12T05:30:00.25+02:00", "--json")
    assert told.code == 0, told.err
    (row,) = told.value
    assert row["at"] == "2026-01-12T03:30:00.250000Z"
    day, midnight = (call(*get, "--at", at) for at in ("2026-01-12", "2026-01-12T00:00Z"))
    assert (day.code, day.out) == (0, midnight.out)
    shown = call(*get, "--at", row["at"]).out
    assert f"{row['momentum.max_close_2d']:,.10g}" in shown
    wrong = call(*get, "--at", "2026-01-12T03:30:00")
    assert (wrong.code, "has no time zone. Add Z for UTC" in wrong.err) == (2, True)
