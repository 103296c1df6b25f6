from __future__ import annotations

import json
from typing import TYPE_CHECKING

import msgspec
import pytest

import penstock as ps
from penstock.errors import DeclarationError
from penstock.spec import (
    Described,
    base_views,
    declarations_in,
    entities_of,
    fingerprint,
    from_document,
    key_of,
    request_fields,
    to_document,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from penstock.spec import Declared

USER = ps.Entity("user")
SHOP = ps.Entity("shop", dtype=ps.Int64)
ORDERS = ps.Source(
    "orders",
    entity=USER,
    timestamp="ts",
    schema={
        "user": ps.String, "shop": ps.Int64, "ts": ps.Timestamp, "amount": ps.Float64,
        "card": ps.String,
    },
)  # fmt: skip
SALES = ps.Source(
    "sales",
    entity=SHOP,
    timestamp="ts",
    schema={"shop": ps.Int64, "ts": ps.Timestamp, "amount": ps.Float64},
)
HABITS = ps.FeatureView("habits", source=ORDERS, features=[ps.mean("amount"), ps.count()])
TRADE = ps.FeatureView("trade", source=SALES, features=[ps.mean("amount", over="1d")])
RATIOS = ps.OnDemandView(
    "ratios",
    views=[HABITS, TRADE],
    request={"amount": ps.Float64, "card": ps.String},
    features={
        "usual": ps.col("amount") / ps.col("habits.mean_amount"),
        "high": ps.col("usual") > 2,
        "debit": ps.col("card").eq("debit"),
        "local": ps.col("amount") / ps.col("trade.mean_amount_1d"),
    },
)
TWICE = ps.OnDemandView("twice", views=[RATIOS], features={"usual": ps.col("ratios.usual") * 2})


def dataset(*features: ps.FeatureView | ps.OnDemandView, spine: ps.Source = ORDERS) -> ps.Dataset:
    return ps.Dataset("d", spine=spine, features=features)


def test_what_it_needs_is_found_below_it() -> None:
    assert base_views([TWICE, HABITS]) == (HABITS, TRADE)
    assert entities_of([TWICE]) == (USER, SHOP)
    assert request_fields([TWICE]) == {"amount": ps.Float64, "card": ps.String}
    assert RATIOS.names == ("ratios.usual", "ratios.high", "ratios.debit", "ratios.local")
    assert set(RATIOS.dtypes.values()) == {ps.Float64}


def test_a_dataset_is_joined_by_columns_of_its_spine() -> None:
    whole = dataset(HABITS, TWICE)
    assert whole.feature_names == ("habits.mean_amount", "habits.count", "twice.usual")
    assert whole.entity_dtypes == {"user": ps.String, "shop": ps.Int64}
    assert whole.joined_by == ("user", "shop", "amount", "card")
    assert whole.base_views == (HABITS, TRADE)
    # Of the spine's entity there may be nothing: then another's key comes first.
    assert list(dataset(TRADE).entity_dtypes) == ["shop"]
    alone = ps.OnDemandView("alone", request={"amount": ps.Float64}, features={
        "big": ps.col("amount") > 9})  # fmt: skip
    assert list(dataset(alone).entity_dtypes) == ["user"]


def test_it_comes_back_from_its_document() -> None:
    known: dict[str, Declared] = {}
    for value in declarations_in([dataset(TWICE)]):
        document = json.loads(json.dumps(to_document(value)))
        known[key_of(value)] = from_document(type(value), document, known)
    assert known["dataset/d"] == dataset(TWICE)
    assert list(known) == [
        "entity/user", "source/orders", "feature_view/habits", "entity/shop", "source/sales",
        "feature_view/trade", "on_demand_view/ratios", "on_demand_view/twice", "dataset/d",
    ]  # fmt: skip


def test_a_change_below_it_is_a_change_of_it() -> None:
    other = ps.FeatureView("habits", source=ORDERS, features=[ps.mean("amount"), ps.max("amount")])
    changed = ps.OnDemandView(
        "ratios", views=[other, TRADE], request=RATIOS.request, features=RATIOS.features
    )
    assert fingerprint(changed) != fingerprint(RATIOS)


def test_what_is_not_said_leaves_the_fingerprints_of_before_features_were_described() -> None:
    assert fingerprint(RATIOS) == "a45c18b2ca75f9881be5ce31f4d7e3ffbcb7b13efb3490559f58d54d635d621d"
    assert (
        fingerprint(dataset(TWICE))
        == "49d735ba4cbf52e0cb5155170958b660c8da1ca052b0d6f229c56ff88b1efc13"
    )
    document = to_document(RATIOS)
    assert set(document) == {
        "type", "name", "description", "owner", "views", "request", "features",
    }  # fmt: skip
    features = document["features"]
    assert isinstance(features, dict)
    assert set(features["usual"]) == {"type", "op", "args"}


def described() -> ps.OnDemandView:
    """``RATIOS`` with everything a reader can be told."""
    features = dict(RATIOS.expressions)
    return ps.OnDemandView(
        "ratios",
        views=RATIOS.views,
        request=RATIOS.request,
        owner="ann",
        description="How unusual an order is.",
        tags=["orders"],
        deprecated="2030-01-31",
        instead="shares",
        features={
            **features,
            "usual": ps.feature(
                features["usual"], description="Times the usual.", unit="times", owner="bob"
            ),
            "debit": ps.feature(features["debit"], tags=["pii", "card"]),
            "local": ps.feature(features["local"], deprecated="2027-01-01", instead="usual"),
        },
    )


def test_what_is_only_said_changes_no_fingerprint() -> None:
    again = msgspec.structs.replace(TWICE, views=[described()])
    assert to_document(described()) != to_document(RATIOS)
    assert fingerprint(described()) == fingerprint(RATIOS)
    assert fingerprint(dataset(again)) == fingerprint(dataset(TWICE))
    assert described().expressions == RATIOS.expressions
    assert described().described["usual"].unit == "times"
    assert described().described["high"] == RATIOS.described["usual"] == Described()


def test_what_is_said_survives_storage() -> None:
    known: dict[str, Declared] = {}
    for value in declarations_in([described()]):
        document = json.loads(json.dumps(to_document(value)))
        known[key_of(value)] = from_document(type(value), document, known)
    assert known["on_demand_view/ratios"] == described()


def test_a_feature_of_which_nothing_is_said_is_stored_as_its_expression() -> None:
    bare = {name: ps.feature(each) for name, each in RATIOS.expressions.items()}
    assert to_document(msgspec.structs.replace(RATIOS, features=bare)) == to_document(RATIOS)


def old(instead: str) -> ps.OnDemandView:
    told = ps.feature(ps.col("habits.count") + 1, deprecated="2027-01-01", instead=instead)
    return on_demand(features={"f": told, "other": ps.col("f") * 2})


@pytest.mark.parametrize("instead", ["other", "ratios.usual", "habits.count"])
def test_a_feature_of_any_view_may_be_named_instead(instead: str) -> None:
    project = ps.Project("p", declarations=[old(instead), RATIOS])
    assert old(instead) in project.everything


def on_demand(**fields: object) -> ps.OnDemandView:
    given: dict[str, object] = {"views": [HABITS], "features": {"f": ps.col("habits.count") + 1}}
    return ps.OnDemandView("o", **(given | fields))  # type: ignore[arg-type]  # wrong on purpose


FAULTY: dict[str, tuple[Callable[[], object], str]] = {
    "no features": (lambda: on_demand(features={}), "it has no features"),
    "nothing to read": (lambda: on_demand(views=[]), "it reads nothing"),
    "an unknown feature": (
        lambda: on_demand(features={"f": ps.col("habits.cuont") + 1}),
        "reads 'habits.cuont'. Did you mean 'habits.count'?",
    ),
    "a later feature": (
        lambda: on_demand(features={"f": ps.col("g"), "g": ps.col("habits.count")}),
        "feature 'f' reads 'g'",
    ),
    "looks ahead": (
        lambda: on_demand(features={"f": ps.lead("habits.count", "1h") + ps.col("habits.count")}),
        "looks ahead",
    ),
    "a constant": (lambda: on_demand(features={"f": ps.lit(3)}), "it would never change"),
    "a dotted name": (lambda: on_demand(features={"a.b": ps.col("habits.count")}), "has no '.'"),
    "a field's name": (
        lambda: on_demand(request={"f": ps.Float64}, features={"f": ps.col("f")}),
        "is no request field's",
    ),
    "a time as a field": (lambda: on_demand(request={"t": ps.Timestamp}), "give it ps.Float64"),
    "a dotted field": (lambda: on_demand(request={"a.b": ps.Float64}), "'a.b': a name has no '.'"),
    "the time's name": (lambda: on_demand(request={"at": ps.Float64}), "'at' is the time asked"),
    "a key as a field": (lambda: on_demand(request={"user": ps.String}), "key of an entity"),
    "one view twice": (lambda: on_demand(views=[HABITS, HABITS]), "'habits' is declared 2 times"),
    "two unlike views": (
        lambda: dataset(
            TWICE, ps.FeatureView("habits", source=ORDERS, features=[ps.max("amount")])
        ),
        "two unlike views 'habits'",
    ),
    "two types of a field": (
        lambda: dataset(RATIOS, on_demand(request={"amount": ps.Int64})),
        "'amount' is float64 in one view, int64 in another",
    ),
    "no such column": (
        lambda: dataset(RATIOS, spine=SALES),
        "need the entity key 'user', which is no column of the spine 'sales'",
    ),
    "a column of another type": (
        lambda: dataset(on_demand(request={"shop": ps.Float64})),
        "the request field 'shop' is float64, but the spine's column is int64",
    ),
    "no such day": (lambda: on_demand(deprecated="soon"), "'soon' is no day"),
    "tags as a text": (lambda: ps.feature(ps.col("x"), tags="pii"), "tags=['pii']"),
    "a text described": (
        lambda: ps.feature("x"),  # type: ignore[arg-type]  # wrong on purpose
        "its expression is 'x', no expression",
    ),
    "a comparison described": (
        lambda: ps.feature(ps.col("x") == ps.col("y")),  # type: ignore[arg-type]  # wrong on purpose
        "compared by .eq()",
    ),
    "itself instead": (lambda: old("f"), "names itself"),
    "not in this view": (lambda: old("othr"), "Did you mean 'other'"),
    "no such feature": (
        lambda: ps.Project("p", declarations=[old("ratios.usul"), RATIOS]),
        "feature 'o.f': no instead='ratios.usul'. Did you mean 'ratios.usual'",
    ),
    "no such view": (
        lambda: ps.Project("p", declarations=[
            on_demand(deprecated="2027-01-01", instead="ratio"), RATIOS,
        ]),
        "on_demand_view 'o': no instead='ratio'. Did you mean 'ratios'",
    ),
    "a name of two kinds": (
        lambda: ps.Project("p", declarations=[
            ps.OnDemandView("habits", request={"x": ps.Float64}, features={"f": ps.col("x")}),
            HABITS,
        ]),
        "are called 'habits'",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", FAULTY)
def test_a_fault_is_named_with_what_to_do(case: str) -> None:
    build, words = FAULTY[case]
    with pytest.raises(DeclarationError) as caught:
        build()
    assert words in caught.value.message
