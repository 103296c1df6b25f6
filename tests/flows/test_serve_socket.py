"""Online scoring on a UNIX socket, by the real process."""

from __future__ import annotations

from typing import TYPE_CHECKING

import httpx
import pytest

from penstock.deployment import deploy
from penstock.runtime import open_services
from penstock.testing.serving import serving

if TYPE_CHECKING:
    from penstock.testing.served_project import ServedProject

pytestmark = pytest.mark.slow


def test_a_socket_beside_the_port(served: ServedProject) -> None:
    with open_services(served.home, actor="tester") as services:
        deploy(services, "btc", version=1, wait_s=0)
    with (served.home / "penstock.toml").open("a") as settings:
        settings.write('\nserve_socket = "s"\n')
    path = served.home / "s"
    for _ in range(2):  # killed, it leaves its socket, and the next one takes it over
        with serving(served) as http:
            body = {"entity": {"symbol": "BTC"}}
            over_socket = httpx.HTTPTransport(uds=str(path))
            with httpx.Client(transport=over_socket, headers=http.headers) as client:
                told = client.post("http://here/v1/deployments/btc/predict", json=body)
            assert told.status_code == 200
            again = http.post("/v1/deployments/btc/predict", json=body)
            assert told.json()["probability"] == again.json()["probability"]
        assert path.is_socket()
