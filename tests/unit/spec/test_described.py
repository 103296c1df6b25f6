from __future__ import annotations

from datetime import date
from typing import TYPE_CHECKING

import pytest

import penstock as ps
from penstock.errors import DeclarationError
from penstock.features import space_of
from penstock.spec import day_of, fingerprint, from_document, key_of, to_document

if TYPE_CHECKING:
    from collections.abc import Callable

CANDLES = ps.Source(
    "candles",
    entity=ps.Entity("symbol"),
    timestamp="ts",
    known_after="1h",
    schema={"symbol": ps.String, "ts": ps.Timestamp, "open": ps.Float64, "close": ps.Float64},
)


def bare() -> ps.FeatureView:
    """A view as it was written before features could be described."""
    return ps.FeatureView(
        "momentum",
        source=CANDLES,
        owner="ann",
        derive={"ret": ps.col("close") / ps.col("open") - 1},
        features=[
            ps.last("close"),
            ps.mean("ret", over="6h", where=ps.col("ret") > 0),
            ps.last_k("ret", 3),
            ps.approx_quantile("ret", 0.9, over="1d"),
        ],
        ttl="7d",
    )


def described() -> ps.FeatureView:
    """The same, with everything a reader can be told."""
    return ps.FeatureView(
        "momentum",
        source=CANDLES,
        owner="bob",
        description="How prices move.",
        tags=["market"],
        freshness="2h",
        deprecated="2030-01-31",
        instead="trend",
        derive={"ret": ps.col("close") / ps.col("open") - 1},
        features=[
            ps.last("close", description="Last price.", unit="USD", owner="cleo"),
            ps.mean("ret", over="6h", where=ps.col("ret") > 0, tags=["return", "short"]),
            ps.last_k("ret", 3, deprecated="2027-01-01", instead="p90_ret_1d"),
            ps.approx_quantile("ret", 0.9, over="1d"),
        ],
        ttl="7d",
    )


def dataset(view: ps.FeatureView) -> ps.Dataset:
    return ps.Dataset(
        "direction",
        spine=CANDLES,
        features=[view],
        label=ps.Label("up", ps.lead("close", "1h") > ps.col("close")),
        split=ps.TimeSplit(embargo="1h"),
    )


def test_online_spaces_and_fingerprints_are_those_from_before_features_were_described() -> None:
    assert space_of(bare()) == "momentum@1a4c03fb24e603ba"
    assert fingerprint(bare()) == "5be4d63215770a9bfe768afea0d2008f0f619149d26d6463f1a2ea98b9082c38"
    assert (
        fingerprint(dataset(bare()))
        == "1775caa3df9bb003d15cdedb80ee5d32cc9e7d68eedfb064b160c037d24c611b"
    )


def test_a_document_has_no_field_for_what_is_not_said() -> None:
    document = to_document(bare())
    features = document["features"]
    assert isinstance(features, list)
    assert set(document) == {
        "type", "name", "description", "owner", "source", "derive", "features", "ttl",
    }  # fmt: skip
    assert set(features[0]) == {
        "op", "column", "over", "hop", "where", "name", "k", "q", "half_life",
    }  # fmt: skip


def test_what_is_only_said_changes_neither_fingerprint_nor_space() -> None:
    assert to_document(described()) != to_document(bare())
    assert fingerprint(described()) == fingerprint(bare())
    assert fingerprint(dataset(described())) == fingerprint(dataset(bare()))
    assert space_of(described()) == space_of(bare())


def test_what_is_said_survives_storage() -> None:
    known = {key_of(CANDLES): CANDLES}
    again = from_document(ps.FeatureView, to_document(described()), known)
    assert again == described()
    assert again.features[0].unit == "USD"
    assert again.features[1].tags == ("return", "short")


def test_the_day_of_a_deprecation() -> None:
    assert day_of("2027-01-31") == date(2027, 1, 31)
    assert day_of("") is None


def view(**changes: object) -> ps.FeatureView:
    fields: dict[str, object] = {"source": CANDLES, "features": (ps.count(name="n"),)}
    return ps.FeatureView("view", **(fields | changes))  # type: ignore[arg-type]  # built by name


def old(instead: str) -> ps.FeatureView:
    return view(features=(ps.count(name="n", deprecated="2027-01-01", instead=instead),))


FAULTY: dict[str, tuple[Callable[[], object], str]] = {
    "no such day": (lambda: ps.count(deprecated="2027-02-30"), "is no day"),
    "a week": (lambda: ps.count(deprecated="2027-W01-1"), "write it like '2027-01-31'"),
    "view in words": (lambda: view(deprecated="soon"), "'soon' is no day"),
    "instead of what stays": (lambda: ps.count(instead="m"), "given without deprecated"),
    "tags as a text": (lambda: ps.count(tags="pii"), "tags=['pii']"),
    "tags of a view": (lambda: view(tags="pii"), "is one text"),
    "an empty tag": (lambda: ps.count(tags=["pii", " "]), "empty or no text"),
    "a number as tag": (lambda: view(tags=[1]), "empty or no text"),
    "itself instead": (lambda: old("n"), "names itself"),
    "not in this view": (
        lambda: view(
            features=[ps.last("close", deprecated="2027-01-01", instead="cunt"), ps.count()]
        ),
        "Did you mean 'count'",
    ),
    "no such view": (
        lambda: ps.Project(
            "p",
            declarations=[view(deprecated="2027-01-01", instead="trent"), trend()],
        ),
        "Did you mean 'trend'",
    ),
    "the same view": (
        lambda: ps.Project("p", declarations=[view(deprecated="2027-01-01", instead="view")]),
        "no instead='view'",
    ),
    "no such feature": (
        lambda: ps.Project("p", declarations=[old("trend.last_clse"), trend()]),
        "Did you mean 'trend.last_close'",
    ),
}


def trend() -> ps.FeatureView:
    return ps.FeatureView(
        "trend", source=CANDLES, features=[ps.last("close"), ps.last_k("open", 2)]
    )


@pytest.mark.parametrize("case", FAULTY)
def test_a_fault_is_named_with_what_to_do(case: str) -> None:
    build, words = FAULTY[case]
    with pytest.raises(DeclarationError) as caught:
        build()
    assert words in str(caught.value)


@pytest.mark.parametrize(
    "instead", ["trend.last_close", "trend.last_2_open_1", "trend.last_2_open"]
)
def test_a_feature_of_another_view_may_be_named_instead(instead: str) -> None:
    project = ps.Project("p", declarations=[old(instead), trend()])
    assert len(project.everything) == 4


def test_a_view_may_be_named_instead_of_another() -> None:
    replaced = view(deprecated="2027-01-01", instead="trend")
    assert ps.Project("p", declarations=[replaced, trend()]).everything[2] == replaced
