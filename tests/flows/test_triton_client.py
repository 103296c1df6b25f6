"""NVIDIA's own client against a serving process: every call that it offers but shared memory."""

from __future__ import annotations

import asyncio
import queue
import socket
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import grpc
import msgspec
import numpy as np
import pytest

import penstock as ps
from penstock.deployment import deploy
from penstock.http.grpc_messages import SERVICE, message
from penstock.plan import Catalogue, apply
from penstock.runtime import open_services
from penstock.testing.ports import free_port
from penstock.testing.serving import serving

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator

    from penstock.testing.served_project import ServedProject

triton = pytest.importorskip("tritonclient.http", reason="tritonclient is not installed")
grpc_client = pytest.importorskip("tritonclient.grpc", reason="tritonclient is not installed")
http_aio = pytest.importorskip("tritonclient.http.aio", reason="tritonclient is not installed")
grpc_aio = pytest.importorskip("tritonclient.grpc.aio", reason="tritonclient is not installed")
pytestmark = pytest.mark.slow

ROWS = np.array([[100.0, 0.01, 0.02, 101.0, 24.0], [50.0, -0.01, 0.1, 52.0, 3.0]])


class Asked:
    """A client with a token, as a caller has to bring one each time."""

    def __init__(self, url: str, token: str) -> None:
        self.client = triton.InferenceServerClient(url)
        self.headers = {"Authorization": f"Bearer {token}"}

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 - a library without types
        call = getattr(self.client, name)

        def asked(*args: Any, **options: Any) -> Any:  # noqa: ANN401 - as above
            # A copy: the client writes into what it is given.
            return call(*args, headers=dict(self.headers), **options)

        return asked


def _deploy_both(served: ServedProject) -> None:
    with open_services(served.home, actor="tester") as services:
        deploy(services, "btc", version=1)
        deploy(services, "btc", version=2)


@pytest.fixture
def asked(served: ServedProject) -> Iterator[Asked]:
    _deploy_both(served)
    with serving(served) as http:
        found = Asked(f"{http.base_url.host}:{http.base_url.port}", served.token)
        yield found
        found.client.close()


def matrix(*, binary: bool = True, dtype: str = "FP64") -> Any:  # noqa: ANN401 - as above
    tensor = triton.InferInput("x", list(ROWS.shape), dtype)
    rows = ROWS.astype(np.float32) if dtype == "FP32" else ROWS
    tensor.set_data_from_numpy(rows, binary_data=binary)
    return tensor


def test_every_call(asked: Asked) -> None:
    assert asked.is_server_live()
    assert asked.is_server_ready()
    assert asked.is_model_ready("btc")
    assert asked.is_model_ready("btc", "1")
    assert not asked.is_model_ready("btc", "9")
    assert not asked.is_model_ready("nobody")
    assert "binary_tensor_data" in asked.get_server_metadata()["extensions"]
    assert asked.get_model_metadata("btc")["versions"] == ["1", "2"]
    assert asked.get_model_config("btc", "2")["backend"] == "penstock"
    index = asked.get_model_repository_index()
    assert ("btc", "2", "READY") in {(one["name"], one["version"], one["state"]) for one in index}
    asked.unload_model("btc")
    assert not asked.is_model_ready("btc")
    with pytest.raises(triton.InferenceServerException, match="was unloaded here by"):
        asked.infer("btc", [matrix()])
    with pytest.raises(triton.InferenceServerException, match="with 'penstock deploy'") as refused:
        asked.load_model("btc", config="{}")
    assert refused.value.status() == "501"
    assert not asked.is_model_ready("btc")
    asked.load_model("btc")
    assert asked.is_model_ready("btc")
    asked.unload_model("btc", unload_dependents=True)
    assert not asked.is_model_ready("btc")
    asked.load_model("btc")
    asked.infer("btc", [matrix()])
    stats = asked.get_inference_statistics("btc", "2")["model_stats"]
    assert stats[0]["inference_count"] == 2
    assert asked.get_inference_statistics()["model_stats"]
    assert asked.get_trace_settings()["trace_level"] == ["OFF"]
    assert asked.update_trace_settings("btc", {"trace_level": ["OFF"]})
    assert asked.update_log_settings({"log_verbose_level": 1})["log_verbose_level"] == 1
    assert asked.get_log_settings()["log_info"] is True
    with pytest.raises(triton.InferenceServerException, match="Shared memory is not supported"):
        asked.get_system_shared_memory_status()


