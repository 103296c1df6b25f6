"""A feature service is a named set in an order; its id changes where a feature means another."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

import penstock as ps
from penstock.errors import DeclarationError
from penstock.spec import Declared, ViewSubset, fingerprint, from_document, key_of, to_document

if TYPE_CHECKING:
    from collections.abc import Callable

    from penstock.spec import Features, FeatureService, FeatureView


def view(name: str = "v", *, entity: str = "symbol", over: str = "6h") -> FeatureView:
    source = ps.Source(
        f"{entity}-prices",
        entity=ps.Entity(entity),
        timestamp="ts",
        schema={entity: ps.String, "ts": ps.Timestamp, "close": ps.Float64},
    )
    features = [ps.last("close"), ps.count(over=over, name="n"), ps.last_k("close", 2, name="k")]
    return ps.FeatureView(name, source=source, features=features)


def service(*features: Features, **more: str) -> FeatureService:
    return ps.FeatureService("s", features=features, **more)


def test_a_service_has_its_features_in_its_order() -> None:
    first, second = view("a"), view("b")
    found = service(first["n", "last_close"], second, first["k"])
    assert found.names == (
        "a.n", "a.last_close", "b.last_close", "b.n", "b.k_1", "b.k_2", "a.k_1", "a.k_2",
    )  # fmt: skip
    assert list(found.dtypes) == list(found.names)
    assert found.dtypes["a.n"] is ps.Int64
    assert found.dtypes["a.k_2"] is ps.Float64
    assert found.views == (first, second)
    assert [entity.name for entity in found.entities] == ["symbol"]


def test_columns_of_a_feature_are_chosen_one_by_one_or_together() -> None:
    assert view()["k"].names == ("v.k_1", "v.k_2")
    assert view()["k_2", "n"].names == ("v.k_2", "v.n")
    assert view()["n"] == ViewSubset(view=view(), chosen=["n"])


def test_the_id_is_of_what_the_features_mean() -> None:
    before = service(view()["n"]).service_id
    assert len(before) == 16
    assert fingerprint(service(view()["n"])).startswith(before)
    assert service(view()["n"], description="for the app", owner="ann").service_id == before
    assert service(view(over="7h")["n"]).service_id != before
    assert service(view()["n", "last_close"]).service_id != before
    order = service(view()["last_close", "n"]), service(view()["n", "last_close"])
    assert order[0].service_id != order[1].service_id


def test_a_dataset_takes_the_features_of_a_service() -> None:
    first = view("a")
    chosen = service(first["n"], view("b")["k"])
    dataset = ps.Dataset("d", spine=first.source, features=chosen)
    assert dataset.service == chosen
    assert dataset.feature_names == chosen.names
    assert dataset.views == chosen.views
    listed = ps.Dataset("d", spine=first.source, features=[first["n"], view("b")["k"]])
    assert listed.service is None
    assert (listed.feature_names, listed.views) == (dataset.feature_names, dataset.views)
    assert fingerprint(listed) != fingerprint(dataset)


def test_services_and_subsets_survive_storage() -> None:
    chosen = service(view("a")["n", "k"], view("b"))
    other = ps.Dataset("d", spine=view().source, features=chosen)
    listed = ps.Dataset("e", spine=view().source, features=[view("a")["k_1"], view("b")])
    known: dict[str, Declared] = {}
    for value in ps.Project("p", declarations=(other, listed)).everything:
        document = json.loads(json.dumps(to_document(value)))
        known[key_of(value)] = from_document(type(value), document, known)
        assert known[key_of(value)] == value
        assert fingerprint(known[key_of(value)]) == fingerprint(value)
    assert list(known)[-3:] == ["feature_service/s", "dataset/d", "dataset/e"]


FAULTY: dict[str, tuple[Callable[[], object], str]] = {
    "no such feature": (lambda: view()["last_clos"], "Did you mean 'last_close'"),
    "a feature twice": (lambda: view()["n", "n"], "feature 'v.n' is declared 2 times"),
    "a column twice": (lambda: view()["k", "k_1"], "feature 'v.k_1' is declared 2 times"),
    "a number": (lambda: view()[0], "chosen is 0; put it into a list"),  # type: ignore[index]  # wrong
    "no feature": (lambda: view()[()], "names no feature"),
    "a service of nothing": (service, "has no feature views"),
    "twice, once whole": (lambda: service(view(), view()["n"]), "feature 'v.n' is declared 2"),
    "two views of one name": (
        lambda: service(view()["n"], view(over="1h")["k"]),
        "view 'v' is declared 2 times",
    ),
    "a service of another entity": (
        lambda: ps.Dataset("d", spine=view(entity="venue").source, features=service(view())),
        "need the entity key 'symbol', which is no column of the spine",
    ),
}


@pytest.mark.parametrize("case", FAULTY)
def test_a_fault_is_named_with_what_to_do(case: str) -> None:
    build, words = FAULTY[case]
    with pytest.raises(DeclarationError) as caught:
        build()
    assert words in caught.value.message
