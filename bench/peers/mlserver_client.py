"""Asks a serving process with MLServer's types and codecs; says what it was answered.

Run by an interpreter that has ``mlserver``: ``python mlserver_client.py URL GRPC_ADDRESS TOKEN
ROWS``.
"""

from __future__ import annotations

import json
import sys
import urllib.request
from importlib import import_module
from typing import Any

import numpy as np

codecs: Any = import_module("mlserver.codecs")
types: Any = import_module("mlserver.types")
converters: Any = import_module("mlserver.grpc.converters")
stubs: Any = import_module("mlserver.grpc.dataplane_pb2_grpc")
grpc: Any = import_module("grpc")
pandas: Any = import_module("pandas")


def requests(rows: list[list[float]], names: list[str]) -> dict[str, Any]:
    """The same rows by each codec."""
    values = np.array(rows)
    return {
        "numpy": types.InferenceRequest(inputs=[codecs.NumpyCodec.encode_input("x", values)]),
        "numpy request": codecs.NumpyRequestCodec.encode_request(values),
        "pandas": codecs.PandasCodec.encode_request(pandas.DataFrame(values, columns=names)),
    }


def told(answer: Any) -> list[float]:  # noqa: ANN401 - a library without types here
    """The predictions of an answer, read by MLServer's codecs."""
    frame = codecs.PandasCodec.decode_response(answer)
    assert frame["prediction_id"].nunique() == len(frame)
    predictions: list[float] = frame["prediction"].tolist()
    return predictions


def ask(url: str, token: str, body: bytes | None = None) -> bytes:
    """Ask over HTTP, for which MLServer has no client of its own."""
    headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
    asked = urllib.request.Request(url, body, headers)  # noqa: S310 - our own server
    with urllib.request.urlopen(asked) as answer:  # noqa: S310 - as above
        found: bytes = answer.read()
    return found


def main(url: str, address: str, token: str, given: str) -> None:
    """Ask everything there is to ask."""
    rows: list[list[float]] = json.loads(given)
    model = f"{url}/v2/models/btc"
    metadata = types.MetadataModelResponse.model_validate_json(ask(model, token))
    wanted = requests(rows, [one.name for one in metadata.inputs])
    said: dict[str, list[float]] = {}
    for name, request in wanted.items():
        answer = ask(f"{model}/infer", token, request.model_dump_json().encode())
        said[name] = told(types.InferenceResponse.model_validate_json(answer))
    with grpc.insecure_channel(address) as channel:
        stub = stubs.GRPCInferenceServiceStub(channel)
        pairs = [("authorization", f"Bearer {token}")]
        for name, request in wanted.items():
            made = converters.ModelInferRequestConverter.from_types(request, model_name="btc")
            answer = stub.ModelInfer(made, metadata=pairs)
            said[f"grpc {name}"] = told(converters.ModelInferResponseConverter.to_types(answer))
    print(json.dumps(said))


if __name__ == "__main__":
    main(*sys.argv[1:])