def test_every_way_to_infer(asked: Asked) -> None:
    told = asked.infer("btc", [matrix()])
    expected = told.as_numpy("prediction")
    assert expected.shape == (2,)
    assert told.as_numpy("prediction_id")[0].decode()
    assert told.get_response()["model_version"] == "2"

    def same(result: Any) -> None:  # noqa: ANN401 - as above
        assert result.as_numpy("prediction").tolist() == expected.tolist()

    same(asked.infer("btc", [matrix(binary=False)]))
    same(asked.infer("btc", [matrix()], model_version="2", request_id="mine"))
    for binary in (True, False):
        wanted = [triton.InferRequestedOutput("prediction", binary_data=binary)]
        result = asked.infer("btc", [matrix()], outputs=wanted)
        same(result)
        assert result.as_numpy("prediction_id") is None
    for name in ("gzip", "deflate"):
        same(asked.infer("btc", [matrix()], request_compression_algorithm=name,
                         response_compression_algorithm=name))  # fmt: skip
    same(asked.async_infer("btc", [matrix()]).get_result())
    other = asked.infer("btc", [matrix(dtype="FP32")], model_version="1")
    assert other.as_numpy("prediction").tolist() != expected.tolist()

    keys = triton.InferInput("symbol", [2], "BYTES")
    keys.set_data_from_numpy(np.array(["BTC", "ETH"], dtype=object))
    assert asked.infer("btc", [keys]).as_numpy("prediction").shape == (2,)
    with pytest.raises(triton.InferenceServerException, match="Did you mean 'prediction'"):
        asked.infer("btc", [matrix()], outputs=[triton.InferRequestedOutput("predicton")])


def _likely(told: Any) -> list[dict[str, float]]:  # noqa: ANN401 - as above
    """The likelihood of each class of each row, as it was told."""
    return [
        {label: float(value) for value, _, label in (one.split(":") for one in row)}
        for row in told.as_numpy("prediction").astype(str)
    ]


def test_classes_are_told_as_triton_tells_them(asked: Asked) -> None:
    expected = asked.infer("btc", [matrix()]).as_numpy("prediction").tolist()
    for binary in (True, False):
        wanted = [triton.InferRequestedOutput("prediction", binary_data=binary, class_count=2)]
        told = asked.infer("btc", [matrix()], outputs=wanted)
        assert told.as_numpy("prediction").shape == (2, 2)
        assert _likely(told) == [{"true": true, "false": 1.0 - true} for true in expected]
    ids = triton.InferRequestedOutput("prediction_id", class_count=1)
    with pytest.raises(triton.InferenceServerException, match="has no classes"):
        asked.infer("btc", [matrix()], outputs=[ids])


def test_a_sequence_is_answered_request_by_request(asked: Asked) -> None:
    expected = asked.infer("btc", [matrix()]).as_numpy("prediction").tolist()
    for place in range(3):
        told = asked.infer("btc", [matrix()], sequence_id=41, sequence_start=place == 0,
                           sequence_end=place == 2, priority=1, timeout=20_000_000)  # fmt: skip
        assert told.as_numpy("prediction").tolist() == expected
    by_name = asked.infer("btc", [matrix()], sequence_id="a", sequence_end=True)
    assert by_name.as_numpy("prediction").tolist() == expected


@pytest.fixture
def by_grpc(served: ServedProject) -> Iterator[tuple[Any, dict[str, str]]]:
    port = _with_grpc(served)
    _deploy_both(served)
    token = {"authorization": f"Bearer {served.token}"}
    with serving(served), grpc_client.InferenceServerClient(f"127.0.0.1:{port}") as client:
        yield client, token


def _with_grpc(served: ServedProject, port: int = 0) -> int:
    """Set a port for gRPC, a free one where none is given; returns it."""
    port = port or free_port()
    with (served.home / "penstock.toml").open("a", encoding="utf-8") as settings:
        settings.write(f"\nserve_grpc_port = {port}\n")
    return port


