from __future__ import annotations

from datetime import UTC, date, datetime
from typing import TYPE_CHECKING, TypeAlias

import msgspec
import pytest

import penstock as ps
from penstock.errors import DeclarationError
from penstock.plan import Deprecated, apply, deprecated_in, deprecation_of, preview
from penstock.ports import Put
from penstock.records import AppliedDeclaration, FeatureSelection
from penstock.spec import Dataset

if TYPE_CHECKING:
    from collections.abc import Callable

    from penstock.ports import Metadata
    from penstock.spec import Expression, FeatureView, OnDemandFeature, OnDemandView, Project

    ProjectOf: TypeAlias = Callable[..., Project]

BEFORE = datetime(2026, 12, 31, 23, 59, tzinfo=UTC)
DAY = datetime(2027, 1, 1, tzinfo=UTC)
OLD = {"deprecated": "2027-01-01", "instead": "l"}


def hourly(project: Project, name: str = "hourly", *, select: str = "") -> Dataset:
    """Another dataset of the project's view."""
    first = next(value for value in project.everything if isinstance(value, Dataset))
    return ps.Dataset(name, spine=first.spine, features=first.features, select=select)


def test_users_are_warned_from_the_beginning(metadata: Metadata, project_of: ProjectOf) -> None:
    plan = apply(metadata, project_of(said=OLD), actor="ann", now=BEFORE)
    (warning,) = plan.warnings
    assert warning == (
        "momentum.m is deprecated: nothing new may use it from 2027-01-01 on. Use momentum.l "
        "instead. Read by dataset direction, model model."
    )
    assert plan.as_document()["warnings"] == list(plan.warnings)
    assert preview(metadata, project_of(said=OLD), now=BEFORE).is_empty
    assert preview(metadata, project_of(), now=BEFORE).warnings == ()


def test_who_read_it_before_the_day_goes_on(metadata: Metadata, project_of: ProjectOf) -> None:
    apply(metadata, project_of(), actor="ann", now=BEFORE)
    plan = apply(metadata, project_of(said=OLD, over="12h"), actor="ann", now=DAY)
    (warning,) = plan.warnings
    assert warning == (
        "momentum.m has been deprecated since 2027-01-01: nothing new may use it. Use momentum.l "
        "instead. Still read by dataset direction, model model."
    )


def test_from_the_day_on_nothing_new_may_use_it(metadata: Metadata, project_of: ProjectOf) -> None:
    project = project_of(said=OLD)
    apply(metadata, project, actor="ann", now=BEFORE)
    more = project_of(said=OLD, more=[hourly(project)])
    with pytest.raises(DeclarationError) as caught:
        apply(metadata, more, actor="ann", now=DAY)
    (fault,) = caught.value.faults
    assert fault == (
        "dataset/hourly would begin to read momentum.m, which has been deprecated since "
        "2027-01-01; use momentum.l instead"
    )
    assert preview(metadata, project, now=DAY).is_empty
    assert len(apply(metadata, more, actor="ann", now=BEFORE).warnings) == 1
    assert preview(metadata, more, now=DAY).is_empty


def test_a_feature_put_into_what_reads_it_is_new_too(
    metadata: Metadata, project_of: ProjectOf
) -> None:
    apply(metadata, project_of(view_name="other"), actor="ann", now=BEFORE)
    with pytest.raises(DeclarationError) as caught:
        preview(metadata, project_of(said={"deprecated": "2027-01-01"}), now=DAY)
    assert [fault.partition(" would")[0] for fault in caught.value.faults] == [
        "dataset/direction",
        "model/model",
    ]
    assert caught.value.faults[0].endswith("since 2027-01-01; leave it out")


def test_a_service_is_a_user_and_a_dataset_of_the_rest_is_none(
    metadata: Metadata, project_of: ProjectOf
) -> None:
    project = project_of(said=OLD)
    apply(metadata, project, actor="ann", now=BEFORE)
    (view,) = hourly(project).base_views
    rest = ps.Dataset("rest", spine=view.source, features=[view["l"]])
    assert apply(metadata, project_of(said=OLD, more=[rest]), actor="ann", now=DAY).steps
    clients = ps.FeatureService("clients", features=[view["m"]])
    with pytest.raises(DeclarationError, match="feature_service/clients would begin to read"):
        preview(metadata, project_of(said=OLD, more=[clients]), now=DAY)


def test_a_whole_view_is_named_once(metadata: Metadata, project_of: ProjectOf) -> None:
    project = project_of(view_deprecated="2027-01-01")
    plan = apply(metadata, project, actor="ann", now=BEFORE)
    (warning,) = plan.warnings
    assert warning == (
        "momentum is deprecated: nothing new may use it from 2027-01-01 on. "
        "Read by dataset direction, model model."
    )
    assert preview(metadata, project, now=DAY).is_empty
    more = project_of(view_deprecated="2027-01-01", more=[hourly(project)])
    with pytest.raises(DeclarationError, match="dataset/hourly would begin to read momentum,"):
        preview(metadata, more, now=DAY)


