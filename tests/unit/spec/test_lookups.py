"""Lookups as they are declared: what they refuse, what they mean, what is stored of them."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

import msgspec
import polars as pl
import pytest

import penstock as ps
from penstock.algebra import check_label
from penstock.datasets.labels import label_values
from penstock.errors import DeclarationError
from penstock.spec import (
    declarations_in,
    fingerprint,
    from_document,
    key_of,
    to_document,
)

if TYPE_CHECKING:
    from penstock.spec import Source

DAY = datetime(2026, 1, 1, tzinfo=UTC)
MERCHANT = ps.Entity("merchant")


def merchants(name: str = "merchants", **changes: object) -> Source:
    fields: dict[str, object] = {
        "entity": MERCHANT,
        "timestamp": "since",
        "schema": {"merchant": ps.String, "since": ps.Timestamp, "risk": ps.Float64,
                   "category": ps.String},
    }  # fmt: skip
    return ps.Source(name, **(fields | changes))  # type: ignore[arg-type]  # built by name


def payments(*lookups: ps.Lookup, **changes: object) -> Source:
    fields: dict[str, object] = {
        "entity": ps.Entity("user"),
        "timestamp": "ts",
        "schema": {"user": ps.String, "ts": ps.Timestamp, "merchant": ps.String,
                   "amount": ps.Float64},
        "nullable": ["merchant"],
        "lookups": lookups,
    }  # fmt: skip
    return ps.Source("payments", **(fields | changes))  # type: ignore[arg-type]  # built by name


RISK = ps.Lookup(merchants(), on="merchant", columns={"merchant_risk": "risk"}, within="30d")


def test_a_source_has_what_arrives_and_what_is_looked_up() -> None:
    source = payments(RISK)

    assert list(source.schema) == ["user", "ts", "merchant", "amount"]
    assert source.columns == {**source.schema, "merchant_risk": ps.Float64}
    assert source.identity == tuple(source.schema)
    assert source.captured["merchant_risk"] == (RISK, "risk")
    assert RISK.within_us == 30 * 86_400_000_000


def test_what_is_looked_up_may_be_looked_up_in_turn() -> None:
    categories = ps.Source(
        "categories",
        entity=ps.Entity("category"),
        timestamp="since",
        schema={"category": ps.String, "since": ps.Timestamp, "fee": ps.Float64},
    )
    # Through the other source's own lookup, and by a column that another lookup brings.
    fee = ps.Lookup(categories, on="category", columns={"fee": "fee"})
    through = payments(
        ps.Lookup(merchants(lookups=[fee]), on="merchant", columns={"merchant_fee": "fee"})
    )
    own = payments(
        ps.Lookup(merchants(), on="merchant", columns={"category": "category"}),
        ps.Lookup(categories, on="category", columns={"fee": "fee"}),
    )

    assert through.columns["merchant_fee"] == ps.Float64
    assert [source.name for source in through.looks_into] == ["categories", "merchants"]
    assert own.columns["fee"] == ps.Float64
    assert [source.name for source in own.looks_into] == ["merchants", "categories"]


def test_a_source_that_is_looked_into_belongs_to_the_project() -> None:
    keys = [key_of(value) for value in declarations_in([payments(RISK)])]

    assert keys == ["entity/user", "entity/merchant", "source/merchants", "source/payments"]


def test_a_source_with_lookups_comes_back_from_its_document() -> None:
    source = payments(RISK)
    document = msgspec.json.decode(msgspec.json.encode(to_document(source)))
    known = {key_of(value): value for value in declarations_in([source])}

    back = from_document(ps.Source, document, known)

    assert back == source
    assert fingerprint(back) == fingerprint(source)
    assert document["lookups"] == [
        {
            "source": {"ref": "source/merchants"},
            "on": "merchant",
            "columns": {"merchant_risk": "risk"},
            "within": "30d",
        }
    ]


def test_a_source_without_lookups_is_stored_as_ever() -> None:
    assert "lookups" not in to_document(payments())
    assert fingerprint(payments()) != fingerprint(payments(RISK))


def test_a_view_takes_what_is_looked_up_like_what_arrives() -> None:
    source = payments(RISK)
    view = ps.FeatureView(
        "habits",
        source=source,
        derive={"exposure": ps.col("amount") * ps.col("merchant_risk")},
        features=[ps.mean("merchant_risk"), ps.sum("exposure", over="1d")],
    )

    assert view.names == ("habits.mean_merchant_risk", "habits.sum_exposure_1d")
    with pytest.raises(DeclarationError, match="the source has that column already"):
        ps.FeatureView(
            "habits",
            source=source,
            derive={"merchant_risk": ps.col("amount") * 2},
            features=[ps.count()],
        )


def test_a_label_is_of_the_type_that_was_looked_up() -> None:
    shops = merchants(
        schema={"merchant": ps.String, "since": ps.Timestamp, "open": ps.Boolean,
                "category": ps.String}
    )  # fmt: skip
    columns = {"open": "open", "category": "category"}
    source = payments(ps.Lookup(shops, on="merchant", columns=columns))
    view = ps.FeatureView("habits", source=source, features=[ps.count()])

    def labelled(column: str) -> ps.Dataset:
        label = ps.Label("label", ps.col(column))
        return ps.Dataset("paid", spine=source, features=[view], label=label)

    check_label(labelled("open"))
    assert labelled("open").task == "classification"
    records = pl.DataFrame(
        {"user": ["a", "b"], "ts": [DAY, DAY], "open": [True, None], "_batch": [1, 1],
         "_row": [0, 1]}
    )  # fmt: skip
    truth = label_values(records, source, ps.Label("label", ps.col("open")))
    assert truth.dtype == pl.Boolean
    assert truth.to_list() == [True, None]
    with pytest.raises(DeclarationError, match="label 'label' gives string"):
        check_label(labelled("category"))


@pytest.mark.parametrize(
    ("columns", "within", "fault"),
    [
        ({}, "", "it takes no column; name some, such as columns={'category': 'category'}"),
        ({"risk": "risc"}, "", "has no such column. Did you mean 'risk'?"),
        ({"_risk": "risk"}, "", "column '_risk': names that begin with '_' belong to the platform"),
        ({"risk": "risk"}, "soon", "within: "),
        ({"risk": "risk"}, "0s", "within is zero; leave it out for records of any age"),
    ],
)
def test_a_lookup_says_what_is_wrong_with_it(
    columns: dict[str, str], within: str, fault: str
) -> None:
    with pytest.raises(DeclarationError) as caught:
        ps.Lookup(merchants(), on="merchant", columns=columns, within=within)

    assert fault in str(caught.value)
    assert "Lookup on 'merchant'" in str(caught.value)


def test_a_lookup_wants_new_names() -> None:
    with pytest.raises(DeclarationError) as caught:
        ps.Lookup(merchants(), on="merchant", columns=["risk"])  # type: ignore[arg-type]  # as a user may

    assert "map each new column to one of 'merchants', such as columns={'category': " in str(
        caught.value
    )


def test_a_lookup_wants_a_source() -> None:
    with pytest.raises(DeclarationError, match="source is 'merchants'"):
        ps.Lookup("merchants", on="merchant", columns={"risk": "risk"})  # type: ignore[arg-type]  # as a user may


@pytest.mark.parametrize(
    ("lookups", "fault"),
    [
        (
            [ps.Lookup(merchants(), on="merchnt", columns={"risk": "risk"})],
            "the lookup on 'merchnt' names no column. Did you mean 'merchant'?",
        ),
        (
            [ps.Lookup(merchants(), on="amount", columns={"risk": "risk"})],
            "the lookup on 'amount' goes by float64, but the key of 'merchants' is string",
        ),
        (
            [ps.Lookup(merchants(), on="merchant", columns={"amount": "risk"})],
            "the lookup on 'merchant' brings 'amount', which is a column already",
        ),
        (
            [
                ps.Lookup(merchants(), on="merchant", columns={"risk": "risk"}),
                ps.Lookup(merchants(), on="user", columns={"risk": "risk"}),
            ],
            "the lookup on 'user' brings 'risk', which is a column already",
        ),
        (
            [
                ps.Lookup(merchants(), on="merchant", columns={"risk": "risk"}),
                ps.Lookup(merchants(), on="merchant", columns={"category": "category"}),
            ],
            "two lookups on 'merchant' look into 'merchants'; put their columns into one",
        ),
        (
            [ps.Lookup(payments(), on="user", columns={"before": "amount"})],
            "the lookup on 'user' looks into itself",
        ),
        (
            [
                ps.Lookup(
                    merchants(
                        lookups=[ps.Lookup(payments(), on="merchant", columns={"last": "amount"})]
                    ),
                    on="merchant",
                    columns={"last": "last"},
                )
            ],
            "the lookup on 'merchant' looks into itself through 'merchants'",
        ),
    ],
)
def test_a_source_says_what_is_wrong_with_its_lookups(lookups: list[ps.Lookup], fault: str) -> None:
    with pytest.raises(DeclarationError) as caught:
        payments(*lookups)

    assert fault in str(caught.value)


def test_rules_are_about_what_arrives() -> None:
    with pytest.raises(DeclarationError, match=r"positive\(merchant_risk\) reads"):
        payments(RISK, expect=[ps.positive("merchant_risk")])