def test_metadata_leads_to_a_version_as_a_header_does(served: ServedProject) -> None:
    port = _with_grpc(served)
    _deploy_both(served)
    with open_services(served.home, actor="tester") as services:
        catalogue = Catalogue.load(services.metadata)
        routes = [ps.champion(), ps.by_header("X-Group", "beta", version=1)]
        plain = catalogue.deployment("split")
        declared = msgspec.structs.replace(catalogue.deployment("btc"), routes=routes)
        project = ps.Project("served", declarations=[declared, plain])
        apply(services.metadata, project, actor="tester", now=services.clock.now())
    token = {"authorization": f"Bearer {served.token}"}
    body = {"entity": {"symbol": "BTC"}}

    with serving(served) as http, grpc_client.InferenceServerClient(f"127.0.0.1:{port}") as client:
        tensor = grpc_client.InferInput("x", list(ROWS.shape), "FP64")
        tensor.set_data_from_numpy(ROWS)
        asked = [
            client.infer("btc", [tensor], headers={**token, **more})
            for more in ({}, {"x-group": "beta"}, {"x-group": "alpha"})
        ]
        by_grpc = [one.as_numpy("prediction").tolist() for one in asked]
        by_http = [
            http.post("/v1/deployments/btc/predict", json=body, headers=more).json()
            for more in ({}, {"X-Group": "beta"}, {"X-Group": "alpha"})
        ]

    assert by_grpc[0] == by_grpc[2] != by_grpc[1]
    assert [(one["version"], one["route"]) for one in by_http] == [
        (2, "champion"), (1, "header"), (2, "champion"),
    ]  # fmt: skip
    assert by_http[1]["reason"] == "header x-group=beta"


def test_every_call_of_grpc(by_grpc: tuple[Any, dict[str, str]]) -> None:
    client, token = by_grpc
    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.is_model_ready("btc", headers=token)
    assert not client.is_model_ready("btc", "9", headers=token)
    assert "binary_tensor_data" in client.get_server_metadata(headers=token).extensions
    assert list(client.get_model_metadata("btc", headers=token).versions) == ["1", "2"]
    config = client.get_model_config("btc", "1", headers=token).config
    assert (config.backend, config.input[4].name) == ("penstock", "momentum.count_1d")
    assert list(config.version_policy.specific.versions) == [1]
    index = client.get_model_repository_index(headers=token).models
    assert ("btc", "2", "READY") in {(one.name, one.version, one.state) for one in index}
    client.unload_model("btc", headers=token)
    with pytest.raises(triton.InferenceServerException, match="was unloaded") as refused:
        client.infer("btc", [grpc_matrix()], headers=token)
    assert refused.value.status() == "StatusCode.UNAVAILABLE"
    client.load_model("btc", headers=token)
    assert client.is_model_ready("btc", headers=token)
    client.unload_model("btc", unload_dependents=True, headers=token)
    assert not client.is_model_ready("btc", headers=token)
    client.load_model("btc", headers=token)

    client.infer("btc", [grpc_matrix()], headers=token)
    stats = client.get_inference_statistics("btc", "2", headers=token).model_stats
    assert stats[0].inference_count == 2
    assert client.get_inference_statistics(headers=token).model_stats
    trace = client.get_trace_settings(headers=token).settings
    assert list(trace["trace_level"].value) == ["OFF"]
    client.update_trace_settings("btc", {"trace_level": ["OFF"]}, headers=token)
    logs = client.update_log_settings({"log_verbose_level": 1}, headers=token).settings
    assert logs["log_verbose_level"].uint32_param == 1
    assert client.get_log_settings(headers=token).settings["log_info"].bool_param


def test_every_way_to_infer_by_grpc(by_grpc: tuple[Any, dict[str, str]]) -> None:
    client, token = by_grpc
    told = client.infer("btc", [grpc_matrix()], request_id="mine", headers=token)
    expected = told.as_numpy("prediction")
    assert expected.shape == (2,)
    assert told.get_response().id == "mine"
    assert told.as_numpy("prediction_id")[0].decode()
    wanted = [grpc_client.InferRequestedOutput("prediction")]
    only = client.infer("btc", [grpc_matrix()], outputs=wanted, headers=token)
    assert only.as_numpy("prediction").tolist() == expected.tolist()
    assert only.as_numpy("prediction_id") is None
    by_version = client.infer("btc", [grpc_matrix()], model_version="1", headers=token)
    assert by_version.as_numpy("prediction").tolist() != expected.tolist()
    keys = grpc_client.InferInput("symbol", [2], "BYTES")
    keys.set_data_from_numpy(np.array(["BTC", "ETH"], dtype=object))
    assert client.infer("btc", [keys], headers=token).as_numpy("prediction").shape == (2,)


