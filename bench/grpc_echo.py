"""The floor of gRPC: reads the same request, sums it, answers as shortly; nothing else.

``python bench/grpc_echo.py PORT``: grpcio on uvloop, as the serving process runs it.
``python bench/grpc_echo.py PORT threads``: grpcio with four threads.
"""

from __future__ import annotations

import asyncio
import sys
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
import numpy as np
import uvloop

from penstock.http.grpc_messages import SERVICE, message

REQUEST, ANSWER = message("ModelInferRequest"), message("ModelInferResponse")


def summed(request: Any, _: object = None) -> Any:  # noqa: ANN401 - messages
    """The sum of the tensor, in a message shaped as a prediction's."""
    total = np.frombuffer(request.raw_input_contents[0], dtype=np.float64).sum()
    answer = ANSWER(model_name=request.model_name, model_version="1")
    answer.outputs.add(name="prediction", datatype="FP64", shape=[1])
    answer.outputs.add(name="prediction_id", datatype="BYTES", shape=[1])
    answer.raw_output_contents.extend([total.tobytes(), b"\x1a\0\0\0" + b"x" * 26])
    return answer


async def summed_later(request: Any, context: object) -> Any:  # noqa: ANN401 - messages
    """As ``summed``."""
    return summed(request, context)


def handlers(call: Any) -> grpc.GenericRpcHandler:  # noqa: ANN401 - a function or a coroutine
    """The service with its one call."""
    method: Any = grpc.unary_unary_rpc_method_handler(
        call,
        request_deserializer=REQUEST.FromString,
        response_serializer=lambda answer: answer.SerializeToString(),
    )
    return grpc.method_handlers_generic_handler(SERVICE, {"ModelInfer": method})


async def serve(port: int) -> None:
    """Answer until killed."""
    server = grpc.aio.server()
    server.add_generic_rpc_handlers((handlers(summed_later),))
    server.add_insecure_port(f"127.0.0.1:{port}")
    await server.start()
    await server.wait_for_termination()


def serve_threads(port: int) -> None:
    """Answer until killed, in four threads."""
    server = grpc.server(ThreadPoolExecutor(4))
    server.add_generic_rpc_handlers((handlers(summed),))
    server.add_insecure_port(f"127.0.0.1:{port}")
    server.start()
    server.wait_for_termination()


if __name__ == "__main__":
    if len(sys.argv) > 2:
        serve_threads(int(sys.argv[1]))
    else:
        uvloop.install()
        asyncio.run(serve(int(sys.argv[1])))
