"""Outputs as classes: what Triton's classification extension promises, over REST and gRPC."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.deployment import deploy
from penstock.errors import InputError
from penstock.http.grpc_messages import message
from penstock.http.grpc_tensors import infer_answer, infer_request
from penstock.http.serve_v2_classes import classified
from penstock.http.serve_v2_tensors import Output, read_tensor
from penstock.http.serve_v2_wire import read_request, write_answer
from penstock.records import Score

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from penstock.runtime import LocalServices

    from .conftest import Client

INFER = "/v2/models/btc/infer"
KEYS = {"name": "symbol", "shape": [2], "datatype": "BYTES", "data": ["BTC", "ETH"]}


def _body(count: object, name: str = "prediction", **more: object) -> bytes:
    wanted = {"name": name, "parameters": {"classification": count, **more}}
    return msgspec.json.encode({"inputs": [KEYS], "outputs": [wanted]})


def _scores(predictions: Sequence[float]) -> list[Score]:
    return [
        Score(
            prediction_id=f"id-{place}", deployment="m", model="d", version=3, route="champion",
            engine="onnx", entity="", at_us=0, features=(), prediction=prediction, scored_at_us=1,
            duration_us=1,
        )
        for place, prediction in enumerate(predictions)
    ]  # fmt: skip


@given(st.lists(st.floats(0, 1), min_size=1, max_size=5), st.integers(1, 5))
def test_the_likeliest_class_comes_first(predictions: list[float], count: int) -> None:
    told = classified(Output("prediction", "FP64", predictions), count, "classification")
    width = min(count, 2)
    assert (told.datatype, told.width, len(told.values)) == (
        "BYTES",
        width,
        width * len(predictions),
    )
    for place, true in enumerate(predictions):
        row = [str(one).split(":") for one in told.values[place * width : (place + 1) * width]]
        values = [float(value) for value, _, _ in row]
        by_label = dict(zip((label for _, _, label in row), values, strict=True))
        assert values == sorted((1.0 - true, true), reverse=True)[:width]
        assert all({"0": "false", "1": "true"}[index] == label for _, index, label in row)
        assert by_label.get("true", true) == true
        assert by_label.get("false", 1.0 - true) == 1.0 - true


def test_what_predicts_a_value_has_that_one_alone() -> None:
    told = classified(Output("prediction", "FP64", [-1.5e300, 0.1, 3]), 4, "regression")
    assert told == Output("prediction", "BYTES", ["-1.5e+300:0", "0.1:0", "3.0:0"], width=1)


def test_of_two_classes_alike_the_first_comes_first() -> None:
    told = classified(Output("prediction", "FP64", [0.5]), 1, "classification")
    assert told.values == ["0.5:0:false"]


def test_classes_are_told_as_json_and_in_binary() -> None:
    scores = _scores([0.75, 0.125])
    expected = ["0.75:1:true", "0.25:0:false", "0.875:0:false", "0.125:1:true"]
    for count in (2, 9):
        asked = read_request(_body(count))
        body, size = write_answer("m", asked, "classification", scores)
        assert size is None
        assert msgspec.json.decode(body)["outputs"] == [
            {"name": "prediction", "datatype": "BYTES", "shape": [2, 2], "data": expected}
        ]
    binary = read_request(_body(2, binary_data=True))
    body, size = write_answer("m", binary, "classification", scores)
    output = msgspec.json.decode(body[:size])["outputs"][0]
    assert (output["datatype"], output["shape"]) == ("BYTES", [2, 2])
    assert read_tensor("x", "BYTES", [2, 2], body[size:]).values == expected


@pytest.mark.parametrize("raw", [False, True])
def test_classes_are_told_by_grpc_as_the_request_came(raw: bool) -> None:  # noqa: FBT001 - a parameter
    request = message("ModelInferRequest")(model_name="m")
    tensor = request.inputs.add(name="symbol", datatype="BYTES", shape=[1])
    if raw:
        request.raw_input_contents.append(b"\3\0\0\0BTC")
    else:
        tensor.contents.bytes_contents.append(b"BTC")
    request.outputs.add(name="prediction_id")
    request.outputs.add(name="prediction").parameters["classification"].int64_param = 1
    scores = _scores([0.75])
    answer = infer_answer(request, infer_request(request), "classification", scores)
    ids, told = answer.outputs
    assert (ids.datatype, list(ids.shape)) == ("BYTES", [1])
    assert (told.datatype, list(told.shape)) == ("BYTES", [1, 1])
    if raw:
        assert answer.raw_output_contents[1] == b"\x0b\0\0\x000.75:1:true"
    else:
        assert list(told.contents.bytes_contents) == [b"0.75:1:true"]


def test_classes_are_of_the_scores_that_answer(
    talk: Callable[..., None], services: LocalServices
) -> None:
    deploy(services, "btc", version=1)

    async def conversation(client: Client) -> None:
        for path in (INFER, "/v2/models/btc/versions/1/infer"):
            plain = (await client.post(path, msgspec.json.encode({"inputs": [KEYS]}))).json
            expected = plain["outputs"][0]["data"]
            (told,) = (await client.post(path, _body(2))).json["outputs"]
            assert (told["datatype"], told["shape"]) == ("BYTES", [2, 2])
            likely = dict(one.split(":")[::2][::-1] for one in told["data"][:2])
            assert {label: float(value) for label, value in likely.items()} == {
                "true": expected[0],
                "false": 1.0 - expected[0],
            }
            none = (await client.post(path, _body(0))).json["outputs"]
            assert [(one["datatype"], one["data"]) for one in none] == [("FP64", expected)]
        assert "classification" in (await client.get("/v2")).json["extensions"]

    talk(conversation)


def test_what_has_no_classes_is_refused_before_anything_is_scored(
    talk: Callable[..., None], services: LocalServices
) -> None:
    deploy(services, "btc", version=1)
    request = message("ModelInferRequest")(model_name="btc")
    tensor = request.inputs.add(name="symbol", datatype="BYTES", shape=[1])
    tensor.contents.bytes_contents.append(b"BTC")
    request.outputs.add(name="prediction_id").parameters["classification"].int64_param = 1

    async def conversation(client: Client) -> None:
        refused: list[tuple[bytes, str]] = [
            (_body(1, "prediction_id"), "has no classes"),
            (_body(-1), "classification=-1"),
            (_body(1.5), "classification=1.5"),
            (_body("2"), "Give the number of classes wanted"),
            (_body(True), "classification=True"),  # noqa: FBT003 - in a body
        ]
        for body, text in refused:
            reply = await client.post(INFER, body)
            assert (reply.status, text in reply.message) == (422, True), reply.message
        with pytest.raises(InputError, match="has no classes"):
            infer_request(request)
        assert not client.keeper.doors["btc"].endpoint.counters.durations

    talk(conversation)