def test_more_ways_to_ask_by_grpc(by_grpc: tuple[Any, dict[str, str]]) -> None:
    client, token = by_grpc
    expected = client.infer("btc", [grpc_matrix()], headers=token).as_numpy("prediction").tolist()
    answers: queue.Queue[tuple[Any, Any]] = queue.Queue()
    client.async_infer(
        "btc", [grpc_matrix()], lambda result, error: answers.put((result, error)), headers=token
    )
    result, error = answers.get(timeout=20)
    assert error is None
    assert result.as_numpy("prediction").tolist() == expected
    for name in ("gzip", "deflate"):
        packed = client.infer("btc", [grpc_matrix()], headers=token, compression_algorithm=name)
        assert packed.as_numpy("prediction").tolist() == expected
    assert result.get_response(as_json=True)["model_name"] == "btc"
    assert client.get_model_metadata("btc", headers=token, as_json=True)["name"] == "btc"
    timed = client.infer("btc", [grpc_matrix()], headers=token, client_timeout=20.0)
    assert timed.as_numpy("prediction").tolist() == expected


def test_the_clients_of_asyncio(served: ServedProject) -> None:
    port = _with_grpc(served)
    _deploy_both(served)
    token = {"authorization": f"Bearer {served.token}"}

    async def by_http(url: str) -> list[float]:
        async with http_aio.InferenceServerClient(url) as client:
            assert await client.is_model_ready("btc", headers=dict(token))
            told = await client.infer("btc", [matrix()], headers=dict(token))
            return list(told.as_numpy("prediction"))

    async def by_grpc() -> tuple[list[float], list[list[float]]]:
        async def asked() -> AsyncIterator[Any]:
            for _ in range(2):
                yield {"model_name": "btc", "inputs": [grpc_matrix()]}

        async with grpc_aio.InferenceServerClient(f"127.0.0.1:{port}") as client:
            assert await client.is_model_ready("btc", headers=token)
            told = await client.infer("btc", [grpc_matrix()], headers=token)
            streamed = []
            async for result, error in client.stream_infer(asked(), headers=token):
                assert error is None
                streamed.append(list(result.as_numpy("prediction")))
            return list(told.as_numpy("prediction")), streamed

    with serving(served) as http:
        expected = asyncio.run(by_http(f"{http.base_url.host}:{http.base_url.port}"))
        told, streamed = asyncio.run(by_grpc())

    assert len(expected) == 2
    assert told == expected
    assert streamed == [expected, expected]


def test_what_fails_by_grpc(by_grpc: tuple[Any, dict[str, str]]) -> None:
    client, token = by_grpc
    narrow, traced = [grpc_matrix(width=4)], {"trace_level": ["TENSORS"]}
    failing: list[tuple[Callable[[], Any], str]] = [
        (lambda: client.infer("btx", [grpc_matrix()], headers=token), "NOT_FOUND"),
        (lambda: client.infer("btc", [grpc_matrix()]), "UNAUTHENTICATED"),
        (lambda: client.infer("btc", narrow, headers=token), "INVALID_ARGUMENT"),
        (lambda: client.get_system_shared_memory_status(headers=token), "UNIMPLEMENTED"),
        (lambda: client.load_model("btc", config="{}", headers=token), "UNIMPLEMENTED"),
        (lambda: client.load_model("btc", files={"file:1/m": b""}, headers=token), "UNIMPLEMENTED"),
        (lambda: client.update_trace_settings("btc", traced, headers=token), "UNIMPLEMENTED"),
    ]
    for call, code in failing:
        with pytest.raises(triton.InferenceServerException) as failed:
            call()
        assert failed.value.status() == f"StatusCode.{code}"


def test_classes_are_told_over_grpc(by_grpc: tuple[Any, dict[str, str]]) -> None:
    client, token = by_grpc
    expected = client.infer("btc", [grpc_matrix()], headers=token).as_numpy("prediction").tolist()
    wanted = [grpc_client.InferRequestedOutput("prediction", class_count=1)]
    told = client.infer("btc", [grpc_matrix()], outputs=wanted, headers=token)
    assert told.as_numpy("prediction").shape == (2, 1)
    assert [max(one.values()) for one in _likely(told)] == [max(p, 1.0 - p) for p in expected]
    ids = [grpc_client.InferRequestedOutput("prediction_id", class_count=1)]
    with pytest.raises(triton.InferenceServerException) as refused:
        client.infer("btc", [grpc_matrix()], outputs=ids, headers=token)
    assert refused.value.status() == "StatusCode.INVALID_ARGUMENT"


