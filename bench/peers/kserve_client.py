"""Asks a serving process as KServe's own Python client does; says what it was answered.

Run by an interpreter that has ``kserve``: ``python kserve_client.py URL GRPC_ADDRESS TOKEN ROWS``.
"""

from __future__ import annotations

import asyncio
import json
import sys
from importlib import import_module
from typing import Any

import numpy as np

kserve: Any = import_module("kserve")
GrpcClient: Any = import_module("kserve.inference_client").InferenceGRPCClient


def request(rows: list[list[float]], *, binary: bool) -> Any:  # noqa: ANN401 - a library without types here
    """Rows by their features, as JSON or as bytes."""
    values = np.array(rows)
    tensor = kserve.InferInput("x", list(values.shape), "FP64")
    tensor.set_data_from_numpy(values, binary_data=binary)
    return kserve.InferRequest("btc", [tensor], request_id="k1")


def told(answer: Any) -> list[float]:  # noqa: ANN401 - a library without types here
    """The predictions of an answer that is otherwise as it should be."""
    outputs = {one.name: one.as_numpy() for one in answer.outputs}
    assert (answer.id, answer.model_name) == ("k1", "btc")
    assert len(set(outputs["prediction_id"].tolist())) == len(outputs["prediction"])
    predictions: list[float] = outputs["prediction"].tolist()
    return predictions


async def main(url: str, address: str, token: str, given: str) -> None:
    """Ask everything there is to ask."""
    rows: list[list[float]] = json.loads(given)
    headers = {"Authorization": f"Bearer {token}"}
    second, first = (
        kserve.InferenceRESTClient(kserve.RESTConfig(protocol=protocol, retries=0))
        for protocol in ("v2", "v1")
    )
    assert await second.is_server_live(url, headers=headers)
    assert await second.is_server_ready(url, headers=headers)
    assert await second.is_model_ready(url, "btc", headers=headers)
    assert not await second.is_model_ready(url, "nobody", headers=headers)
    said: dict[str, list[float]] = {}
    for name, binary in (("json", False), ("bytes", True)):
        asked = request(rows, binary=binary)
        said[name] = told(await second.infer(url, asked, model_name="btc", headers=headers))
    answer = await first.infer(url, {"instances": rows}, "btc", headers=headers)
    said["v1"] = answer["predictions"]
    await second.close()
    await first.close()
    grpc = GrpcClient(address, retries=0)
    metadata = [("authorization", f"Bearer {token}")]
    assert await grpc.is_server_live(headers=metadata)
    assert await grpc.is_model_ready("btc", headers=metadata)
    for name, binary in (("grpc", False), ("grpc bytes", True)):
        said[name] = told(await grpc.infer(request(rows, binary=binary), headers=metadata))
    await grpc.close()
    print(json.dumps(said))


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
