from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import polars as pl
import pytest

import penstock as ps
from penstock.errors import InputError
from penstock.features import OnlineReader, point_in_time

if TYPE_CHECKING:
    from tests.unit.features.conftest import World

    from penstock.spec import View

HOUR_US = 3_600_000_000
USER = ps.Entity("user")
SHOP = ps.Entity("shop", dtype=ps.Int64)
ORDERS = ps.Source(
    "orders",
    entity=USER,
    timestamp="ts",
    schema={"user": ps.String, "shop": ps.Int64, "ts": ps.Timestamp, "amount": ps.Float64},
)
SALES = ps.Source(
    "sales",
    entity=SHOP,
    timestamp="ts",
    schema={"shop": ps.Int64, "ts": ps.Timestamp, "amount": ps.Float64},
)
HABITS = ps.FeatureView(
    "habits", source=ORDERS, features=[ps.mean("amount", over="6h"), ps.count(over="1d")]
)
TRADE = ps.FeatureView("trade", source=SALES, features=[ps.max("amount", over="1d")])
RATIOS = ps.OnDemandView(
    "ratios",
    views=[HABITS, TRADE],
    request={"amount": ps.Float64, "card": ps.String},
    features={
        "usual": ps.col("amount") / ps.col("habits.mean_amount_6h"),
        "high": (ps.col("usual") > 1.1) & ps.col("card").ne("debit"),
        "local": ps.col("amount") - ps.col("trade.max_amount_1d"),
    },
)
TWICE = ps.OnDemandView(
    "twice", views=[RATIOS], features={"busy": ps.col("ratios.local") * ps.col("ratios.usual")}
)
VIEWS: list[View] = [TWICE, HABITS, RATIOS]
ROWS = 200


def fill(world: World) -> None:
    rng = np.random.default_rng(7)
    for _ in range(3):
        orders = [
            {
                "user": str(rng.choice(["a", "b", "c"])),
                "shop": int(rng.integers(1, 4)),
                "ts": int(rng.integers(0, 72)) * HOUR_US // 3,
                "amount": float(rng.normal(10, 3)),
            }
            for _ in range(40)
        ]
        world.ingest(ORDERS, orders)
        world.ingest(SALES, orders)
    world.refresh(HABITS)
    world.refresh(TRADE)


def spine_of(rows: int) -> pl.DataFrame:
    """Known and unknown entities, null fields, at many times."""
    rng = np.random.default_rng(3)
    amounts = [None if number % 7 == 0 else float(number) for number in range(rows)]
    return pl.DataFrame(
        {
            "shop": pl.Series(rng.integers(1, 6, rows), dtype=pl.Int64),
            "user": rng.choice(["a", "b", "c", "z"], rows).tolist(),
            "at": pl.Series(rng.integers(24, 90, rows) * HOUR_US).cast(pl.Datetime("us", "UTC")),
            "amount": pl.Series(amounts, dtype=pl.Float64),
            "card": [["debit", "credit", None][number % 3] for number in range(rows)],
        }
    )


@pytest.mark.parametrize("rows", [1, 5, ROWS], ids=["one", "row by row", "as a frame"])
def test_online_is_offline(world: World, rows: int) -> None:
    """Law 3 with two entities, request fields, and views on views."""
    fill(world)
    reader = OnlineReader(world.online, VIEWS)
    assert [entity.name for entity in reader.entities] == ["user", "shop"]
    spine = spine_of(rows)
    columns = spine.to_dict(as_series=False)
    at_us = spine["at"].dt.epoch("us").to_numpy()
    values, as_of_us = reader.read({n: columns[n] for n in ("user", "shop")}, at_us, columns)
    frame = point_in_time(
        world.tables,
        VIEWS,
        spine.with_columns(pl.Series("at", as_of_us).cast(pl.Datetime("us", "UTC"))),
        batches=reader.progress(),
    )
    assert frame.columns == [*spine.columns, *reader.names]
    assert frame.select(spine.columns).drop("at").equals(spine.drop("at"))
    expected = frame.select(pl.col(reader.names).cast(pl.Float64).fill_null(np.nan)).to_numpy()
    np.testing.assert_allclose(values, expected, rtol=1e-9, atol=1e-12)
    assert rows < ROWS or np.isfinite(values).sum() > rows


def test_one_row_by_name(world: World) -> None:
    fill(world)
    reader = OnlineReader(world.online, [RATIOS])
    found = reader.read_one(
        {"user": "a", "shop": 1}, 24 * HOUR_US, {"amount": 20.0, "card": "credit"}
    )
    assert list(found) == ["ratios.usual", "ratios.high", "ratios.local"]
    assert found["ratios.high"] in {0.0, 1.0}
    assert reader.knows({"user": ["a", "z"], "shop": [99, 99]}) == [True, False]


def test_what_is_asked_by_nobody_but_the_request(world: World) -> None:
    """A view of request fields alone takes no entity, online and offline."""
    view = ps.OnDemandView(
        "alone", request={"amount": ps.Float64}, features={"big": ps.col("amount") > 9}
    )
    reader = OnlineReader(world.online, [view])
    assert (reader.entities, reader.progress()) == ((), {})
    values, _ = reader.read(["a", "b"], 0, {"amount": [10.0, None]})
    np.testing.assert_array_equal(values, [[1.0], [np.nan]])
    assert reader.knows(["a"]) == [False]
    spine = spine_of(4)
    frame = point_in_time(world.tables, [view], spine)
    assert frame["alone.big"].to_list() == [None, 0.0, 0.0, 0.0]


def test_what_does_not_fit_is_said(world: World) -> None:
    fill(world)
    reader = OnlineReader(world.online, [RATIOS])
    keys: dict[str, list[str | int]] = {"user": ["a"], "shop": [1]}
    fields: dict[str, list[object]] = {"amount": [1.0], "card": ["debit"]}
    with pytest.raises(InputError, match=r"'amount'. Did you mean 'amounts'\? Give it"):
        reader.read(keys, 0, {"amounts": [1.0], "card": ["debit"]})
    with pytest.raises(InputError, match="has 2 values for 1 rows"):
        reader.read(keys, 0, fields | {"amount": [1.0, 2.0]})
    for wrong in ("1", True):
        with pytest.raises(InputError, match="is no float64"):
            reader.read(keys, 0, fields | {"amount": [wrong]})
    whole = ps.OnDemandView("o", request={"n": ps.Int64}, features={"f": ps.col("n") + 1})
    for wrong_number in (2**63, 1.5, False):
        with pytest.raises(InputError, match="is no int64"):
            OnlineReader(world.online, [whole]).read(["a"], 0, {"n": [wrong_number]})
    spine = spine_of(3)
    with pytest.raises(InputError, match=r"no column 'card', the request field 'card'"):
        point_in_time(world.tables, [RATIOS], spine.drop("card"))
    with pytest.raises(InputError, match=r"'amount' is String, but the request field"):
        point_in_time(world.tables, [RATIOS], spine.with_columns(pl.col("amount").cast(pl.String)))
    with pytest.raises(InputError, match=r"already"):
        point_in_time(world.tables, [RATIOS], spine.with_columns(pl.lit(1.0).alias("ratios.usual")))
