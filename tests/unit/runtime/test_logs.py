from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from penstock.errors import StateError
from penstock.runtime import configure_logs

SCRIPT = """
import logging, sys, warnings
from pathlib import Path
import structlog
from penstock.runtime import configure_logs

configure_logs(Path(sys.argv[1]), "worker", level="info")
configure_logs(Path(sys.argv[1]), "worker", level="info")
log = structlog.get_logger("penstock.worker").bind(run="r1")
log.info("began", path=Path("/x"))
log.debug("not told")
logging.getLogger("dbos").warning("a library %s", "speaks")
logging.getLogger("httpx").info("too much")
warnings.warn("careful")
try:
    1 / 0
except ZeroDivisionError:
    log.exception("failed")
"""


def test_lines_for_programs_and_for_people(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(tmp_path / "logs")],
        check=True,
        capture_output=True,
        text=True,
    )
    text = (tmp_path / "logs" / "worker.log").read_text()
    began, library, warning, failed = [json.loads(line) for line in text.splitlines()]

    assert (began["event"], began["run"], began["path"]) == ("began", "r1", "/x")
    assert (began["level"], began["logger"]) == ("info", "penstock.worker")
    assert began["timestamp"].endswith("Z")
    assert isinstance(began["process"], int)
    assert (library["event"], library["level"]) == ("a library speaks", "warning")
    assert "careful" in warning["event"]
    assert failed["exception"][0]["exc_type"] == "ZeroDivisionError"
    assert done.stdout == ""
    assert "began" in done.stderr.splitlines()[0]
    assert "r1" in done.stderr.splitlines()[0]
    assert "ZeroDivisionError" in done.stderr
    assert "not told" not in done.stderr + text
    assert "too much" not in done.stderr + text


def test_a_folder_that_cannot_be_written_to() -> None:
    with pytest.raises(StateError, match=r"worker\.log"):
        configure_logs(Path("/proc/penstock"), "worker")
