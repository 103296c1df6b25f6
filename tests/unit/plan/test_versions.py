from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, TypeAlias

import msgspec
import pytest

import penstock as ps
from penstock.errors import NotFoundError
from penstock.plan import Change, apply, compare_versions, versions_of, view_kind
from penstock.plan.readable import readable
from penstock.ports import Delete
from penstock.records import AppliedDeclaration, DeclarationVersion
from penstock.spec import FeatureView

if TYPE_CHECKING:
    from collections.abc import Callable

    from penstock.algebra import FloatArray
    from penstock.ports import Metadata
    from penstock.spec import Expression, Project

    ProjectOf: TypeAlias = Callable[..., Project]

NOW = datetime(2026, 1, 1, tzinfo=UTC)
VIEW = "feature_view"


@pytest.fixture
def applied(metadata: Metadata, project_of: ProjectOf) -> Metadata:
    """Four applications by two people, of which one leaves the view alone."""
    apply(metadata, project_of(), actor="ann", now=NOW, commit="c1", dirty=True)
    apply(metadata, project_of(over="12h"), actor="bob", now=NOW + timedelta(days=1))
    apply(metadata, project_of(over="12h", deadline="9ms"), actor="eve", now=NOW)
    said = {"unit": "USD"}
    apply(metadata, project_of(over="12h", said=said), actor="bob", now=NOW + timedelta(days=2))
    return metadata


def test_every_version_is_kept_with_who_and_when(applied: Metadata) -> None:
    first, second, third = versions_of(applied, VIEW, "momentum")
    assert [one.version for one in (first, second, third)] == [1, 2, 3]
    assert (first.applied_by, first.applied_at, first.commit, first.dirty) == (
        "ann", NOW, "c1", True,
    )  # fmt: skip
    assert (second.applied_by, second.applied_at) == ("bob", NOW + timedelta(days=1))
    newest = applied.read(AppliedDeclaration, "feature_view/momentum")
    assert newest is not None
    assert (third.document, third.version) == (newest.document, newest.version)
    assert first.fingerprint != second.fingerprint == third.fingerprint
    assert [one.version for one in versions_of(applied, "source", "candles")] == [1]


def test_two_versions_differ_in_their_fields(applied: Metadata) -> None:
    found = compare_versions(applied, VIEW, "momentum", first=1, last=3)
    assert [(field.path, field.before, field.after) for field in found.fields] == [
        ("features.m.over", "6h", "12h"),
        ("features.m.unit", None, "USD"),
    ]
    assert found.meaning
    assert (found.before.applied_by, found.after.applied_by) == ("ann", "bob")


def test_left_out_the_last_two_versions_are_compared(applied: Metadata) -> None:
    found = compare_versions(applied, VIEW, "momentum")
    assert (found.before.version, found.after.version) == (2, 3)
    assert not found.meaning
    assert compare_versions(applied, VIEW, "momentum", last=2).before.version == 1
    assert compare_versions(applied, VIEW, "momentum", first=1).after.version == 3


def test_an_only_version_does_not_differ_from_itself(applied: Metadata) -> None:
    found = compare_versions(applied, "source", "candles")
    assert found.before == found.after
    assert compare_versions(applied, VIEW, "momentum", last=1).before.version == 1
    assert found.fields == ()


def test_unknown_names_and_numbers_name_those_there_are(applied: Metadata) -> None:
    with pytest.raises(NotFoundError, match=r"feature view 'momentun'\. Did you mean 'momentum'"):
        compare_versions(applied, VIEW, "momentun")
    with pytest.raises(NotFoundError, match=r"no version 7 of 'momentum'\. Kept: 1 to 3\."):
        compare_versions(applied, VIEW, "momentum", first=7)
    with pytest.raises(NotFoundError, match=r"Kept: 1\."):
        compare_versions(applied, "source", "candles", last=2)
    with pytest.raises(NotFoundError, match="run 'penstock apply'"):
        versions_of(applied, "monitor", "watch")


def test_a_project_applied_before_versions_were_kept_goes_on_from_its_last(
    applied: Metadata, project_of: ProjectOf
) -> None:
    applied.write(*(Delete(one) for one in applied.find(DeclarationVersion)))
    (only,) = versions_of(applied, VIEW, "momentum")
    assert only.version == 3
    apply(applied, project_of(over="1h"), actor="cleo", now=NOW)
    found = compare_versions(applied, VIEW, "momentum")
    assert [(field.path, field.before, field.after) for field in found.fields] == [
        ("features.m.over", "12h", "1h"),
        ("features.m.unit", "USD", None),
    ]
    assert (found.before.version, found.before.applied_by) == (3, "bob")


