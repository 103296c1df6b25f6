"""What a serving process takes in: the memory of each worker, and the time until it answers."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

from penstock.deployment import deploy
from penstock.runtime import open_services

if TYPE_CHECKING:
    from penstock.testing.served_project import ServedProject

HEAVY = {
    "dataframely", "dbos", "deltalake", "fastapi", "httpx", "mlflow", "onnx", "pandas",
    "polars.dataframe", "pyarrow", "scipy", "sklearn",
}  # fmt: skip
STAGES = {"ingest", "training", "evaluation", "datasets", "monitoring", "control"}
SCRIPT = """
import asyncio, sys
from pathlib import Path
import penstock.cli.processes
from penstock.http.serve_start import PROCESS, SELDOM
from penstock.runtime import by_need, open_services
by_need(*SELDOM)
__import__(PROCESS)
from penstock.http.serve_keeper import Keeper
from penstock.scoring import Ask
async def serve():
    with open_services(Path(sys.argv[1]), kind="serve") as services:
        keeper = Keeper(services, address="here", limit_bytes=1 << 20)
        await keeper.start()
        score = await keeper.doors["btc"].endpoint.score(Ask(services.clock.now_us(), key="BTC"))
        assert score.version == 1, score
        print(*sys.modules)
        await keeper.stop()
asyncio.run(serve())
"""


def test_a_process_that_answers_for_a_small_model_has_not_loaded_what_others_need(
    served: ServedProject,
) -> None:
    with open_services(served.home, actor="tester") as services:
        deploy(services, "btc", version=1, wait_s=0)
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(served.home)],
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 0, done.stderr
    loaded = set(done.stdout.split("\n")[-2].split())
    assert "penstock.scoring.lane" in loaded
    assert loaded & HEAVY == set()
    assert {f"penstock.{stage}" for stage in STAGES} & loaded == set()
