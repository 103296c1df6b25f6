"""Columns that are features of another view: what they mean, who reads them, what protects them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import msgspec
import pytest

import penstock as ps
from penstock.errors import DeclarationError
from penstock.plan import (
    Catalogue,
    Lock,
    apply,
    captured_features,
    feature_entries,
    locks_of,
    preview,
    readers_of,
)
from penstock.ports import Put
from penstock.spec import declarations_in, fingerprint, key_of

if TYPE_CHECKING:
    from penstock.ports import Metadata
    from penstock.spec import FeatureView, Project, Source

NOW = datetime(2026, 1, 1, tzinfo=UTC)
HOUR = timedelta(hours=1)


def sales(**changes: object) -> Source:
    fields: dict[str, object] = {
        "entity": ps.Entity("merchant"),
        "timestamp": "ts",
        "schema": {"merchant": ps.String, "ts": ps.Timestamp, "amount": ps.Float64,
                   "tax": ps.Float64},
        "tags": ["internal"],
    }  # fmt: skip
    return ps.Source("sales", **(fields | changes))  # type: ignore[arg-type]  # built by name


def takings(**changes: object) -> FeatureView:
    fields: dict[str, object] = {
        "source": sales(),
        "derive": {"net": ps.col("amount") - ps.col("tax")},
        "features": [
            ps.mean("net", over="7d", name="usual", tags=["financial"]),
            ps.max("amount", over="1d", name="most"),
        ],
        "tags": ["licensed"],
    }
    return ps.FeatureView("takings", **(fields | changes))  # type: ignore[arg-type]  # built by name


def payments(view: FeatureView | None = None, **columns: str) -> Source:
    columns = columns or {"usual": "usual"}
    return ps.Source(
        "payments",
        entity=ps.Entity("user"),
        timestamp="ts",
        schema={"user": ps.String, "ts": ps.Timestamp, "merchant": ps.String,
                "amount": ps.Float64},
        lookups=[ps.Lookup(view or takings(), on="merchant", columns=columns)],
    )  # fmt: skip


def habits(source: Source) -> FeatureView:
    return ps.FeatureView(
        "habits",
        source=source,
        derive={"share": ps.col("amount") / ps.col("usual")},
        features=[ps.mean("share", over="1d", name="share"), ps.count(name="all")],
    )


def project(source: Source) -> Project:
    return ps.Project("shop", declarations=[habits(source)])


def taken_in(metadata: Metadata, source: Source) -> None:
    """Remember what the first batch remembers."""
    metadata.write(*(Put(one, expected=None) for one in captured_features(source)))


def test_a_feature_with_values_keeps_its_meaning(metadata: Metadata) -> None:
    apply(metadata, project(payments()), actor="ann", now=NOW)
    changed = payments(takings(features=[ps.mean("net", over="14d", name="usual")]))
    assert preview(metadata, project(changed), now=NOW + HOUR).steps
    taken_in(metadata, payments())

    with pytest.raises(DeclarationError) as caught:
        preview(metadata, project(changed), now=NOW + HOUR)

    (fault,) = caught.value.faults
    assert fault == (
        "source/payments: lookups.usual changes from 'usual of takings by merchant (usual = mean "
        "of net over 7d, net = amount - tax)' to 'usual of takings by merchant (usual = mean of "
        "net over 14d, net = amount - tax)', but its raw data has values of the old meaning, which "
        "never change; give the new column another name"
    )


@pytest.mark.parametrize(
    "other",
    [
        takings(derive={"net": ps.col("amount") - 2 * ps.col("tax")}),
        takings(ttl="30d"),
        takings(source=sales(known_after="1h")),
    ],
)
def test_it_means_another_where_what_it_is_made_of_does(
    metadata: Metadata, other: FeatureView
) -> None:
    apply(metadata, project(payments()), actor="ann", now=NOW)
    taken_in(metadata, payments())

    with pytest.raises(DeclarationError, match=r"lookups\.usual changes (from|in what)"):
        preview(metadata, project(payments(other)), now=NOW + HOUR)

    # Another name is another column, and who comes back to the old one finds the old meaning.
    renamed = ps.Project("shop", declarations=[payments(other, new="usual")])
    apply(metadata, renamed, actor="ann", now=NOW + HOUR)
    with pytest.raises(DeclarationError, match=r"lookups\.usual changes"):
        preview(metadata, project(payments(other)), now=NOW + 2 * HOUR)
    assert preview(metadata, project(payments()), now=NOW + 2 * HOUR).steps


def test_what_is_only_shown_or_added_changes_nothing(metadata: Metadata) -> None:
    apply(metadata, project(payments()), actor="ann", now=NOW)
    taken_in(metadata, payments())
    more = takings(features=[*takings().features, ps.count()], owner="ann")
    same = ps.FeatureView("income", source=sales(), derive=more.derive, features=more.features)

    assert preview(metadata, project(payments(more)), now=NOW + HOUR).steps
    assert preview(metadata, project(payments(same)), now=NOW + HOUR).steps


def test_a_feature_does_not_become_a_column_of_the_source(metadata: Metadata) -> None:
    apply(metadata, project(payments()), actor="ann", now=NOW)
    taken_in(metadata, payments())
    column = ps.Lookup(sales(), on="merchant", columns={"usual": "amount"})
    changed = msgspec.structs.replace(payments(), lookups=(column,))

    with pytest.raises(DeclarationError, match="to 'amount of sales by merchant', but its raw"):
        preview(metadata, project(changed), now=NOW + HOUR)


def test_nothing_new_may_be_completed_with_what_is_deprecated(metadata: Metadata) -> None:
    old = takings(features=[ps.max("amount", name="usual", deprecated="2025-06-01")])
    apply(metadata, ps.Project("shop", declarations=[old]), actor="ann", now=NOW)

    with pytest.raises(
        DeclarationError, match=r"source/payments would begin to read takings\.usual"
    ):
        preview(metadata, project(payments(old)), now=NOW)

    known = takings(features=[ps.max("amount", name="usual")])
    apply(metadata, project(payments(known)), actor="ann", now=NOW)
    (warning,) = preview(metadata, project(payments(old)), now=NOW).warnings
    assert "takings.usual has been deprecated since 2025-06-01" in warning
    assert "Still read by source payments" in warning


def test_the_catalogue_says_who_is_completed_with_a_feature() -> None:
    declared = declarations_in([habits(payments())])
    catalogue = Catalogue(
        {key_of(one): one for one in declared}, {key_of(one): fingerprint(one) for one in declared}
    )
    found = {one.name: one for one in feature_entries(catalogue, readers_of(declared, {}))}

    assert found["takings.usual"].used_by == ("source/payments",)
    assert found["takings.most"].used_by == ()
    share = found["habits.share"]
    assert share.derived == {
        "share": "amount / usual",
        "usual": "usual of takings by merchant",
    }
    assert share.tags == ("financial", "licensed", "internal")
    assert found["habits.all"].tags == ()


def test_what_protects_a_feature_protects_what_is_computed_from_it() -> None:
    view = habits(payments())
    tagged = locks_of([view], [ps.Protection("money", tagged=["financial"])])
    named = locks_of([view], [ps.Protection("shops", views=[takings()])])

    assert Lock("tag", "financial", "habits.share", ("habits",)) in tagged["habits.share"]
    assert named["habits.share"] == {
        Lock("view", "takings", "takings.usual", ("takings", "habits"))
    }
    assert tagged["habits.all"] == named["habits.all"] == frozenset()


def test_protection_goes_through_columns_that_hold_features() -> None:
    regions = ps.Source(
        "regions",
        entity=ps.Entity("region"),
        timestamp="ts",
        schema={"region": ps.String, "ts": ps.Timestamp, "merchant": ps.String},
        lookups=[ps.Lookup(takings(), on="merchant", columns={"of_first": "usual"})],
    )
    source = ps.Source(
        "visits",
        entity=ps.Entity("user"),
        timestamp="ts",
        schema={"user": ps.String, "ts": ps.Timestamp, "region": ps.String},
        lookups=[ps.Lookup(regions, on="region", columns={"usual": "of_first"})],
    )
    view = ps.FeatureView("seen", source=source, features=[ps.max("usual", name="most")])

    found = locks_of([view], [ps.Protection("shops", views=[takings()])])

    assert found["seen.most"] == {Lock("view", "takings", "takings.usual", ("takings", "seen"))}
