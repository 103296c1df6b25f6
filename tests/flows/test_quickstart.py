"""The example of the README, command by command, as its own README has it."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

    from .conftest import Said

EXAMPLE = Path(__file__).parents[2] / "examples" / "quickstart"
HOURS = 2_000


@pytest.mark.slow
def test_the_quickstart_does_what_it_says(tmp_path: Path, call: Callable[..., Said]) -> None:
    home = tmp_path / "quickstart"
    shutil.copytree(EXAMPLE, home, ignore=shutil.ignore_patterns(".penstock", "data"))
    subprocess.run([sys.executable, str(home / "make_data.py"), str(home / "data")], check=True)
    for words in (("init",), ("plan",), ("apply",)):
        assert call(*words, "--home", home).code == 0
    (ingested,) = call("ingest", "candles", "--home", home, "--json").value
    assert (ingested["read"], ingested["stored"]) == (2 * HOURS, 2 * HOURS)
    assert call("features", "build", "--home", home).code == 0
    trained = call("train", "direction", "--home", home, "--json").value
    (version,) = trained["versions"]
    assert version["ready"]
    assert version["metrics"]["test.roc_auc"] > 0.5
    told = call("predict", "direction", "--key", "AAA", "--home", home, "--json").value
    assert 0 < told["probability"]["true"] < 1
    again = call("replay", told["prediction_id"], "--home", home, "--json").value
    assert again["same"]
    origin = call("lineage", told["prediction_id"], "--home", home).out
    assert "AAA.csv.gz" in origin
    assert call("doctor", "--home", home).code == 0


def test_the_readme_shows_the_example() -> None:
    readme = (EXAMPLE.parents[1] / "README.md").read_text(encoding="utf-8")
    declared = (EXAMPLE / "project.py").read_text(encoding="utf-8")
    body = declared.partition("from __future__ import annotations\n\n")[2]
    assert body.replace("  # fmt: skip", "") in readme
