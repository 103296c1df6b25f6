"""The stages load no heavy library: only worker processes do."""

from __future__ import annotations

import subprocess
import sys

import pytest

HEAVY = ("sklearn", "optuna", "xgboost", "mlflow", "matplotlib", "skops")


@pytest.mark.slow
def test_evaluation_and_what_it_stands_on_load_no_heavy_library() -> None:
    code = "import sys, penstock.evaluation; print(' '.join(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert not set(HEAVY) & set(done.stdout.split())
