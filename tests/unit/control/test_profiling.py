"""Profiles that are made now and then, and what is shown of them to whom."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

import penstock as ps
from penstock.access import add_user, identify
from penstock.control import (
    ProfileSchedule,
    due,
    overview,
    profile_views,
    profiled_columns,
    start,
    step_functions,
)
from penstock.errors import InputError, NotFoundError
from penstock.features import profile, profiles_of
from penstock.ingest import accept_events, ingest_log
from penstock.plan import Catalogue, apply
from penstock.records import AppliedProject
from penstock.spec import function

if TYPE_CHECKING:
    from penstock.runtime import LocalServices
    from penstock.spec import FeatureView

HOUR_US = 3_600_000_000
EVERY = ProfileSchedule(HOUR_US, days=5, sample=1_000)
ROW = b'{"symbol": "BTC", "ts": "2026-01-10T12:30:00Z", "open": 1, "close": 2, "volume": 3}'


def momentum(services: LocalServices) -> FeatureView:
    return Catalogue.load(services.metadata).view("momentum")


def test_views_with_new_records_are_profiled_once_in_each_interval(scored: LocalServices) -> None:
    now = scored.clock.now()
    now_us = scored.clock.now_us() + HOUR_US
    assert due(scored, now_us=now_us) == []
    applied = scored.metadata.read(AppliedProject, "project")
    assert applied is not None
    hour_us = int(applied.applied_at.timestamp()) // 3_600 * HOUR_US
    assert due(scored, now_us=hour_us, profile=EVERY) == []
    (submission,) = due(scored, now_us=now_us, profile=EVERY)
    slot = (now + timedelta(hours=1)).strftime("%Y%m%dT%H00")
    assert submission.run_id == f"profile-features-{slot}"
    assert submission.parameters == {"days": 5, "sample": 1_000}
    start(scored, submission)
    assert due(scored, now_us=now_us + HOUR_US, profile=EVERY) == []  # the first has not ended
    scored.workflows.cancel(submission.run_id)
    compute = step_functions(scored)["profile.compute"]
    assert compute(submission.parameters, {}) == {"days": {"momentum": 5}, "failed": {}}
    assert len({one.day for one in profiles_of(scored.tables, momentum(scored))}) == 5
    # Nothing new has come, so nothing is called for; a record is.
    assert due(scored, now_us=now_us + 2 * HOUR_US, profile=EVERY) == []
    candles = Catalogue.load(scored.metadata).source("candles")
    accept_events(scored, candles, ROW, "application/json")
    ingest_log(scored, candles)
    assert len(due(scored, now_us=now_us + 2 * HOUR_US, profile=EVERY)) == 1
    days = compute(submission.parameters, {})["days"]
    assert days == {"momentum": 2}, "its own day, and the next, whose windows hold it"


def test_nothing_is_profiled_where_there_is_nothing(watched: Any) -> None:  # noqa: ANN401 - a fixture's class
    now_us = watched.services.clock.now_us() + HOUR_US
    assert due(watched.services, now_us=now_us, profile=EVERY) == []
    assert profile_views(watched.services, days=5, sample=100) == {"days": {}, "failed": {}}


def broken(close: object) -> object:
    message = f"as with {len(str(close))} letters"
    raise ValueError(message)


def test_a_view_that_cannot_be_computed_keeps_no_other_from_it(scored: LocalServices) -> None:
    view = momentum(scored)
    bad = ps.FeatureView(
        "bad",
        source=view.source,
        derive={"none": function(broken, "close")},
        features=[ps.last("none")],
    )
    catalogue = Catalogue.load(scored.metadata)
    project = ps.Project("p", declarations=[bad, *catalogue.declarations.values()])
    apply(scored.metadata, project, actor="a", now=scored.clock.now())
    done = msgspec.convert(profile_views(scored, days=3, sample=100), dict[str, dict[str, Any]])
    assert done["days"] == {"momentum": 3}
    # What it said, here a price, is in the log; anybody may look at the run.
    assert done["failed"]["bad"] == "A function of the user failed."


def test_how_protected_features_lie_is_left_out_and_named(scored: LocalServices) -> None:
    view = momentum(scored)
    profile(scored.tables, scored.locks, view, days=10)
    assert len({one.day for one in overview(scored, "momentum").profiles}) == 7
    tagged = [
        msgspec.structs.replace(one, tags=("pii",)) if one.op == "last" else one
        for one in view.features
    ]
    protected = ps.Project(
        "p",
        declarations=[
            msgspec.structs.replace(view, features=tagged),
            ps.Protection("personal", tagged=["pii"]),
        ],
    )
    apply(scored.metadata, protected, actor="a", now=scored.clock.now())
    ana = scored.acting(identify(scored.metadata, add_user(scored, "ana", "reader")))
    shown = overview(ana, "momentum")
    assert shown.hidden == ("momentum.last_close",)
    assert {one.feature for one in shown.profiles} == set(view.names) - {"momentum.last_close"}
    assert overview(ana, "momentum.last_close").profiles == ()
    assert overview(scored, "momentum").hidden == ()


def test_what_has_no_profile_is_told(scored: LocalServices) -> None:
    assert profiled_columns(scored, "momentum.count_1d")[1] == ("momentum.count_1d",)
    with pytest.raises(InputError, match="Profile its views: momentum"):
        profiled_columns(scored, "scoring")
    with pytest.raises(NotFoundError, match="Did you mean 'momentum'"):
        profiled_columns(scored, "momentun")


def test_what_is_computed_on_demand_is_profiled_and_protected_too(scored: LocalServices) -> None:
    view = momentum(scored)
    tagged = [
        msgspec.structs.replace(one, tags=("pii",)) if one.op == "last" else one
        for one in view.features
    ]
    base = msgspec.structs.replace(view, features=tagged)
    edge = ps.OnDemandView(
        "edge",
        views=[base],
        request={"bid": ps.Float64},
        features={
            "gap": ps.col("bid") - ps.col("momentum.last_close"),
            "twice": ps.col("momentum.last_close") * 2,
            "count": ps.col("momentum.count_1d") + 1,
        },
    )
    far = ps.OnDemandView("far", request={"x": ps.Float64}, features={"f": ps.col("x") * 2})
    asked = ps.FeatureService("asked", features=[far])
    personal = ps.Protection("personal", tagged=["pii"])
    project = ps.Project("p", declarations=[base, edge, asked, personal])
    apply(scored.metadata, project, actor="a", now=scored.clock.now())
    assert profile_views(scored, days=3, sample=100) == {
        "days": {"momentum": 3, "edge": 3}, "failed": {},
    }  # fmt: skip
    assert profile_views(scored, days=3, sample=100) == {"days": {}, "failed": {}}
    assert profiled_columns(scored, "edge") == (edge, ("edge.twice", "edge.count"))
    with pytest.raises(InputError, match=r"'edge\.gap' has no profile: it is computed from fields"):
        profiled_columns(scored, "edge.gap")
    with pytest.raises(InputError, match="None of its views has a profile"):
        profiled_columns(scored, "asked")
    shown = overview(scored, "edge")
    assert list(shown.unprofiled) == ["edge.gap"]
    assert {one.feature for one in shown.profiles} == {"edge.twice", "edge.count"}
    ana = scored.acting(identify(scored.metadata, add_user(scored, "ana", "reader")))
    shown = overview(ana, "edge")
    assert shown.hidden == ("edge.twice",)
    assert {one.feature for one in shown.profiles} == {"edge.count"}
    assert overview(ana, "edge.twice").profiles == ()
    assert overview(ana, "far").unprofiled == {
        "far.f": "it is computed from fields of the request, which no table has"
    }
