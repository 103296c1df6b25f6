"""A serving process whose score log cannot be written: no version is withdrawn for it."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest

import penstock as ps
from penstock.deployment import deploy
from penstock.registry import aliases
from penstock.runtime import open_services
from penstock.testing.score_logs import declare_log
from penstock.testing.serving import serving

if TYPE_CHECKING:
    from pathlib import Path

    from penstock.testing.served_project import ServedProject

PREDICT = "/v1/deployments/btc/predict"
BTC = {"entity": {"symbol": "BTC"}}
LONG_ENOUGH_S = 3.0
"""In which a champion that fails is withdrawn."""


def _champion(project: ServedProject) -> int:
    with open_services(project.home, actor="tester") as services:
        return aliases(services.metadata, "direction").champion


@pytest.fixture
def blocked(served: ServedProject, request: pytest.FixtureRequest) -> Path:
    """A file in the place of the folder in which a deployment's scores are logged."""
    with open_services(served.home, actor="tester") as services:
        declare_log(services, getattr(request, "param", None))
        for version in (1, 2):
            deploy(services, "btc", version=version, wait_s=0)
        folder = services.score_log / "btc"
    folder.parent.mkdir(parents=True, exist_ok=True)
    folder.write_bytes(b"")
    return folder


def test_the_log_is_named_and_the_champion_stays(served: ServedProject, blocked: Path) -> None:
    with serving(served) as http:
        until = time.monotonic() + LONG_ENOUGH_S
        while time.monotonic() < until:
            refused = http.post(PREDICT, json=BTC)
            assert refused.status_code == 503, refused.text
            error = refused.json()["error"]
            assert error["kind"] == "not_logged"
            assert f"cannot be written to {blocked}" in error["message"]
            assert refused.headers["retry-after"]
        assert _champion(served) == 2
        assert 'kind="not_logged"' in http.get("/metrics").text
        blocked.unlink()
        answered = http.post(PREDICT, json=BTC)
        assert (answered.status_code, answered.json()["version"]) == (200, 2)


@pytest.mark.parametrize("blocked", [ps.ScoreLog(unwritable="answer")], indirect=True)
def test_scores_are_answered_and_counted_where_that_is_declared(
    served: ServedProject, blocked: Path
) -> None:
    with serving(served) as http:
        for _ in range(5):
            assert http.post(PREDICT, json=BTC).json()["version"] == 2
        lost = [one for one in http.get("/metrics").text.splitlines() if "_lost_total{d" in one]
        assert [one.rpartition(" ")[2] for one in lost if 'deployment="btc"' in one] == ["5"]
        assert blocked.is_file()
