"""The Open Inference Protocol over the application, without a socket."""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import logging
import time
import zlib
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.access import add_user
from penstock.deployment import deploy
from penstock.errors import PenstockError
from penstock.http.serve_v2_tensors import Output, Tensor, read_tensor, write_tensor
from penstock.http.serve_v2_wire import InferRequest, read_request, write_answer
from penstock.records import Score
from penstock.scoring import find_score

if TYPE_CHECKING:
    from collections.abc import Callable

    from penstock.runtime import LocalServices
    from penstock.testing.served_project import ServedProject

    from .conftest import Client

Json = Any
INFER = "/v2/models/btc/infer"
KEYS = {"name": "symbol", "shape": [2], "datatype": "BYTES", "data": ["BTC", "ETH"]}


def test_the_inference_protocol(
    talk: Callable[..., None], services: LocalServices, served: ServedProject
) -> None:
    deploy(services, "btc", version=2)
    width = len(served.features)

    async def conversation(client: Client) -> None:
        about = (await client.get("/v2/models/btc")).json
        assert [one["name"] for one in about["inputs"]] == list(served.features)
        assert about["inputs"][-1]["datatype"] == "INT64"
        assert (await client.get("/v2/models/btc/ready")).json["ready"] is True
        assert (await client.get("/v2")).json["name"] == "penstock"

        infer = "/v2/models/btc/infer"
        row = [1.0, 2.0, None, 4.0, 5]
        matrix = {"name": "x", "shape": [2, width], "datatype": "FP64", "data": [row, row]}
        one = await client.post(infer, msgspec.json.encode({"id": "a", "inputs": [matrix]}))
        assert one.status == 200
        assert one.json["id"] == "a"
        prediction, ids = one.json["outputs"]
        assert prediction["shape"] == [2]
        assert prediction["data"][0] == prediction["data"][1]
        score = find_score(services, ids["data"][0])
        assert score is not None
        assert (score.prediction, score.request_id) == (prediction["data"][0], "a")

        columns = [
            {"name": name, "shape": [1, 1], "datatype": "FP32", "data": [value]}
            for name, value in zip(served.features, row, strict=True)
        ]
        same = await client.post(infer, msgspec.json.encode({"inputs": columns}))
        one_row = pytest.approx(
            prediction["data"][:1], rel=1e-9
        )  # another engine adds up otherwise
        assert same.json["outputs"][0]["data"] == one_row

        keys = {"name": "symbol", "shape": [2], "datatype": "BYTES", "data": ["BTC", "ETH"]}
        by_key = await client.post(infer, msgspec.json.encode({"inputs": [keys]}))
        assert by_key.json["outputs"][0]["shape"] == [2]

        one_value = {"name": "x", "shape": [1], "datatype": "FP64", "data": [1.5]}
        for tensor, text in [
            (matrix | {"shape": [2, 4], "data": row + row[:3]}, "takes 5 features a row"),
            (matrix | {"data": row}, "has 5 values"),
            (matrix | {"datatype": "BYTES"}, "Features are numbers"),
            (matrix | {"data": [["a"] * 5, row]}, "send numbers, or null"),
            (one_value | {"name": "momentum.last_clos"}, "Did you mean"),
            (one_value | {"name": "momentum.last_close"}, "are missing"),
            (one_value | {"datatype": "FP65"}, "Did you mean 'FP64'?"),
            (one_value | {"shape": []}, "send [n] or [n, features]"),
            (one_value | {"shape": [0], "data": []}, "send [n] or [n, features]"),
            (keys | {"data": ["BTC", 5]}, "its keys are string"),
        ]:
            reply = await client.post(infer, msgspec.json.encode({"inputs": [tensor]}))
            assert (reply.status, text in reply.message) == (422, True), reply.message
        huge = msgspec.json.encode({"inputs": [matrix]}).replace(b"4.0", b"4" + b"0" * 400)
        reply = await client.post(infer, huge)
        assert (reply.status, "send finite numbers" in reply.message) == (422, True)
        assert (await client.post(infer, b'{"inputs":[]}')).status == 422
        assert (await client.post(infer, b'{"inputs":')).status == 400
        assert (await client.post(infer, b'{"in":1}')).status == 422

    talk(conversation)


