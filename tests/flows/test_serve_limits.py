"""How long a body and a message may be is a setting."""

from __future__ import annotations

import gzip
from typing import TYPE_CHECKING

import grpc
import pytest

from penstock.deployment import deploy
from penstock.http.grpc_messages import SERVICE, message
from penstock.runtime import open_services
from penstock.testing.ports import free_port
from penstock.testing.serving import serving

if TYPE_CHECKING:
    from collections.abc import Callable

    from penstock.testing.served_project import ServedProject

pytestmark = pytest.mark.slow

PREDICT = "/v1/deployments/btc/predict"
BODY = b'{"entity": {"symbol": "BTC"}}'
LIMIT = 3_000 * 1_024


def test_what_is_long_is_read_up_to_the_setting(served: ServedProject) -> None:
    grpc_port = free_port()
    with open_services(served.home, actor="tester") as services:
        deploy(services, "btc", version=1, wait_s=0)
    with (served.home / "penstock.toml").open("a") as settings:
        settings.write(f"\nserve_body_kb = 3000\nserve_grpc_port = {grpc_port}\n")
    fits, too_long = (BODY + b" " * (size - len(BODY)) for size in (LIMIT, LIMIT + 1))
    packed = {"content-encoding": "gzip"}
    with serving(served) as http:
        assert http.post(PREDICT, content=fits).status_code == 200
        assert http.post(PREDICT, content=gzip.compress(fits), headers=packed).status_code == 200
        for refused in (
            http.post(PREDICT, content=too_long),
            http.post(PREDICT, content=gzip.compress(too_long), headers=packed),
        ):
            assert refused.status_code == 413
            assert "3,072,000 bytes" in refused.text
        with grpc.insecure_channel(f"127.0.0.1:{grpc_port}") as channel:
            index: Callable[..., bytes] = channel.unary_unary(f"/{SERVICE}/RepositoryIndex")
            token = (("authorization", f"Bearer {served.token}"),)
            asked = message("RepositoryIndexRequest")(repository_name="x" * (LIMIT - 1_000))
            assert index(asked.SerializeToString(), timeout=20, metadata=token)
            asked.repository_name += "x" * 1_000
            with pytest.raises(grpc.RpcError) as raised:
                index(asked.SerializeToString(), timeout=20, metadata=token)
            assert raised.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
