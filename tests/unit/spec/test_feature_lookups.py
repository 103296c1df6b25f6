"""Lookups of features as they are declared: what they refuse, what they mean, what is stored."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
import pytest
from tests.unit.spec.test_lookups import merchants, payments

import penstock as ps
from penstock.errors import DeclarationError
from penstock.spec import declarations_in, fingerprint, from_document, key_of, to_document

if TYPE_CHECKING:
    from penstock.spec import FeatureView, Source


def halved(risk: float) -> float:
    return risk / 2


def rated(source: Source | None = None, **changes: object) -> FeatureView:
    fields: dict[str, object] = {
        "source": source or merchants(),
        "features": [
            ps.mean("risk", over="7d"),
            ps.count(over="1d", name="changes", deprecated="2030-01-01", instead="last_risk"),
            ps.last("risk"),
            ps.last_k("risk", 2),
        ],
    }
    return ps.FeatureView("rated", **(fields | changes))  # type: ignore[arg-type]  # built by name


def usual(view: FeatureView | None = None, **columns: str) -> ps.Lookup:
    return ps.Lookup(view or rated(), on="merchant", columns=columns or {"usual": "mean_risk_7d"})


def test_a_source_has_the_features_that_are_looked_up() -> None:
    source = payments(usual(usual="mean_risk_7d", changes="changes", before="last_2_risk_2"))

    assert source.columns == {
        **source.schema,
        "usual": ps.Float64,
        "changes": ps.Int64,
        "before": ps.Float64,
    }
    assert [one.name for one in source.looks_into] == ["merchants"]
    assert [one.name for one in source.looks_through] == ["rated"]


def test_views_that_are_looked_through_come_after_those_they_need() -> None:
    shops = ps.Source(
        "shops",
        entity=ps.Entity("shop"),
        timestamp="since",
        schema={"shop": ps.String, "since": ps.Timestamp, "of": ps.String},
        lookups=[ps.Lookup(rated(), on="of", columns={"usual": "mean_risk_7d"})],
    )
    chained = ps.FeatureView("chained", source=shops, features=[ps.max("usual")])
    source = payments(ps.Lookup(chained, on="merchant", columns={"worst": "max_usual"}))

    assert [one.name for one in source.looks_into] == ["merchants", "shops"]
    assert [one.name for one in source.looks_through] == ["rated", "chained"]
    assert [key_of(one) for one in declarations_in([source])] == [
        "entity/user",
        "entity/shop",
        "entity/merchant",
        "source/merchants",
        "feature_view/rated",
        "source/shops",
        "feature_view/chained",
        "source/payments",
    ]


def test_a_source_comes_back_from_its_document() -> None:
    source = payments(usual())
    document = msgspec.json.decode(msgspec.json.encode(to_document(source)))
    known = {key_of(value): value for value in declarations_in([source])}

    back = from_document(ps.Source, document, known)

    assert back == source
    assert fingerprint(back) == fingerprint(source)
    assert document["lookups"][0]["source"] == {"ref": "feature_view/rated"}
    other = rated(features=[ps.mean("risk", over="7d", where=ps.col("risk") > 0,
                                    name="mean_risk_7d")])  # fmt: skip
    assert fingerprint(payments(usual(other))) != fingerprint(source)


def test_other_features_of_the_view_change_nothing() -> None:
    source = payments(usual())
    more = rated(features=[*rated().features, ps.max("risk")], derive={"x": ps.col("risk") * 2})
    two = (usual(), ps.Lookup(rated(), on="user", columns={"mine": "last_risk"}))

    assert fingerprint(payments(usual(more))) == fingerprint(source)
    assert fingerprint(payments(*two)) != fingerprint(source)
    assert fingerprint(payments(usual(more), two[1])) == fingerprint(payments(*two))
    changed = ps.Lookup(rated(features=[ps.last("risk", where=ps.col("risk") > 0,
                                                name="last_risk")]),
                        on="user", columns={"mine": "last_risk"})  # fmt: skip
    assert fingerprint(payments(usual(), changed)) != fingerprint(payments(*two))


def test_a_view_can_be_had_with_few_of_its_features() -> None:
    view = rated().with_only(["changes", "last_2_risk_1"])

    assert view.names == ("rated.changes", "rated.last_2_risk_1", "rated.last_2_risk_2")


@pytest.mark.parametrize(
    ("view", "columns", "within", "fault"),
    [
        (
            rated(),
            {"usual": "mean_risk"},
            "",
            "'mean_risk' of view 'rated', which has no such feature. Did you mean 'mean_risk_7d'?",
        ),
        (rated(), {}, "", "it takes no column; name some, such as columns={'last_2_risk_2': "),
        (rated(), {"usual": "last_risk"}, "3d", "within is for columns of a source"),
        (
            rated(
                derive={"half": ps.function(halved, "risk")},
                features=[ps.last("risk"), ps.mean("half", over="1d")],
            ),
            {"usual": "mean_half_1d"},
            "",
            "'mean_half_1d' of view 'rated' is computed by a Python function",
        ),
    ],
)
def test_a_lookup_says_what_is_wrong_with_it(
    view: FeatureView, columns: dict[str, str], within: str, fault: str
) -> None:
    with pytest.raises(DeclarationError) as caught:
        ps.Lookup(view, on="merchant", columns=columns, within=within)

    assert fault in str(caught.value)


def test_other_features_of_the_view_may_be_computed_by_a_function() -> None:
    view = rated(
        derive={"half": ps.function(halved, "risk")},
        features=[ps.last("risk"), ps.mean("half", over="1d")],
    )

    assert payments(usual(view, usual="last_risk")).columns["usual"] == ps.Float64


def test_what_is_no_feature_view_is_refused() -> None:
    edge = ps.OnDemandView("edge", views=[rated()], features={"a": ps.col("rated.last_risk") * 2})

    with pytest.raises(DeclarationError, match=r"give a value of type Source or FeatureView"):
        ps.Lookup(edge, on="merchant", columns={"a": "a"})  # type: ignore[arg-type]  # as a user may


@pytest.mark.parametrize(
    ("lookup", "fault"),
    [
        (
            ps.Lookup(rated(payments(), features=[ps.max("amount")]), on="user",
                      columns={"most": "max_amount"}),
            "looks into itself through the view 'rated'; a record cannot be completed so",
        ),
        (
            usual(rated(merchants(lookups=[ps.Lookup(payments(), on="merchant",
                                                     columns={"last": "amount"})]))),
            "looks into itself through the view 'rated' and 'merchants'",
        ),
        (
            ps.Lookup(rated(), on="amount", columns={"usual": "last_risk"}),
            "the lookup on 'amount' goes by float64, but the key of 'merchants' is string",
        ),
    ],
)  # fmt: skip
def test_a_source_says_what_is_wrong_with_its_lookups(lookup: ps.Lookup, fault: str) -> None:
    with pytest.raises(DeclarationError) as caught:
        payments(lookup)

    assert fault in str(caught.value)


def test_columns_and_features_may_be_looked_up_by_one_column() -> None:
    columns = ps.Lookup(merchants(), on="merchant", columns={"risk": "risk"})

    assert set(payments(columns, usual()).captured) == {"risk", "usual"}
    with pytest.raises(DeclarationError, match="two lookups on 'merchant' look into 'rated'"):
        payments(usual(), usual(last="last_risk"))