def test_a_version_is_asked_by_its_number(
    talk: Callable[..., None], services: LocalServices
) -> None:
    deploy(services, "btc", version=1)
    deploy(services, "btc", version=2)

    async def conversation(client: Client) -> None:
        body = msgspec.json.encode({"inputs": [KEYS]})
        by_route = (await client.post(INFER, body)).json
        assert by_route["model_version"] == "2"
        one, two = [
            (await client.post(f"/v2/models/btc/versions/{number}/infer", body)).json
            for number in (1, 2)
        ]
        assert (one["model_version"], two["model_version"]) == ("1", "2")
        assert two["outputs"][0]["data"] == by_route["outputs"][0]["data"]
        assert one["outputs"][0]["data"] != two["outputs"][0]["data"]
        score = find_score(services, one["outputs"][1]["data"][0])
        assert score is not None
        assert score.version == 1

        about = (await client.get("/v2/models/btc/versions/1")).json
        assert about["versions"] == ["1", "2"]
        assert (await client.get("/v2/models/btc/versions/1/ready")).status == 200
        for path in ("/v2/models/btc/versions/7", "/v2/models/btc/versions/x/ready",
                     "/v2/models/btc/versions/" + "1" * 5_000,
                     "/v2/models/btc/versions/", "/v2/models/btc/versions"):  # fmt: skip
            missing = await client.get(path)
            assert (missing.status, "only with 1, 2" in missing.message) == (404, True)
        assert (await client.post("/v2/models/btc/versions/7/infer", body)).status == 404

    talk(conversation)


def test_binary_tensors_in_and_out(talk: Callable[..., None], services: LocalServices) -> None:
    deploy(services, "btc", version=2)
    rows = np.array([[1.0, 2.0, np.nan, 4.0, 5.0], [9.0, 8.0, 7.0, 6.0, 5.0]])

    def binary(array: np.ndarray[Any, Any], datatype: str, **more: Json) -> tuple[bytes, bytes]:
        tensor = {"name": "x", "shape": list(array.shape), "datatype": datatype}
        data = array.tobytes()
        head = msgspec.json.encode(
            {"inputs": [tensor | {"parameters": {"binary_data_size": len(data)}}]} | more
        )
        return head + data, str(len(head)).encode()

    async def conversation(client: Client) -> None:
        data = [[None if np.isnan(one) else one for one in row] for row in rows.tolist()]
        matrix = {"name": "x", "shape": [2, 5], "datatype": "FP64", "data": data}
        expected = (await client.post(INFER, msgspec.json.encode({"inputs": [matrix]}))).json
        expected = expected["outputs"][0]["data"]
        length = b"inference-header-content-length"

        for array, datatype in ((rows, "FP64"), (rows.astype("<f4"), "FP32")):
            body, size = binary(array, datatype)
            told = await client.post(INFER, body, headers=[(length, size)])
            assert told.json["outputs"][0]["data"] == expected, told.body

        all_binary = {"parameters": {"binary_data_output": True}}
        body, size = binary(rows, "FP64", **all_binary)
        told = await client.post(INFER, body, headers=[(length, size)])
        assert told.headers["content-type"] == "application/octet-stream"
        cut = int(told.headers[length.decode()])
        first, second = msgspec.json.decode(told.body[:cut])["outputs"]
        assert first["parameters"] == {"binary_data_size": 16}
        assert np.frombuffer(told.body[cut : cut + 16]).tolist() == expected
        texts = read_tensor("ids", "BYTES", [2], told.body[cut + 16 :])
        assert second["parameters"]["binary_data_size"] == len(told.body) - cut - 16
        assert find_score(services, texts.values[1]) is not None

        packed = {"name": "prediction", "parameters": {"binary_data": True}}
        some = {"outputs": [{"name": "prediction_id"}, packed]}
        body, size = binary(rows, "FP64", **(some | all_binary))
        told = await client.post(INFER, body, headers=[(length, size)])
        cut = int(told.headers[length.decode()])
        ids, prediction = msgspec.json.decode(told.body[:cut])["outputs"]
        assert (ids["name"], len(ids["data"])) == ("prediction_id", 2)
        assert prediction["parameters"] == {"binary_data_size": 16}
        assert np.frombuffer(told.body[cut:]).tolist() == expected

        body, size = binary(rows, "FP64")
        for wrong, header, text in [
            (body, b"9999999", "Give the length of the JSON"),
            (body, b"-1", "Give the length of the JSON"),
            (body, b"9" * 5_000, "Give the length of the JSON"),
            (body, b"", "no JSON"),
            (body[:-8], size, "send as many as they say"),
            (body + b"\0", size, "the inputs say 80"),
            (binary(np.array([[np.inf] * 5]), "FP64")[0], size, "finite"),
            (binary(rows, "FP64", outputs=[{"name": "predicton"}])[0], b"", "Did you mean"),
        ]:
            size_given = header or str(wrong.index(b"]}") + 2).encode()
            headers = [] if not header and text == "no JSON" else [(length, size_given)]
            reply = await client.post(INFER, wrong, headers=headers)
            if text == "Did you mean":
                cut = len(wrong) - rows.nbytes
                reply = await client.post(INFER, wrong, headers=[(length, str(cut).encode())])
            assert reply.status in {400, 422}
            assert text.lower() in reply.message.lower(), reply.message

    talk(conversation)