def test_a_sequence_is_answered_request_by_request_over_grpc(
    by_grpc: tuple[Any, dict[str, str]],
) -> None:
    client, token = by_grpc
    expected = client.infer("btc", [grpc_matrix()], headers=token).as_numpy("prediction").tolist()
    for named in (41, "a"):
        told = client.infer("btc", [grpc_matrix()], headers=token, sequence_id=named,
                            sequence_start=True, sequence_end=True, priority=1)  # fmt: skip
        assert told.as_numpy("prediction").tolist() == expected
    answers: queue.Queue[tuple[Any, Any]] = queue.Queue()
    client.start_stream(lambda result, error: answers.put((result, error)), headers=token)
    for place in range(3):
        client.async_stream_infer("btc", [grpc_matrix()], request_id=str(place), sequence_id=41,
                                  sequence_start=place == 0, sequence_end=place == 2)  # fmt: skip
    streamed = [answers.get(timeout=20) for _ in range(3)]
    client.stop_stream()
    assert [error for _, error in streamed] == [None] * 3
    assert [one.get_response().id for one, _ in streamed] == ["0", "1", "2"]
    assert all(one.as_numpy("prediction").tolist() == expected for one, _ in streamed)


def test_a_stream_goes_on_after_a_failure(by_grpc: tuple[Any, dict[str, str]]) -> None:
    client, token = by_grpc
    expected = client.infer("btc", [grpc_matrix()], headers=token).as_numpy("prediction")
    answers: queue.Queue[tuple[Any, Any]] = queue.Queue()
    client.start_stream(lambda result, error: answers.put((result, error)), headers=token)
    for name in ("btc", "btx", "btc"):
        client.async_stream_infer(name, [grpc_matrix()])
    streamed = [answers.get(timeout=20) for _ in range(3)]
    client.stop_stream()
    assert streamed[0][0].as_numpy("prediction").tolist() == expected.tolist()
    assert "Did you mean 'btc'" in str(streamed[1][1])
    assert streamed[2][0].as_numpy("prediction").tolist() == expected.tolist()


def test_a_stream_tells_with_each_answer_that_it_is_the_last(
    by_grpc: tuple[Any, dict[str, str]],
) -> None:
    client, token = by_grpc
    answers: queue.Queue[tuple[Any, Any]] = queue.Queue()
    client.start_stream(lambda result, error: answers.put((result, error)), headers=token)
    for number in range(4):
        client.async_stream_infer(
            "btc", [grpc_matrix()], request_id=str(number), enable_empty_final_response=number < 2
        )
    waiting = {"0", "1", "2", "3"}
    while waiting:
        result, error = answers.get(timeout=20)
        assert error is None
        told = result.get_response()
        assert result.as_numpy("prediction").shape == (2,)
        if told.parameters["triton_final_response"].bool_param:
            waiting.remove(told.id)
    client.stop_stream()
    assert answers.empty()


def grpc_matrix(*, width: int = 5) -> Any:  # noqa: ANN401 - as above
    tensor = grpc_client.InferInput("x", [2, width], "FP64")
    tensor.set_data_from_numpy(np.ascontiguousarray(ROWS[:, :width]))
    return tensor


def test_typed_contents_are_read_and_answered(served: ServedProject) -> None:
    """Clients that fill typed fields get typed fields."""
    port = _with_grpc(served)
    _deploy_both(served)
    infer = f"/{SERVICE}/ModelInfer"
    request = message("ModelInferRequest")(model_name="btc")
    tensor = request.inputs.add(name="x", datatype="FP64", shape=[2, 5])
    tensor.contents.fp64_contents.extend([*ROWS[0].tolist(), float("nan"), *ROWS[1].tolist()[1:]])
    metadata = (("authorization", f"Bearer {served.token}"),)
    with serving(served), grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        ask = channel.unary_unary(
            infer,
            request_serializer=type(request).SerializeToString,
            response_deserializer=message("ModelInferResponse").FromString,
        )
        told = ask(request, metadata=metadata)
        assert len(told.outputs[0].contents.fp64_contents) == 2
        assert find_ids(told) == 2
        del tensor.contents.fp64_contents[:]
        with pytest.raises(grpc.RpcError, match="has 0 values, its shape"):
            ask(request, metadata=metadata)


def find_ids(told: Any) -> int:  # noqa: ANN401 - a message
    return len({one.decode() for one in told.outputs[1].contents.bytes_contents})


def test_a_taken_port_is_told(served: ServedProject) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        _with_grpc(served, taken.getsockname()[1])
        done = subprocess.run(
            [sys.executable, "-m", "penstock.cli", "serve", "--home", str(served.home),
             "--port", str(free_port())],
            capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip
    assert done.returncode != 0
    assert "with the setting serve_grpc_port" in done.stderr
