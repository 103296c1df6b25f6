"""The demo, from an empty folder to its last screen: time and memory."""

from __future__ import annotations

import subprocess
import tempfile
import time
from pathlib import Path

import psutil

from .figure import Figure
from .project import command


def measure(*, quick: bool) -> list[Figure]:
    """Take the figures; once, since a run takes minutes."""
    del quick
    with tempfile.TemporaryDirectory(prefix="penstock-bench-") as folder:
        started = time.perf_counter()
        peak = 0.0
        with (
            (Path(folder) / "output").open("w", encoding="utf-8") as output,
            subprocess.Popen(
                command("demo", "psystock", "--home", str(Path(folder) / "home")),
                stdout=output,
                stderr=subprocess.STDOUT,
            ) as child,
        ):
            root = psutil.Process(child.pid)
            while child.poll() is None:
                peak = max(peak, _resident_mb(root))
                time.sleep(0.25)
        seconds = time.perf_counter() - started
        if child.returncode:
            raise RuntimeError((Path(folder) / "output").read_text(encoding="utf-8"))
    return [
        Figure(what="penstock demo psystock", ours=seconds, unit="s", budget=120),
        Figure(
            what="its peak memory",
            ours=peak,
            unit="MB",
            budget=2_000,
            note="proportional share of all its processes, sampled four times a second",
        ),
    ]


def _resident_mb(root: psutil.Process) -> float:
    total = 0
    try:
        tree = [root, *root.children(recursive=True)]
    except psutil.NoSuchProcess:
        return 0.0
    for one in tree:
        try:
            total += one.memory_full_info().pss
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            continue
    return total / 1e6