def test_what_a_selection_left_out_is_not_read(metadata: Metadata, project_of: ProjectOf) -> None:
    selected = FeatureSelection(
        selection_id="0123456789abcdef", dataset="direction", dataset_id="d",
        task="classification", seed=0, top=1, kept=("momentum.l",), ranks=(), rows={},
        metric="roc_auc", score=0.5, artifact="a", created_at=BEFORE,
    )  # fmt: skip
    metadata.write(Put(selected))
    project = project_of(said=OLD)
    apply(metadata, project, actor="ann", now=BEFORE)
    lean = hourly(project, "lean", select="0123456789abcdef")
    assert apply(metadata, project_of(said=OLD, more=[lean]), actor="ann", now=DAY).steps
    unknown = hourly(project, "odd", select="f" * 16)
    with pytest.raises(DeclarationError, match="dataset/odd would begin"):
        preview(metadata, project_of(said=OLD, more=[unknown]), now=DAY)


def test_a_project_may_be_set_up_again_in_another_folder(
    metadata: Metadata, project_of: ProjectOf
) -> None:
    plan = apply(metadata, project_of(said=OLD), actor="ann", now=DAY)
    assert "Still read by dataset direction, model model." in plan.warnings[0]


def test_nothing_is_refused_where_nobody_knows_who_read_what(
    metadata: Metadata, project_of: ProjectOf
) -> None:
    project = project_of(said=OLD)
    apply(metadata, project, actor="ann", now=BEFORE)
    view = metadata.read(AppliedDeclaration, "feature_view/momentum")
    assert view is not None
    broken = msgspec.structs.replace(view, document={"type": "feature_view"})
    metadata.write(Put(broken))
    assert apply(metadata, project_of(said=OLD, more=[hourly(project)]), actor="a", now=DAY).steps


def test_a_feature_of_another_view_stands_by_its_full_name(project_of: ProjectOf) -> None:
    said = {"deprecated": "2027-01-01", "instead": "other.m"}
    bare = hourly(project_of())
    other = ps.FeatureView("other", source=bare.spine, features=[ps.count(name="m")])
    dataset = hourly(project_of(said=said, more=[other]))
    wanted = Deprecated(name="momentum.m", since=date(2027, 1, 1), instead="other.m")
    assert deprecated_in(dataset.views, dataset.feature_names) == (wanted,)
    assert deprecated_in(dataset.views, ["momentum.l"]) == ()
    assert deprecation_of(dataset.base_views[0], "l") is None
    assert deprecation_of(dataset.base_views[0]) is None


def test_what_is_computed_on_demand_reads_what_is_below_it(project_of: ProjectOf) -> None:
    (view,) = hourly(project_of(said={"deprecated": "2027-01-01"})).base_views
    own: dict[str, Expression | OnDemandFeature] = {
        "twice": ps.col("momentum.m") * 2,
        "four": ps.col("twice") * 2,
        "l": ps.col("momentum.l"),
    }
    inner = ps.OnDemandView("inner", views=[view], request={"x": ps.Float64}, features=own)
    outer = ps.OnDemandView("outer", views=[inner], features={"f": ps.col("inner.four") + 1})
    wanted = Deprecated(name="momentum.m", since=date(2027, 1, 1))
    assert deprecated_in([outer], ["outer.f"]) == (wanted,)
    assert deprecated_in([inner], ["inner.four"]) == (wanted,)
    assert deprecated_in([inner], ["inner.l"]) == ()


def on_demand(view: FeatureView, *, view_deprecated: str = "", **said: str) -> OnDemandView:
    """Two features of a view, of the first of which something is said."""
    twice = ps.feature(ps.col("momentum.m") * 2, **said)
    return ps.OnDemandView(
        "edge",
        views=[view],
        features={"twice": twice, "four": ps.col("twice") * 2, "l": ps.col("momentum.l")},
        deprecated=view_deprecated,
    )


def test_a_feature_on_demand_is_deprecated_like_any(
    metadata: Metadata, project_of: ProjectOf
) -> None:
    project = project_of()
    (view,) = hourly(project).base_views
    edge = on_demand(view, deprecated="2027-01-01", instead="four")
    reader = ps.Dataset("reader", spine=view.source, features=[edge])
    plan = apply(metadata, project_of(more=[edge, reader]), actor="ann", now=BEFORE)
    (warning,) = plan.warnings
    assert warning == (
        "edge.twice is deprecated: nothing new may use it from 2027-01-01 on. Use edge.four "
        "instead. Read by dataset reader."
    )
    again = ps.FeatureService("again", features=[edge])
    with pytest.raises(DeclarationError) as caught:
        preview(metadata, project_of(more=[edge, reader, again]), now=DAY)
    (fault,) = caught.value.faults
    assert fault == (
        "feature_service/again would begin to read edge.twice, which has been deprecated since "
        "2027-01-01; use edge.four instead"
    )
    assert preview(metadata, project_of(more=[edge, reader]), now=DAY).is_empty


def test_what_stands_on_a_deprecated_feature_on_demand_reads_it(project_of: ProjectOf) -> None:
    (view,) = hourly(project_of()).base_views
    edge = on_demand(view, deprecated="2027-01-01", instead="momentum.l")
    outer = ps.OnDemandView("outer", views=[edge], features={"f": ps.col("edge.four") + 1})
    wanted = Deprecated(name="edge.twice", since=date(2027, 1, 1), instead="momentum.l")
    assert deprecated_in([outer], ["outer.f"]) == (wanted,)
    assert deprecated_in([edge], ["edge.four"]) == (wanted,)
    assert deprecated_in([edge], ["edge.l"]) == ()
    whole = on_demand(view, view_deprecated="2027-01-01")
    assert deprecated_in([whole], ["edge.l"]) == (Deprecated(name="edge", since=wanted.since),)