def test_a_shape_of_many_large_numbers_costs_no_time(
    talk: Callable[..., None], services: LocalServices
) -> None:
    """They were multiplied, for seconds in which nobody was answered."""
    deploy(services, "btc", version=1)

    async def conversation(client: Client) -> None:
        for count in (9, 45_000):
            tensor = {"name": "x", "shape": [1 << 62] * count, "datatype": "FP64", "data": [1.0]}
            began_s = time.monotonic()
            reply = await client.post(INFER, msgspec.json.encode({"inputs": [tensor]}))
            assert time.monotonic() - began_s < 1
            assert (reply.status, f"and {count - 8} more" in reply.message) == (422, True)

    talk(conversation)


def test_an_input_that_is_there_twice_is_refused(
    talk: Callable[..., None], services: LocalServices
) -> None:
    """One of them counted, and nobody could know which."""
    deploy(services, "btc", version=1)

    async def conversation(client: Client) -> None:
        reply = await client.post(INFER, msgspec.json.encode({"inputs": [KEYS, KEYS]}))
        assert (reply.status, "'symbol' is there twice" in reply.message) == (422, True)

    talk(conversation)


def test_an_output_that_there_is_not_is_refused_before_anything_is_scored(
    talk: Callable[..., None], services: LocalServices
) -> None:
    deploy(services, "btc", version=1)

    async def conversation(client: Client) -> None:
        body = {"inputs": [KEYS], "outputs": [{"name": "predicton"}]}
        reply = await client.post(INFER, msgspec.json.encode(body))
        assert (reply.status, "Did you mean 'prediction'?" in reply.message) == (422, True)
        assert not client.keeper.doors["btc"].endpoint.counters.durations

    talk(conversation)


def test_what_is_not_supported_says_so(talk: Callable[..., None], services: LocalServices) -> None:
    deploy(services, "btc", version=1)

    async def conversation(client: Client) -> None:
        shared = KEYS | {"parameters": {"shared_memory_region": "r", "binary_data_size": 4}}
        reply = await client.post(INFER, msgspec.json.encode({"inputs": [shared]}))
        assert (reply.status, "not supported" in reply.message) == (501, True)
        path = "/v2/systemsharedmemory/region/r/register"
        assert (await client.post(path, b"{}")).status == 501
        level = b'{"trace_level":["TIMESTAMPS"]}'
        assert (await client.post("/v2/trace/setting", level)).status == 501
        assert (await client.get("/v2/trace/setting")).json["trace_level"] == ["OFF"]
        off = b'{"trace_level":["OFF"]}'
        assert (await client.post("/v2/models/btc/trace/setting", off)).status == 200

    talk(conversation)


@pytest.mark.parametrize("name", ["gzip", "deflate"])
def test_bodies_come_and_go_packed(
    talk: Callable[..., None], services: LocalServices, name: str
) -> None:
    deploy(services, "btc", version=1)
    pack = gzip.compress if name == "gzip" else zlib.compress
    unpack = gzip.decompress if name == "gzip" else zlib.decompress

    async def conversation(client: Client) -> None:
        many = KEYS | {"shape": [300], "data": ["BTC", "ETH", "ADA"] * 100}
        body = msgspec.json.encode({"inputs": [many]})
        accept = (b"accept-encoding", f"br, {name}".encode())
        encoding = (b"content-encoding", name.encode())
        told = await client.post(INFER, pack(body), headers=[encoding, accept])
        assert told.headers["content-encoding"] == name
        assert len(msgspec.json.decode(unpack(told.body))["outputs"][0]["data"]) == 300
        short = await client.post(INFER, pack(msgspec.json.encode({"inputs": [KEYS]})),
                                  headers=[encoding, accept])  # fmt: skip
        assert "content-encoding" not in short.headers

        bomb = pack(b" " * (2 << 20))
        assert len(bomb) < 10_000
        for wrong, header, status in [
            (bomb, encoding, 413),
            (pack(body)[:-6], encoding, 400),
            (pack(body) + b"more", encoding, 400),
            (body, encoding, 400),
            (b"", encoding, 400),
            (body, (b"content-encoding", b"br"), 415),
        ]:
            assert (await client.post(INFER, wrong, headers=[header])).status == status
        plain = await client.post(INFER, body, headers=[(b"content-encoding", b"identity")])
        assert plain.status == 200

    talk(conversation)


