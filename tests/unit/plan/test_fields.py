from __future__ import annotations

import pytest

import penstock as ps
from penstock.plan.fields import field_changes, is_shown_only


def paths(before: dict[str, object], after: dict[str, object]) -> list[tuple[str, object, object]]:
    return [(c.path, c.before, c.after) for c in field_changes(before, after)]


def test_values_inside_are_named_by_their_path() -> None:
    assert paths({"a": {"b": 1, "c": 2}}, {"a": {"b": 1, "c": 3}, "d": 4}) == [
        ("a.c", 2, 3),
        ("d", None, 4),
    ]


def test_members_with_names_are_compared_by_name() -> None:
    one, two = {"name": "one", "x": 1}, {"name": "two", "x": 2}
    assert paths({"f": [one, two]}, {"f": [two | {"x": 3}]}) == [
        ("f.one", one, None),
        ("f.two.x", 2, 3),
    ]


def test_members_that_refer_to_something_are_compared_by_what_it_is() -> None:
    one, two = {"ref": "feature_view/one"}, {"ref": "feature_view/two"}
    some = {"view": two, "chosen": ["a"]}
    more = {"view": two, "chosen": ["a", "b"]}
    assert paths({"f": [one, some]}, {"f": [more]}) == [
        ("f.feature_view/one", one, None),
        ("f.feature_view/two.chosen", ["a"], ["a", "b"]),
    ]
    assert paths({"f": [some, some]}, {"f": [more]}) == [("f", [some, some], [more])]


def test_another_order_is_a_change() -> None:
    one, two = {"name": "one"}, {"name": "two"}
    assert paths({"f": [one, two]}, {"f": [two, one]}) == [
        ("f", ["one", "two"], ["two", "one"]),
    ]


def test_other_lists_are_compared_as_a_whole() -> None:
    assert paths({"f": [1, 2]}, {"f": [1, 3]}) == [("f", [1, 2], [1, 3])]
    assert paths({"f": [{"x": 1}]}, {"f": [{"x": 2}]}) == [("f", [{"x": 1}], [{"x": 2}])]


@pytest.mark.parametrize(
    ("path", "shown"),
    [
        ("description", True),
        ("deprecated", True),
        ("features.m.unit", True),
        ("features.m.over", False),
        ("features.unit", False),
        ("derive.unit", False),
        ("ttl", False),
    ],
)
def test_what_is_no_part_of_the_meaning(path: str, shown: bool) -> None:  # noqa: FBT001
    assert is_shown_only(ps.FeatureView, path) is shown


def test_a_dataset_has_no_deprecation_to_show() -> None:
    assert not is_shown_only(ps.Dataset, "deprecated")
