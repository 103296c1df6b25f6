"""What the processes answer is what their OpenAPI documents say, whatever they are asked."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from openapi_spec_validator import validate

from penstock.deployment import deploy
from penstock.runtime import open_services
from penstock.testing.composed import add_composed
from penstock.testing.serving import serving

if TYPE_CHECKING:
    import httpx

    from penstock.testing.served_project import ServedProject

# A body may fit the document and be refused for what no schema says: a tensor with as many values
# as its shape, times as many as keys. A whole number with a fraction of zero is one to JSON Schema.
UNSAID = "positive_data_acceptance"
# Two routes of one path name the methods of the first only.
ALLOWED = "allow_header_conformance"


@pytest.fixture
def project(served: ServedProject) -> ServedProject:
    with open_services(served.home, actor="tester") as services:
        add_composed(services)
        deploy(services, "btc", version=1)
        deploy(services, "btc", version=2)
    return served


def examine(http: httpx.Client, folder: Path, *excluded: str) -> None:
    """Run schemathesis over a process with what this profile asks for."""
    document = http.get("/openapi.json").json()
    validate(document)
    command = [
        *(str(Path(sys.executable).with_name("schemathesis")), "run"),
        f"{http.base_url}/openapi.json",
        *("--header", f"Authorization: {http.headers['authorization']}"),
        *("--max-examples", os.environ.get("PENSTOCK_FUZZ_EXAMPLES", "4")),
        *("--phases", "examples,coverage,fuzzing", "--seed", "1", "--no-color", "--no-shrink"),
        *("--exclude-checks", ",".join((UNSAID, *excluded)), "--warnings", "off"),
        *("--exclude-path-regex", "/split"),  # the same code as of the other deployment
    ]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-6_000:] + done.stderr[-2_000:]


@pytest.mark.slow
@pytest.mark.timeout(7_200)
def test_online_scoring_answers_as_it_says(project: ServedProject, tmp_path: Path) -> None:
    with serving(project) as http:
        examine(http, tmp_path)


@pytest.mark.slow
@pytest.mark.timeout(7_200)
def test_the_control_plane_answers_as_it_says(project: ServedProject, tmp_path: Path) -> None:
    with serving(project, "api") as http:
        examine(http, tmp_path, ALLOWED)