def test_a_deployment_is_unloaded_and_loaded_again(
    talk: Callable[..., None], services: LocalServices
) -> None:
    deploy(services, "btc", version=1)

    async def conversation(client: Client) -> None:
        body = msgspec.json.encode({"inputs": [KEYS]})
        index = "/v2/repository/index"
        states = {one["name"]: one["state"] for one in (await client.post(index, b"")).json}
        assert states == {"btc": "READY", "split": "READY"}
        assert (await client.post("/v2/repository/models/btc/unload", b"{}")).status == 200
        gone = await client.post(INFER, body)
        assert (gone.status, "was unloaded" in gone.message) == (503, True)
        assert (await client.get("/v2/models/btc/ready")).status == 503
        told = (await client.post(index, b"{}")).json
        assert [one["state"] for one in told if one["name"] == "btc"] == ["UNAVAILABLE"]
        assert (await client.post("/v2/models/split/infer", body)).status == 200

        # What changes meanwhile does not bring it back.
        done = await asyncio.to_thread(deploy, services, "btc", version=2)
        assert done.processes == 0
        await client.keeper.load("split", actor="tester")
        assert (await client.post(INFER, body)).status == 503

        assert (await client.post("/v2/repository/models/btc/load", b"{}")).status == 200
        assert (await client.post(INFER, body)).json["model_version"] == "2"
        missing = await client.post("/v2/repository/models/btx/load", b"{}")
        assert (missing.status, "Did you mean 'btc'" in missing.message) == (404, True)

    talk(conversation)
    said = [(one.action, one.subject) for one in services.metadata.audit()]
    assert ("serving.unload", "deployment:btc") in said
    assert ("serving.load", "deployment:btc") in said


def test_loading_and_unloading_ignore_no_parameter(
    talk: Callable[..., None], services: LocalServices
) -> None:
    deploy(services, "btc", version=1)
    load, unload = (f"/v2/repository/models/btc/{what}" for what in ("load", "unload"))

    async def conversation(client: Client) -> None:
        for name in ("config", "file:1/model.onnx"):
            body = msgspec.json.encode({"parameters": {name: "{}"}})
            reply = await client.post(load, body)
            assert (reply.status, "penstock deploy" in reply.message) == (501, True)
            assert (await client.post(unload, body)).status == 422
        for path in (load, unload):
            for wrong in (b"[]", b"{", b'{"parameters":[]}', b'{"parameters":{"unload_dep":1}}'):
                assert (await client.post(path, wrong)).status == 422
        assert "btc" not in client.keeper.unloaded
        for dependents in (b"true", b"false"):
            body = b'{"parameters":{"unload_dependents":%b}}' % dependents
            assert (await client.post(unload, body)).status == 200
            assert "btc" in client.keeper.unloaded
            assert (await client.post(load, b"")).status == 200

    talk(conversation)


def test_statistics_and_configuration(
    talk: Callable[..., None], services: LocalServices, served: ServedProject
) -> None:
    deploy(services, "btc", version=1)

    async def conversation(client: Client) -> None:
        for _ in range(3):
            await client.post(INFER, msgspec.json.encode({"inputs": [KEYS]}))
        (told,) = (await client.get("/v2/models/btc/stats")).json["model_stats"]
        assert (told["name"], told["version"]) == ("btc", "1")
        assert (told["inference_count"], told["execution_count"]) == (6, 3)
        assert told["inference_stats"]["success"]["count"] == 6
        success, queue = (told["inference_stats"][one]["ns"] for one in ("success", "queue"))
        assert success > queue > 0
        (by_size,) = told["batch_stats"]
        assert (by_size["batch_size"], by_size["compute_infer"]["count"]) == (2, 3)
        everything = (await client.get("/v2/models/stats")).json["model_stats"]
        assert {one["name"] for one in everything} == {"btc", "split"}
        config = (await client.get("/v2/models/btc/config")).json
        assert [one["name"] for one in config["input"]] == list(served.features)
        assert config["input"][-1] == {
            "name": "momentum.count_1d", "data_type": "TYPE_INT64", "dims": [-1],
        }  # fmt: skip
        assert config["output"][1]["data_type"] == "TYPE_STRING"

    talk(conversation)


