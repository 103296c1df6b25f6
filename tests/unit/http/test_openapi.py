"""The document of a deployment is valid, true, and tells nobody what is protected."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec
import pytest
from openapi_spec_validator import validate

import penstock as ps
from penstock.algebra import reference_bins
from penstock.deployment import deploy
from penstock.http.serve_fields import Fields
from penstock.http.serve_openapi import openapi_document
from penstock.spec import key_of, to_document
from penstock.testing.composed import add_composed
from penstock.testing.manifests import manifest_of
from penstock.testing.protecting import protect

if TYPE_CHECKING:
    from collections.abc import Callable

    from penstock.records import Manifest
    from penstock.runtime import LocalServices
    from penstock.testing.served_project import ServedProject

    from .conftest import Client

Json = Any
PREDICT = "/v1/deployments/btc/predict"


@pytest.fixture
def described() -> Manifest:
    """A version whose features say all that can be said."""
    source = ps.Source(
        "sales",
        entity=ps.Entity("shop"),
        timestamp="ts",
        schema={"shop": ps.String, "ts": ps.Timestamp, "price": ps.Float64, "share": ps.Float64},
        expect=[
            ps.positive("price"),
            ps.between("share", 0, 1),
            ps.between("share", None, "price"),
            ps.one_of("shop", "north", "south"),
        ],
    )
    view = ps.FeatureView(
        "trade",
        source=source,
        derive={"part": ps.col("price") * ps.col("share")},
        features=[
            ps.mean("price", over="2d", unit="EUR", description="What a sale brings."),
            ps.max("share"),
            ps.last("part"),
            ps.sum("price"),
            ps.count(over="1d"),
        ],
    )
    names = view.names
    return manifest_of(
        *names,
        entity="shop",
        task="classification",
        dtypes={name: dtype.value for name, dtype in view.dtypes.items()},
        definitions={key_of(one): to_document(one) for one in (view, source, source.entity)},
        request={"amount": "float64", "member": "boolean"},
        bins={names[0]: reference_bins([float(price) for price in range(1, 100)])},
    )


def test_fields_say_unit_meaning_expectation_and_a_value(described: Manifest) -> None:
    fields = Fields(described, typical=True)
    mean, share, part, total, count = described.features
    assert fields.feature(mean) == {
        "type": ["number", "null"],
        "format": "double",
        "description": "What a sale brings. Expected: more than 0.",
        "x-unit": "EUR",
        "x-expected": {"exclusiveMinimum": 0},
        "examples": [50.0],
    }
    assert fields.feature(share)["x-expected"] == {"minimum": 0, "maximum": 1}
    assert "x-expected" not in fields.feature(part)
    assert fields.feature(total)["description"] == "Sum of price."
    assert fields.feature(count)["type"] == ["integer", "null"]
    assert fields.key("shop") == {
        "type": "string",
        "description": "Key of the entity shop. Expected: one of north, south.",
        "x-expected": {"enum": ["north", "south"]},
    }
    assert fields.row() == {
        "entity": {"shop": "north"},
        "request": {"amount": 1.0, "member": True},
    }
    assert Fields(described, typical=False).feature(mean)["examples"] == [1.0]


def test_a_field_on_demand_says_what_is_said_of_it() -> None:
    told = ps.feature(ps.col("x") * 2, description="Twice.", unit="EUR", deprecated="2027-01-01")
    view = ps.OnDemandView(
        "edge", request={"x": ps.Float64}, features={"twice": told, "plain": ps.col("x") + 1}
    )
    manifest = manifest_of(
        *view.names,
        dtypes={name: dtype.value for name, dtype in view.dtypes.items()},
        definitions={key_of(view): to_document(view)},
        request={"x": "float64"},
    )
    fields = Fields(manifest, typical=False)
    twice, plain = map(fields.feature, view.names)
    assert (twice["description"], twice["x-unit"], twice["deprecated"]) == ("Twice.", "EUR", True)
    assert plain["description"] == "Computed from the request when it is asked for."
    assert {"x-unit", "deprecated"}.isdisjoint(plain)


def test_a_version_without_definitions_is_described_by_its_types() -> None:
    manifest = manifest_of("v.a", "v.b")
    document: Json = openapi_document("1", {"x": manifest, "y": None}, {}, may_see=lambda _: True)
    validate(document)
    assert list(document["components"]["schemas"]["x.features"]["properties"]) == ["v.a", "v.b"]
    assert "/v1/deployments/y/predict" not in document["paths"]


def test_the_document_is_valid_and_its_examples_are_answered(
    talk: Callable[..., None], services: LocalServices, served: ServedProject
) -> None:
    add_composed(services)
    deploy(services, "btc", version=1)

    async def conversation(client: Client) -> None:
        document = (await client.get("/openapi.json")).json
        validate(document)
        asked = document["paths"][PREDICT]["post"]["requestBody"]["content"]
        examples = asked["application/json"]["examples"]
        assert list(examples) == ["entity", "features", "rows"]
        close = examples["features"]["value"]["features"][served.features[0]]
        assert 50 < close < 200  # the middle of the training rows
        for example in examples.values():
            answer = await client.post(PREDICT, msgspec.json.encode(example["value"]))
            assert answer.status == 200, answer.body

    talk(conversation)


def test_nobody_is_told_values_of_what_is_protected_from_them(
    talk: Callable[..., None], services: LocalServices
) -> None:
    deploy(services, "btc", version=1)
    token = protect(services, "momentum")

    async def conversation(client: Client) -> None:
        for who, values in ((token, [1]), (None, [24])):
            document = (await client.get("/openapi.json", token=who)).json
            features = document["components"]["schemas"]["btc.features"]["properties"]
            assert features["momentum.count_1d"]["examples"] == values
            assert document["paths"][PREDICT]["post"]["operationId"] == "predict_btc"
        assert (await client.get("/openapi.json", token="")).status == 401

    talk(conversation)


@pytest.mark.parametrize("query", ["features=yes", "features=true&features=false", "features"])
def test_a_flag_is_true_or_false(
    talk: Callable[..., None], services: LocalServices, query: str
) -> None:
    deploy(services, "btc", version=1)

    async def conversation(client: Client) -> None:
        body = b'{"entity":{"symbol":"BTC"}}'
        refused = await client.post(f"{PREDICT}?{query}", body)
        assert refused.status == 422
        assert "send true or false" in refused.message
        assert "features" not in (await client.post(f"{PREDICT}?features=false", body)).json

    talk(conversation)
