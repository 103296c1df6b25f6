"""A client of services about several entities, with request fields: by name, from both places."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl
import pytest
from polars.testing import assert_frame_equal

import penstock as ps
from penstock.errors import InputError
from penstock.plan import Catalogue, apply
from penstock.runtime import open_services
from penstock.testing.composed import add_composed
from penstock.testing.serving import serving

if TYPE_CHECKING:
    from collections.abc import Callable

    from penstock.client import Client
    from penstock.testing.served_project import ServedProject

pytestmark = pytest.mark.filterwarnings("ignore::penstock.errors.UnknownEntitiesWarning")

AT = datetime(2026, 1, 11, 0, 30, tzinfo=UTC)
ROW: dict[str, Any] = {
    "symbol": "BTC", "shop": 1, "amount": 80.0, "pieces": 2, "card": "debit", "member": True,
}  # fmt: skip
FRAME = pl.DataFrame(
    {
        "member": [True, None, False],
        "symbol": ["BTC", "nobody", "ETH"],
        "weight": ["x", "y", "z"],
        "shop": [1, 2, 99],
        "amount": [80, None, 5],
        "pieces": [2, 3, None],
        "card": ["debit", None, "credit"],
    }
)


@pytest.fixture(scope="module")
def project(project: ServedProject) -> ServedProject:
    """With services about several entities, and of the request."""
    with open_services(project.home) as services:
        add_composed(services)
    return project


def test_both_give_what_the_tables_give(folder: Client, remote: Client) -> None:
    online = folder.online("composed", FRAME, at=AT)
    assert_frame_equal(online, remote.online("composed", FRAME, at=AT), check_exact=True)
    assert_frame_equal(online.select(FRAME.columns), FRAME)
    features = online.drop(FRAME.columns)
    # The online store knows an entity as of its newest record, and computes later times.
    late = datetime(2026, 1, 12, tzinfo=UTC)
    past = folder.features("composed", FRAME.with_columns(at=pl.lit(late)))
    assert_frame_equal(past.select(FRAME.columns), FRAME)
    assert_frame_equal(past.drop("at"), folder.online("composed", FRAME, at=late), rel_tol=1e-9)
    rows = FRAME.drop("weight").to_dicts()
    assert folder.online("composed", rows, at=AT) == features.to_dicts()
    assert remote.online("composed", rows, at=AT) == features.to_dicts()
    for row, wanted in zip(rows, features.to_dicts(), strict=True):
        assert folder.online("composed", row, at=AT) == wanted
        assert remote.online("composed", row, at=AT) == wanted


def test_a_row_of_the_past_without_a_key_keeps_its_place(folder: Client) -> None:
    late = datetime(2026, 1, 12, tzinfo=UTC)
    spine = FRAME.with_columns(shop=pl.Series([1, None, 99]))
    found = folder.features("composed", spine, at=late)
    assert_frame_equal(found.select(spine.columns), spine)
    assert found["trade.count_1d"].to_list()[1:] == [0, 0]
    assert found["trade.mean_price_2d"].to_list()[1:] == [None, None]
    whole = folder.features("composed", FRAME, at=late)
    others = [name for name in whole.columns if name.startswith("momentum.")]
    assert_frame_equal(found.select(others), whole.select(others))


def test_a_service_of_the_request_alone(client: Client) -> None:
    assert client.online("asked", {"amount": 25}) == {"alone.root": 4.0}
    found = client.online("asked", pl.DataFrame({"amount": [None, 18]}))
    assert found["alone.root"].to_list() == [None, 3.0]


def test_values_of_other_libraries_are_taken(client: Client) -> None:
    row = {
        "symbol": np.str_("BTC"), "shop": np.int64(1), "amount": np.float32(80),
        "pieces": np.int8(2), "card": np.str_("debit"), "member": np.bool_(1),
    }  # fmt: skip
    plain = client.online("composed", ROW, at=AT)
    assert client.online("composed", row, at=AT) == plain
    assert client.online("composed", ROW | {"amount": 80}, at=AT) == plain
    frame = pl.DataFrame([ROW]).with_columns(
        pl.col("symbol", "card").cast(pl.Categorical),
        pl.col("shop", "pieces").cast(pl.UInt8),
        pl.col("amount").cast(pl.Int16),
    )
    assert client.online("composed", frame, at=AT).drop(ROW).to_dicts() == [plain]
    nothing = pl.DataFrame([ROW | dict.fromkeys(["amount", "pieces", "card", "member"])])
    found = client.online("composed", nothing, at=AT)
    assert found["ratios.usual"].dtype == pl.Float64
    assert found["ratios.usual"].to_list() == found["ratios.debit"].to_list() == [None]


WRONG: dict[str, tuple[Callable[[Client], object], str]] = {
    "key missing": (
        lambda c: c.online("composed", {n: v for n, v in ROW.items() if n != "shop"}),
        "lacks 'shop'. 'composed' takes symbol, shop and of the request amount, pieces",
    ),
    "field missing": (
        lambda c: c.online("composed", {n: v for n, v in ROW.items() if n != "card"}),
        "lacks 'card'",
    ),
    "unknown name": (
        lambda c: c.online("composed", ROW | {"amuont": 1}), "'amuont'.*Did you mean 'amount'"),
    "field of another type": (lambda c: c.online("composed", ROW | {"amount": "80"}), "amount"),
    "broken number": (lambda c: c.online("composed", ROW | {"pieces": 1.5}), "pieces"),
    "object": (lambda c: c.online("composed", ROW | {"card": object()}), "request field.*object"),
    "column missing": (
        lambda c: c.online("composed", FRAME.drop("card")), "'card', a request field, is missing"),
    "column of another type": (
        lambda c: c.online("composed", FRAME.with_columns(pieces=pl.lit(1.5))),
        "'pieces' is Float64, and the request field is int64. Cast it",
    ),
    "number too large": (
        lambda c: c.online(
            "composed", FRAME.with_columns(pieces=pl.lit(2**63, dtype=pl.UInt64))
        ),
        "'pieces' is no int64",
    ),
    "null key": (
        lambda c: c.online("composed", FRAME.with_columns(shop=pl.lit(None))),
        "'shop' has a null in row 0",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", WRONG)
def test_what_is_wrong_is_the_same_error_from_both(client: Client, case: str) -> None:
    ask, words = WRONG[case]
    with pytest.raises(InputError, match=words):
        ask(client)


def test_a_service_that_takes_something_else_now_is_learnt_anew(served: ServedProject) -> None:
    with open_services(served.home) as services, serving(served) as http:
        catalogue = Catalogue.load(services.metadata)

        def declare(dtype: ps.DType, field: str) -> None:
            view = ps.OnDemandView(
                "sizes", request={field: dtype}, features={"big": ps.col(field) > 1}
            )
            service = ps.FeatureService("sizes", features=[view])
            project = ps.Project("p", declarations=[*catalogue.all(ps.Deployment), service])
            apply(services.metadata, project, actor="t", now=AT)
            until(lambda: http.get("/v1/features/sizes").json().get("request") == {field: dtype})

        with ps.connect(str(http.base_url), token=served.token) as client:
            declare(ps.Float64, "amount")
            assert client.online("sizes", {"amount": 2}) == {"sizes.big": 1.0}
            declare(ps.Int64, "pieces")
            assert client.online("sizes", {"pieces": 1}) == {"sizes.big": 0.0}
            found = client.online("sizes", pl.DataFrame({"pieces": [5]}))
            assert found["sizes.big"].to_list() == [1.0]


def until(holds: Callable[[], bool]) -> None:
    """Wait, for ten seconds at most."""
    for _ in range(500):
        if holds():
            return
        time.sleep(0.02)
    raise AssertionError("it never came true")


def test_pandas_rows_with_nulls_of_its_own_are_taken(client: Client) -> None:
    pd = pytest.importorskip("pandas", reason="pandas is not installed")
    frame = pd.DataFrame(
        {
            "symbol": ["BTC", "ETH"], "shop": [1, 2], "amount": [80.0, float("nan")],
            "pieces": pd.array([2, None], dtype="Int64"), "card": pd.array(["debit", None]),
            "member": pd.array([True, None], dtype="boolean"),
        }
    )  # fmt: skip
    found = client.online("composed", frame, at=AT)
    rows = [ROW, {"symbol": "ETH", "shop": 2} | dict.fromkeys(list(ROW)[2:])]
    wanted = client.online("composed", rows, at=AT)
    for name in wanted[0]:
        given = [None if value != value else value for value in found[name].tolist()]  # noqa: PLR0124 - NaN is null
        assert given == [row[name] for row in wanted]


def test_each_answer_says_of_when_it_is_where_that_is_wanted(client: Client) -> None:
    before = datetime.now(UTC)
    now = client.online("composed", ROW, as_of=True)["as_of"]
    assert before <= now <= datetime.now(UTC)
    one = client.online("composed", ROW, at=AT, as_of=True)
    assert one.pop("as_of") == AT
    assert one == client.online("composed", ROW, at=AT)
    assert client.online("composed", [ROW], at=AT, as_of=True) == [one | {"as_of": AT}]
    found = client.online("composed", FRAME, at=AT, as_of=True)
    assert found["as_of"].to_list() == [AT] * 3
    assert_frame_equal(found.drop("as_of"), client.online("composed", FRAME, at=AT))
    pd = pytest.importorskip("pandas", reason="pandas is not installed")
    frame = pd.DataFrame(FRAME.head(1).to_dict(as_series=False))
    assert client.online("composed", frame, at=AT, as_of=True)["as_of"].tolist() == [AT]
    with pytest.raises(InputError, match="the column 'as_of' already"):
        client.online("composed", found.select(*FRAME.columns, "as_of"), at=AT, as_of=True)
