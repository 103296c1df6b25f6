"""Clients of other servers against a serving process, each in an environment of its own."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import pytest

from penstock.deployment import deploy
from penstock.runtime import open_services
from penstock.testing.ports import free_port
from penstock.testing.serving import serving

if TYPE_CHECKING:
    from penstock.testing.served_project import ServedProject

pytestmark = pytest.mark.slow

SCRIPTS = Path(__file__).parents[2] / "bench" / "peers"
ROWS = [[100.0, 0.01, 0.02, 101.0, 24.0], [50.0, -0.01, 0.1, 52.0, 3.0]]


@pytest.mark.parametrize("library", ["kserve", "mlserver"])
def test_a_client_reads_what_every_other_does(
    served: ServedProject, monkeypatch: pytest.MonkeyPatch, library: str
) -> None:
    variable = f"PENSTOCK_{library.upper()}_PYTHON"
    python = os.environ.get(variable, "")
    if not python:
        pytest.skip(f"{variable} names no interpreter that has {library}")
    with open_services(served.home, actor="tester") as services:
        deploy(services, "btc", version=1)
    port = str(free_port())
    monkeypatch.setenv("PENSTOCK_SERVE_GRPC_PORT", port)
    rows = msgspec.json.encode(ROWS).decode()
    with serving(served) as http:
        url = str(http.base_url).rstrip("/")
        script = SCRIPTS / f"{library}_client.py"
        command = [python, str(script), url, f"127.0.0.1:{port}", served.token, rows]
        bare = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
        done = subprocess.run(command, capture_output=True, text=True, check=False, env=bare)
        tensor = {"name": "x", "datatype": "FP64", "shape": [2, 5], "data": ROWS}
        plain = http.post("/v2/models/btc/infer", json={"inputs": [tensor]}).json()
    assert done.returncode == 0, done.stderr
    said = msgspec.json.decode(done.stdout, type=dict[str, list[float]])
    assert len(said) >= 5
    assert list(said.values()) == [plain["outputs"][0]["data"]] * len(said)