def test_what_is_logged_is_chosen_while_the_server_runs(talk: Callable[..., None]) -> None:
    root = logging.getLogger()
    before = root.level

    async def conversation(client: Client) -> None:
        told = await client.post("/v2/logging", b'{"log_verbose_level":1}')
        assert (told.json["log_verbose_level"], root.level) == (1, logging.DEBUG)
        quiet = b'{"log_verbose_level":0,"log_info":false}'
        told = await client.post("/v2/logging", quiet)
        assert (told.json["log_info"], root.level) == (False, logging.WARNING)
        assert (await client.get("/v2/logging")).json == told.json
        for wrong, status in [
            (b'{"log_inf":true}', 422),
            (b'{"log_info":1}', 422),
            (b'{"log_verbose_level":"a"}', 422),
            (b"[]", 422),
            (b'{"log_file":"x"}', 501),
        ]:
            assert (await client.post("/v2/logging", wrong)).status == status
        assert root.level == logging.WARNING

    try:
        talk(conversation)
    finally:
        root.setLevel(before)


def test_who_may_do_what(talk: Callable[..., None], services: LocalServices) -> None:
    deploy(services, "btc", version=1)
    token = add_user(services, "eve", "writer")

    async def conversation(client: Client) -> None:
        for path in ("/v2/repository/models/btc/unload", "/v2/logging", "/v2/trace/setting"):
            assert (await client.post(path, b"{}", token=token)).status == 403
            assert (await client.post(path, b"{}", token="")).status == 401
        assert (await client.get("/v2/health/live", token="")).status == 200
        assert (await client.get("/v2/models/btc", token="")).status == 401
        reply = await client.post(INFER, b"{}", token="")
        assert isinstance(reply.json["error"], str)
        assert reply.json["kind"] == "access"

    talk(conversation)


@given(st.binary(max_size=300), st.one_of(st.just(b""), st.integers(0, 400).map(str)))
def test_any_body_is_read_or_refused(body: bytes, header: bytes | str) -> None:
    size = header.encode() if isinstance(header, str) else header
    with contextlib.suppress(PenstockError):
        assert read_request(body, size).tensors


SHAPES = st.lists(st.integers(-1, 4), max_size=3)
DATATYPES = st.sampled_from(
    ["BOOL", "INT8", "UINT64", "FP16", "BF16", "FP32", "FP64", "BYTES", "X"]
)


@given(st.binary(max_size=64), SHAPES, DATATYPES)
def test_any_data_is_a_tensor_or_refused(data: bytes, shape: list[int], datatype: str) -> None:
    with contextlib.suppress(PenstockError):
        tensor = read_tensor("x", datatype, shape, data)
        assert len(tensor.values) == int(np.prod(shape))
        assert not any(value != value for value in tensor.values)  # noqa: PLR0124 - NaN is null


@given(st.lists(st.text(max_size=9), min_size=1, max_size=5))
def test_texts_come_back(texts: list[str]) -> None:
    data = write_tensor(Output("x", "BYTES", texts))
    assert read_tensor("x", "BYTES", [len(texts)], data).values == texts


def test_half_floats_are_read() -> None:
    wanted = np.array([1.5, -2.0, 0.15625], dtype=np.float32)
    brain = (wanted.view(np.uint32) >> 16).astype("<u2").tobytes()
    assert read_tensor("x", "BF16", [3], brain).values == wanted.tolist()
    assert read_tensor("x", "FP16", [3], wanted.astype("<f2").tobytes()).values == wanted.tolist()


def test_an_answer_says_what_was_asked() -> None:
    asked = InferRequest("", [Tensor("x", "FP64", [1], [1.0])])
    score = Score(
        prediction_id="a", deployment="m", model="d", version=3, route="champion", engine="onnx",
        entity="", at_us=0, features=(), prediction=0.5, scored_at_us=1, duration_us=1,
    )  # fmt: skip
    body, size = write_answer("m", asked, "regression", [score])
    assert size is None
    assert msgspec.json.decode(body) == {
        "model_name": "m", "model_version": "3",
        "outputs": [
            {"name": "prediction", "datatype": "FP64", "shape": [1], "data": [0.5]},
            {"name": "prediction_id", "datatype": "BYTES", "shape": [1], "data": ["a"]},
        ],
    }  # fmt: skip
