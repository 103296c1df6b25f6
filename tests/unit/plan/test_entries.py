"""The entries of the catalogue, who reads them, and the search over them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

import penstock as ps
from penstock.plan import (
    Catalogue,
    FeatureEntry,
    Lock,
    ServiceEntry,
    feature_entries,
    locks_of,
    readers_of,
    search,
    service_entries,
)
from penstock.spec import Trainer, declarations_in, fingerprint, key_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from penstock.spec import Declaration

CANDLES = ps.Source(
    "candles",
    entity=ps.Entity("symbol"),
    timestamp="ts",
    schema={"symbol": ps.String, "ts": ps.Timestamp, "open": ps.Float64, "close": ps.Float64},
)
MOMENTUM = ps.FeatureView(
    "momentum",
    source=CANDLES,
    owner="ann",
    tags=["market"],
    description="How prices move.",
    derive={"ret": ps.col("close") / ps.col("open") - 1, "twice": ps.col("ret") * 2},
    features=[
        ps.last("close", unit="USD", description="Last closing price."),
        ps.std("twice", over="1d", name="vol", tags=["risk"], owner="bob"),
        ps.last_k("open", 2),
        ps.count(deprecated="2030-01-01", instead="vol"),
    ],
)
EDGE = ps.OnDemandView(
    "edge",
    views=[MOMENTUM],
    request={"bid": ps.Float64},
    tags=["quoting"],
    owner="eve",
    features={
        "gap": ps.col("bid") / ps.col("momentum.last_close") - 1,
        "spread": ps.feature(
            ps.col("bid") - ps.col("momentum.last_close"),
            description="Between the offer and the last price.",
            unit="EUR",
            tags=["pii"],
            owner="dan",
            deprecated="2029-01-01",
            instead="gap",
        ),
    },
)
QUOTES = ps.FeatureService("quotes", features=[EDGE, MOMENTUM["last_2_open_1"]], owner="carl")
HOURLY = ps.Dataset(
    "hourly",
    spine=CANDLES,
    features=[MOMENTUM["vol"]],
    label=ps.Label("up", ps.lead("close", "1h") > ps.col("close")),
    split=ps.TimeSplit(embargo="1h"),
)
TRAINER = Trainer(kind="sklearn", estimator="sklearn.linear_model:LogisticRegression")
MODEL = ps.Model("up", dataset=HOURLY, candidates=[TRAINER])
ENDPOINT = ps.Deployment("btc", model=MODEL)
WATCH = ps.Monitor(ENDPOINT, drift=ps.psi())


def catalogue_of(*declared: Declaration) -> Catalogue:
    every = declarations_in(declared)
    return Catalogue(
        {key_of(value): value for value in every},
        {key_of(value): fingerprint(value) for value in every},
    )


def entries_of(*declared: Declaration) -> dict[str, FeatureEntry]:
    catalogue = catalogue_of(*declared)
    readers = readers_of(catalogue.declarations.values(), {})
    return {entry.name: entry for entry in feature_entries(catalogue, readers)}


def test_an_entry_says_what_the_declarations_say() -> None:
    entries = entries_of(WATCH, QUOTES)
    assert list(entries) == [
        "momentum.last_close", "momentum.vol", "momentum.last_2_open", "momentum.count", "edge.gap",
        "edge.spread",
    ]  # fmt: skip
    vol = entries["momentum.vol"]
    assert vol.meaning == "standard deviation of twice over 1d"
    assert vol.derived == {"ret": "(close / open) - 1", "twice": "ret * 2"}
    assert (vol.owner, vol.tags, vol.dtype) == ("bob", ("risk", "market"), "float64")
    last = entries["momentum.last_close"]
    assert (last.owner, last.unit, last.derived) == ("ann", "USD", {})
    assert entries["momentum.last_2_open"].columns == (
        "momentum.last_2_open_1",
        "momentum.last_2_open_2",
    )
    count = entries["momentum.count"]
    assert (count.dtype, count.deprecated, count.instead) == ("int64", "2030-01-01", "momentum.vol")
    gap = entries["edge.gap"]
    assert (gap.kind, gap.meaning) == ("on_demand_view", "(bid / momentum.last_close) - 1")
    assert (gap.owner, gap.tags, gap.unit, gap.deprecated) == ("eve", ("quoting",), "", "")


def test_an_entry_on_demand_says_what_is_said_of_it() -> None:
    spread = entries_of(QUOTES)["edge.spread"]
    assert spread.meaning == "bid - momentum.last_close"
    assert spread.description == "Between the offer and the last price."
    assert (spread.unit, spread.owner, spread.tags) == ("EUR", "dan", ("pii", "quoting"))
    assert (spread.deprecated, spread.instead) == ("2029-01-01", "edge.gap")
    locks = locks_of([EDGE], [ps.Protection("personal", tagged=["pii"])])
    assert set(locks["edge.spread"]) == {Lock("tag", "pii", "edge.spread", ("edge",))}
    assert locks["edge.gap"] == frozenset()


def test_a_deprecated_view_deprecates_its_features() -> None:
    view = msgspec.structs.replace(MOMENTUM, deprecated="2028-01-01")
    assert {entry.deprecated for entry in entries_of(view).values()} == {"2028-01-01"}


def test_readers_are_found_through_whatever_they_stand_on() -> None:
    used = {name: set(entry.used_by) for name, entry in entries_of(WATCH, QUOTES).items()}
    assert used == {
        "momentum.vol": {"dataset/hourly", "model/up", "deployment/btc", "monitor/btc"},
        "momentum.last_close": {"on_demand_view/edge", "feature_service/quotes"},
        "momentum.last_2_open": {"feature_service/quotes"},
        "momentum.count": set(),
        "edge.gap": {"feature_service/quotes"},
        "edge.spread": {"feature_service/quotes"},
    }


def test_a_selection_is_all_that_is_read() -> None:
    every = msgspec.structs.replace(HOURLY, features=[MOMENTUM], select="0123456789abcdef")
    catalogue = catalogue_of(every)
    kept = {"0123456789abcdef": ("momentum.vol",)}
    readers = readers_of(catalogue.declarations.values(), kept)
    assert readers == {"dataset/hourly": {"momentum.vol"}}


def test_a_service_is_used_by_those_who_learn_from_it() -> None:
    dataset = msgspec.structs.replace(
        HOURLY, features=ps.FeatureService("risk", features=[MOMENTUM["vol"]])
    )
    model = msgspec.structs.replace(MODEL, dataset=dataset)
    found = service_entries(catalogue_of(model, QUOTES), {"model_version/up@1": "risk"})
    by_name = {one.name: one for one in found}
    assert by_name["risk"].used_by == ("dataset/hourly", "model/up", "model_version/up@1")
    assert by_name["quotes"].used_by == ()
    assert by_name["quotes"].features == ("edge.gap", "edge.spread", "momentum.last_2_open_1")
    assert by_name["risk"].service_id == dataset.features.service_id  # type: ignore[union-attr]


def names_found(question: str) -> list[str]:
    catalogue = catalogue_of(WATCH, QUOTES)
    entries: list[FeatureEntry | ServiceEntry] = [
        *feature_entries(catalogue, {}),
        *service_entries(catalogue, {}),
    ]
    return [one.entry.name for one in search(entries, question)]


@pytest.mark.parametrize(
    ("question", "first"),
    [
        ("last close", "momentum.last_close"),
        ("CLOSING Price", "momentum.last_close"),
        ("usd", "momentum.last_close"),
        ("clsoe", "momentum.last_close"),
        ("standard deviation", "momentum.vol"),
        ("bob", "momentum.vol"),
        ("risks", "momentum.vol"),
        ("bid", "edge.gap"),
        ("eur", "edge.spread"),
        ("offers", "edge.spread"),
        ("dan", "edge.spread"),
        ("qoutes", "quotes"),
        ("carl", "quotes"),
    ],
)
def test_search_finds_what_is_meant(question: str, first: str) -> None:
    assert names_found(question)[0] == first


def test_search_wants_all_words_or_as_many_as_there_are() -> None:
    assert names_found("risk market") == ["momentum.vol"]
    assert names_found("risk zebra") == ["momentum.vol"]
    assert names_found("zebra") == []
    assert names_found("volatility of returns") == ["momentum.vol"]
    assert names_found("number of the zebra") == ["momentum.count"]
    assert "momentum.count" in names_found("of")
    assert names_found("?!") == []
    catalogue = catalogue_of(WATCH)
    (found,) = search(feature_entries(catalogue, {}), "deviation bob risk")
    assert found.places == {"deviation": "expression", "bob": "owner", "risk": "tags"}


@given(st.text(max_size=12), st.lists(st.sampled_from(["vol", "close", "ret", "zz"]), max_size=4))
def test_search_depends_on_the_words_alone(text: str, words: Sequence[str]) -> None:
    assert names_found(" ".join(words)) == names_found("  ".join(reversed(words)).upper())
    names = names_found(text)
    assert len(names) == len(set(names))


def test_a_column_that_is_looked_up_says_where_it_comes_from() -> None:
    funds = ps.Source(
        "funds",
        entity=ps.Entity("fund"),
        timestamp="since",
        schema={"fund": ps.String, "since": ps.Timestamp, "owner": ps.String},
        tags=["pii"],
    )
    sectors = ps.Source(
        "sectors",
        entity=ps.Entity("symbol"),
        timestamp="since",
        schema={"symbol": ps.String, "since": ps.Timestamp, "beta": ps.Float64, "fund": ps.String},
        tags=["licensed"],
        lookups=[ps.Lookup(funds, on="fund", columns={"owner": "owner"})],
    )
    limits = ps.Source(
        "limits",
        entity=ps.Entity("owner"),
        timestamp="since",
        schema={"owner": ps.String, "since": ps.Timestamp, "limit": ps.Float64},
    )
    columns = {"beta": "beta", "owner": "owner"}
    trades = ps.Source(
        "trades",
        entity=ps.Entity("user"),
        timestamp="ts",
        schema={"user": ps.String, "ts": ps.Timestamp, "symbol": ps.String, "size": ps.Float64},
        tags=["market"],
        lookups=[
            ps.Lookup(sectors, on="symbol", columns=columns, within="7d"),
            ps.Lookup(limits, on="owner", columns={"limit": "limit"}),
        ],
    )
    view = ps.FeatureView(
        "risk",
        source=trades,
        derive={"exposure": ps.col("size") * ps.col("beta")},
        features=[
            ps.last("size", name="plain"),
            ps.sum("exposure", name="derived", tags=["own"]),
            ps.count(name="filtered", where=ps.col("beta") > 1),
            ps.count("owner", name="through"),
            ps.last("limit", name="found_by"),
        ],
    )
    found = {one.name: one for one in feature_entries(catalogue_of(view), {})}

    assert found["risk.plain"].derived == {}
    assert found["risk.plain"].tags == ("market",)
    assert found["risk.derived"].derived == {
        "exposure": "size * beta",
        "beta": "beta of sectors by symbol, within 7d",
    }
    assert found["risk.derived"].tags == ("own", "market", "licensed")
    assert found["risk.filtered"].tags == ("market", "licensed")
    assert found["risk.through"].tags == ("market", "licensed", "pii")
    assert found["risk.found_by"].tags == ("market", "licensed", "pii")
    assert set(locks_of([view], [ps.Protection("personal", tagged=["pii"])])["risk.through"]) == {
        Lock("tag", "pii", "risk.through", ("risk",))
    }
