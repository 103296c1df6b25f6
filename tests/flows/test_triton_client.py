"""NVIDIA's own client against a serving process: every call that it offers but shared memory."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from penstock.deployment import deploy
from penstock.runtime import open_services
from penstock.testing.serving import serving

if TYPE_CHECKING:
    from collections.abc import Iterator

    from penstock.testing.served_project import ServedProject

triton = pytest.importorskip("tritonclient.http", reason="tritonclient is not installed")
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


@pytest.fixture
def asked(served: ServedProject) -> Iterator[Asked]:
    with open_services(served.home, actor="tester") as services:
        deploy(services, "btc", version=1)
        deploy(services, "btc", version=2)
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
    with pytest.raises(triton.InferenceServerException, match="was unloaded from this process"):
        asked.infer("btc", [matrix()])
    asked.load_model("btc")
    assert asked.is_model_ready("btc")
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
