"""The whole loop with the real processes, as ``penstock demo`` runs it."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_demonstration_does_what_it_says(tmp_path: Path) -> None:
    home = tmp_path / "psystock"

    done = subprocess.run(
        [sys.executable, "-m", "penstock.cli", "demo", "psystock", "--home", home, "--json"],
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    counts = told["counts"]
    assert counts["read"] == counts["stored"] + counts["quarantined"] + counts["duplicates"]
    assert (counts["quarantined"], counts["duplicates"]) == (12, 5)
    first, second = told["candidates"][:3], told["candidates"][3:]
    assert [sum(one["ready"] for one in run) for run in (first, second)] == [1, 1]
    assert told["accuracy"]["quiet"] > 0.5 > told["accuracy"]["changed"]
    assert told["accuracy"]["after"] > 0.5
    assert told["incident"]["state"] == "closed"
    assert set(told["incident"]["actions"]) == {"notify ops", "retrain"}
    assert told["peak_bytes"] < 2_000_000_000
