"""The catalogue over a project with versions in service: its list, and what is known of one."""

from __future__ import annotations

import shutil
from datetime import timedelta
from typing import TYPE_CHECKING

import msgspec
import pytest

import penstock as ps
from penstock.control import lineage, list_features, overview
from penstock.errors import NotFoundError
from penstock.features import refresh
from penstock.plan import Catalogue, apply
from penstock.ports import Put
from penstock.records import Aliases

if TYPE_CHECKING:
    from collections.abc import Callable

    from penstock.runtime import LocalServices
    from penstock.spec import Dataset, FeatureView

    Change = Callable[[FeatureView], FeatureView]


def applied_again(services: LocalServices, change: Change | None = None) -> None:
    """Apply the project with another view, and with what stands on it."""
    catalogue = Catalogue.load(services.metadata)
    view = catalogue.view("momentum")
    view = change(view) if change else view
    edge = ps.OnDemandView(
        "edge",
        views=[view],
        request={"bid": ps.Float64},
        features={"gap": ps.col("bid") - ps.col("momentum.last_close")},
    )
    scoring = ps.FeatureService("scoring", features=[view])
    hourly: Dataset = msgspec.structs.replace(catalogue.dataset("hourly"), features=scoring)
    model = msgspec.structs.replace(catalogue.model("direction"), dataset=hourly)
    endpoint = msgspec.structs.replace(catalogue.deployment("btc"), model=model)
    project = ps.Project("served", declarations=[endpoint, edge])
    apply(services.metadata, project, actor="ann", now=services.clock.now())


def twice(view: FeatureView) -> FeatureView:
    """The mean is of something else; the rest means the same."""
    return msgspec.structs.replace(
        view, description="Moves.", derive={"ret": view.derive["ret"] * 2}
    )


def test_who_is_in_service_counts_as_a_user(scored: LocalServices) -> None:
    applied_again(scored)
    found = {one.name: one for one in list_features(scored).features}
    assert set(found["momentum.std_ret_1d"].used_by) == {
        "feature_service/scoring", "dataset/hourly", "model/direction", "deployment/btc",
        "model_version/direction@1", "model_version/direction@2",
    }  # fmt: skip
    assert "on_demand_view/edge" in found["momentum.last_close"].used_by
    assert found["edge.gap"].used_by == ()
    unused = list_features(scored).where(unused=True)
    assert [one.name for one in unused.features] == ["edge.gap"]
    assert unused.services == ()


def test_a_feature_that_only_a_version_reads_is_not_unused(scored: LocalServices) -> None:
    catalogue = Catalogue.load(scored.metadata)
    project = ps.Project("served", declarations=[catalogue.view("momentum")])
    apply(scored.metadata, project, actor="ann", now=scored.clock.now())
    assert list_features(scored).where(unused=True).features == ()
    scored.metadata.write(Put(Aliases(model="direction", changed_at=scored.clock.now())))
    assert len(list_features(scored).where(unused=True).features) == 5


def test_a_version_whose_package_is_gone_is_told(scored: LocalServices) -> None:
    shutil.rmtree(scored.layout.artifacts)
    assert list_features(scored).unread == ("direction@1", "direction@2")
    assert overview(scored, "momentum").unread == ("direction@1", "direction@2")


def test_filters_hold_together_and_unknown_ones_are_told(scored: LocalServices) -> None:
    def described(view: FeatureView) -> FeatureView:
        return msgspec.structs.replace(view, owner="ann", tags=("market",))

    applied_again(scored, described)
    listing = list_features(scored)
    assert len(listing.where(tags=["market"], owner="ann").features) == 5
    assert listing.where(view="edge").services == ()
    assert [one.name for one in listing.where(view="momentum").services] == ["scoring"]
    assert listing.where(deprecated=True).features == ()
    with pytest.raises(NotFoundError, match="Did you mean 'market'"):
        listing.where(tags=["marked"])
    with pytest.raises(NotFoundError, match="Did you mean 'ann'"):
        listing.where(owner="anne")
    with pytest.raises(NotFoundError, match="Did you mean 'momentum'"):
        listing.where(view="momentun")


