"""What protects a feature, against a plain reading of the rule."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import penstock as ps
from penstock.errors import DeclarationError
from penstock.plan import Catalogue, Lock, apply, locks_of, preview
from penstock.spec import FeatureView, OnDemandFeature, OnDemandView, View, columns_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from penstock.ports import Metadata
    from penstock.spec import Expression

NOW = datetime(2026, 1, 1, tzinfo=UTC)
TAGS = ("pii", "financial", "open")
GRANTS = [("tag", tag) for tag in TAGS] + [("view", f"v{number}") for number in range(5)]


def source(*tags: str, name: str = "pay") -> ps.Source:
    columns = {"user": ps.String, "ts": ps.Timestamp, "amount": ps.Float64}
    entity = ps.Entity("user")
    return ps.Source(name, entity=entity, timestamp="ts", schema=columns, tags=tags)


def payments(*tags: str) -> FeatureView:
    return ps.FeatureView(
        "payments",
        source=source(),
        tags=tags,
        features=[ps.last("amount", tags=["pii"]), ps.last_k("amount", k=2), ps.count(over="1d")],
    )


class World(NamedTuple):
    """Views, each reading earlier ones, with what is protected and what is granted."""

    views: tuple[View, ...]
    protection: ps.Protection
    granted: frozenset[tuple[str, str]]


def some(views: Sequence[View], most: int) -> st.SearchStrategy[list[View]]:
    """A few of the views, each once."""
    if not views:
        return st.just([])
    return st.lists(st.sampled_from(views), unique_by=lambda one: one.name, max_size=most)


@st.composite
def worlds(draw: st.DrawFn) -> World:
    tags = st.lists(st.sampled_from(TAGS), max_size=2)
    views: list[View] = []
    for number in range(draw(st.integers(2, 5))):
        name = f"v{number}"
        below = (
            draw(st.lists(st.sampled_from(views), unique_by=lambda one: one.name, max_size=3))
            if views
            else []
        )
        if not below:
            features = [ps.last("amount", tags=draw(tags)), ps.count(over="1d", tags=draw(tags))]
            made = source(*draw(tags), name=f"s{number}")
            view = ps.FeatureView(name, source=made, tags=draw(tags), features=features)
            views.append(view)
            continue
        names = [one for other in below for one in other.names]
        shown: dict[str, Expression | OnDemandFeature] = {}
        for letter in "ab":
            inputs = draw(st.lists(st.sampled_from([*names, *shown]), min_size=1, max_size=2))
            expression, its = ps.col(inputs[0]) + ps.col(inputs[-1]), draw(tags)
            shown[letter] = ps.feature(expression, tags=its) if its else expression
        views.append(ps.OnDemandView(name, views=below, features=shown, tags=draw(tags)))
    named = draw(some(views, 2))
    protection = ps.Protection("it", tagged=["pii", "financial"], views=named)
    return World(tuple(views), protection, draw(st.frozensets(st.sampled_from(GRANTS))))


def may_read(world: World, view: View, name: str) -> bool:
    """The rule as it is told: a grant of the view is enough; else all that protects it is open."""
    if ("view", view.name) in world.granted:
        return True
    if view in world.protection.views:
        return False
    tags, reads = set(view.tags), list[tuple[View, str]]()
    if isinstance(view, FeatureView):
        (feature,) = (one for one in view.features if name in one.names)
        tags |= {*feature.tags, *view.source.tags}
    else:
        own = view.features[name]
        tags |= set(own.tags) if isinstance(own, OnDemandFeature) else set()
        reads = [_found(view, column) for column in columns_of(view.expressions[name])]
    locked = tags & set(world.protection.tagged)
    if any(("tag", tag) not in world.granted for tag in locked):
        return False
    return all(may_read(world, below, inner) for below, inner in reads)


def _found(view: OnDemandView, column: str) -> tuple[View, str]:
    if column in view.features:
        return view, column
    name, _, feature = column.partition(".")
    return next(other for other in view.views if other.name == name), feature


@settings(max_examples=400)  # few worlds have a tag of a feature's own that nothing else has
@given(worlds())
def test_locks_are_those_of_the_rule(world: World) -> None:
    locks = locks_of(world.views, [world.protection])
    assert set(locks) == {name for view in world.views for name in view.names}
    for view in world.views:
        for full in view.names:
            opened = all(lock.opened_by(world.granted) for lock in locks[full])
            assert opened == may_read(world, view, full.partition(".")[2]), full


def test_what_is_computed_from_a_protected_feature_is_protected() -> None:
    fields = {"a": ps.Float64}
    shares = {
        "x": ps.col("payments.last_amount") / ps.col("a"),
        "y": ps.col("x") + 1,
        "z": ps.col("payments.count_1d") + ps.col("a"),
    }
    risk = ps.OnDemandView("risk", views=[payments()], request=fields, features=shares)
    locks = locks_of([risk], [ps.Protection("p", tagged=["pii"])])
    pii = Lock("tag", "pii", "payments.last_amount", ("payments",))
    seen = Lock("tag", "pii", "payments.last_amount", ("payments", "risk"))
    assert {name: set(found) for name, found in locks.items()} == {
        "payments.last_amount": {pii},
        "payments.last_2_amount_1": set(),
        "payments.last_2_amount_2": set(),
        "payments.count_1d": set(),
        "risk.x": {seen},
        "risk.y": {seen},
        "risk.z": set(),
    }


def test_two_definitions_of_a_view_count_both() -> None:
    now = ps.FeatureView("payments", source=source(), features=[ps.last("amount")])
    for views in ([payments(), now], [now, payments()]):
        locks = locks_of(views, [ps.Protection("p", tagged=["pii"])])
        assert locks["payments.last_amount"]


@pytest.mark.parametrize(
    ("given_", "words"),
    [
        ({}, "it protects nothing"),
        ({"tagged": "pii"}, r"tagged=\['pii'\]"),
        ({"tagged": [""]}, "tagged=.* empty"),
        ({"views": [payments(), payments()]}, "view 'payments' is declared 2 times"),
    ],
)
def test_a_protection_that_cannot_work_is_refused(given_: dict[str, object], words: str) -> None:
    with pytest.raises(DeclarationError, match=words):
        ps.Protection("p", **given_)  # type: ignore[arg-type]  # wrong on purpose


def test_protection_is_planned_applied_and_lifted_like_any_declaration(metadata: Metadata) -> None:
    def project(*more: ps.Protection) -> ps.Project:
        return ps.Project("shop", declarations=[payments(), *more])

    def steps(wanted: ps.Project) -> Sequence[dict[str, str]]:
        return apply(metadata, wanted, actor="ann", now=NOW).as_rows()

    steps(project())
    protected = project(ps.Protection("personal", tagged=["pii"]))
    assert [row["step"] for row in steps(protected)] == ["create"]
    assert Catalogue.load(metadata).all(ps.Protection)[0].tagged == ("pii",)
    more = project(ps.Protection("personal", tagged=["pii"], views=[payments()]))
    (changed,) = steps(more)
    assert (changed["name"], changed["detail"].partition(":")[0]) == ("personal", "views")
    assert Catalogue.load(metadata).all(ps.Protection)[0].views == (payments(),)
    assert [row["step"] for row in steps(project())] == ["remove"]
    assert metadata.audit()[-1].difference["steps"]


def test_a_tag_that_no_feature_has_is_told(metadata: Metadata) -> None:
    slip = ps.Protection("personal", tagged=["pi", "pii"])
    project = ps.Project("shop", declarations=[payments(), slip])
    (told,) = preview(metadata, project, now=NOW).warnings
    assert told == "protection personal: no feature has the tag 'pi'. Did you mean 'pii'?"