def test_what_is_removed_and_declared_again_goes_on_counting(
    applied: Metadata, project_of: ProjectOf
) -> None:
    apply(applied, project_of(view_name="other"), actor="ann", now=NOW)
    assert [one.version for one in versions_of(applied, VIEW, "momentum")] == [1, 2, 3]
    apply(applied, project_of(over="9h"), actor="ann", now=NOW)
    assert [one.version for one in versions_of(applied, VIEW, "momentum")] == [1, 2, 3, 4]
    newest = applied.read(AppliedDeclaration, "feature_view/momentum")
    assert newest is not None
    assert newest.version == 4


def test_expressions_are_shown_as_they_are_written(
    metadata: Metadata, project_of: ProjectOf
) -> None:
    def view(*, low: float) -> ps.FeatureView:
        source = project_of().everything[1]
        assert isinstance(source, ps.Source)
        where = ps.col("ret") > low
        return ps.FeatureView(
            "other",
            source=source,
            derive={"ret": ps.col("close") - low},
            features=[ps.count(where=where, name="n")],
        )

    apply(metadata, project_of(more=[view(low=1)]), actor="ann", now=NOW)
    apply(metadata, project_of(more=[view(low=2)]), actor="ann", now=NOW)
    found = compare_versions(metadata, VIEW, "other")
    assert [(field.path, field.before, field.after) for field in found.fields] == [
        ("derive.ret", "close - 1", "close - 2"),
        ("features.n.where", "ret > 1", "ret > 2"),
    ]


def test_what_is_said_of_a_feature_on_demand_changes_field_by_field(
    metadata: Metadata, project_of: ProjectOf
) -> None:
    project = project_of()
    (view,) = (one for one in project.everything if isinstance(one, FeatureView))

    def edge(expression: Expression, **said: str) -> ps.OnDemandView:
        told = ps.feature(expression, **said)
        return ps.OnDemandView(
            "edge", views=[view], features={"gap": told, "unit": ps.col("momentum.l")}
        )

    gap = ps.col("momentum.m") - 1
    for told in (edge(gap), edge(gap), edge(gap, unit="USD")):
        apply(metadata, project_of(more=[told]), actor="ann", now=NOW)
    plan = apply(metadata, project_of(more=[edge(gap * 2, unit="EUR")]), actor="ann", now=NOW)
    assert [step.meaning for step in plan.steps if isinstance(step, Change)] == [True]
    said = compare_versions(metadata, "on_demand_view", "edge", last=2)
    changes = [(field.path, field.before, field.after) for field in said.fields]
    assert (changes, said.meaning) == ([("features.gap.unit", None, "USD")], False)
    found = compare_versions(metadata, "on_demand_view", "edge")
    assert [(field.path, field.before, field.after) for field in found.fields] == [
        ("features.gap", "momentum.m - 1", "(momentum.m - 1) * 2"),
        ("features.gap.unit", "USD", "EUR"),
    ]
    assert (found.before.version, found.after.version, found.meaning) == (2, 3, True)


def test_a_view_is_of_the_kind_that_it_is_or_was_last(
    metadata: Metadata, project_of: ProjectOf
) -> None:
    bid = ps.col("bid")
    other = ps.OnDemandView("other", request={"bid": ps.Float64}, features={"f": bid * 2})
    more = ps.FeatureService("s", features=[other])
    with pytest.raises(NotFoundError, match="run 'penstock apply'"):
        view_kind(metadata, "other")
    apply(metadata, project_of(view_name="other"), actor="ann", now=NOW)
    assert view_kind(metadata, "other") == "feature_view"
    later = NOW + timedelta(days=1)
    apply(metadata, project_of(more=[more]), actor="ann", now=later)
    assert view_kind(metadata, "other") == "on_demand_view"
    apply(metadata, project_of(), actor="ann", now=later)
    assert view_kind(metadata, "other") == "on_demand_view"
    assert view_kind(metadata, "momentum") == "feature_view"
    with pytest.raises(NotFoundError, match="Did you mean 'momentum'"):
        view_kind(metadata, "momentun")


def half(values: FloatArray) -> FloatArray:
    return values / 2


def test_functions_differ_by_their_code() -> None:
    function = ps.function(half, "x")
    other = msgspec.structs.replace(function, sha256="0123456789abcdef")
    shown = readable(
        {"derive": {"a": msgspec.to_builtins(function), "b": msgspec.to_builtins(other)}}
    )
    assert shown == {
        "derive": {
            "a": f"half(x), half is {function.sha256[:8]}",
            "b": "half(x), half is 01234567",
        }
    }


def test_an_expression_of_another_version_is_shown_as_it_is_stored() -> None:
    unknown = {"type": "call", "op": "modulo", "args": []}
    assert readable({"derive": {"x": unknown}, "k": [1]}) == {"derive": {"x": unknown}, "k": [1]}