def test_a_view_is_fresh_stale_or_not_built(scored: LocalServices) -> None:
    view = Catalogue.load(scored.metadata).view("momentum")
    (state,) = list_features(scored).states
    assert (state.state, state.waiting) == ("fresh", 2)
    refresh(scored.tables, scored.online, scored.locks, view)
    (state,) = list_features(scored).states
    assert state.waiting == 0
    assert state.age_us is not None
    assert state.age_us < timedelta(hours=1) / timedelta(microseconds=1)
    applied_again(scored, lambda view: msgspec.structs.replace(view, freshness="1us"))
    assert list_features(scored).states[0].state == "stale"
    applied_again(scored, twice)
    assert list_features(scored).states[0].state == "not built"


def test_the_overview_of_a_view_leads_from_files_to_versions(scored: LocalServices) -> None:
    applied_again(scored, twice)
    found = overview(scored, "momentum")
    assert (found.kind, found.source, found.feature) == ("feature_view", "candles", "")
    assert found.derive == {"ret": "((close / open) - 1) * 2"}
    new, first = found.versions
    assert (new.version, new.applied_by, first.version) == (2, "ann", 1)
    assert new.changes == (
        "description: nothing -> Moves.",
        "derive.ret: (close / open) - 1 -> ((close / open) - 1) * 2",
    )
    used = {(one.kind, one.name): one for one in found.used_by}
    assert used["deployment", "btc"].columns == found.features[0].columns + tuple(
        column for one in found.features[1:] for column in one.columns
    )
    assert used["on_demand_view", "edge"].columns == ("momentum.last_close",)
    version = used["model_version", "direction@1"]
    assert (version.aliases, version.definition) == (("champion",), "earlier")
    (source,) = found.comes_from
    (table,) = source.links
    assert (source.id, table.id, table.detail["batches"]) == ("candles", "raw/candles@3", 3)
    assert [link.kind for batch in table.links for link in batch.links] == [
        "messages", "messages", "file",
    ]  # fmt: skip


def test_a_feature_has_the_history_and_the_users_of_its_own(scored: LocalServices) -> None:
    applied_again(scored, twice)
    last = overview(scored, "momentum.last_close")
    assert [one.version for one in last.versions] == [1]
    used = {one.name: one for one in last.used_by}
    assert used["direction@1"].definition == "current"
    mean = overview(scored, "momentum.mean_ret_6h")
    assert [one.version for one in mean.versions] == [2, 1]
    assert {one.name: one.definition for one in mean.used_by}["direction@1"] == "earlier"


def test_services_and_features_on_demand_are_shown_too(scored: LocalServices) -> None:
    applied_again(scored)
    scoring = overview(scored, "scoring")
    assert (scoring.kind, scoring.views) == ("feature_service", ("momentum",))
    assert {(one.kind, one.name) for one in scoring.used_by} == {
        ("dataset", "hourly"), ("model", "direction"), ("deployment", "btc"),
        ("model_version", "direction@1"), ("model_version", "direction@2"),
    }  # fmt: skip
    assert {one.definition for one in scoring.used_by} == {"", "current"}
    gap = overview(scored, "edge.gap")
    assert (gap.request, gap.views, gap.used_by) == ({"bid": "float64"}, ("momentum",), ())
    (inner,) = gap.comes_from
    assert (inner.kind, inner.id, inner.links[0].id) == ("features", "momentum", "candles")


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("momentun", "'momentum'"),
        ("momentum.last_clos", "'momentum.last_close'"),
        ("momentun.last_close", "'momentum.last_close'"),
        ("std_ret_1d", "'momentum.std_ret_1d'"),
        ("scorin", "'scoring'"),
    ],
)
def test_what_there_is_not_is_told_with_the_nearest(
    scored: LocalServices, name: str, meant: str
) -> None:
    with pytest.raises(NotFoundError, match=f"Did you mean {meant}"):
        overview(scored, name)


def test_the_lineage_of_a_feature_goes_both_ways(scored: LocalServices) -> None:
    applied_again(scored)
    found = lineage(scored, "momentum.std_ret_1d")
    assert [link.id for link in found.find("source")] == ["candles"]
    assert [link.id for link in found.find("version")] == ["direction@1", "direction@2"]
    assert len(found.find("file")) == 1
    assert lineage(scored, "edge").leads_to == ()
    assert [link.id for link in lineage(scored, "momentum").find("dataset")]
