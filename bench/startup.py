"""How long things take to begin: the import, the command line, the processes."""

from __future__ import annotations

import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil

from .figure import Figure, timed
from .project import build, command, free_port, run, serving


def measure(*, quick: bool) -> list[Figure]:
    """Take the figures."""
    runs = 3 if quick else 7
    bare = _seconds([sys.executable, "-c", "pass"], runs)
    imported = _seconds([sys.executable, "-c", "import penstock"], runs)
    helped = _seconds(command("--help"), runs)
    figures = [
        Figure(
            what="import penstock",
            ours=(statistics.median(imported) - statistics.median(bare)) * 1e3,
            unit="ms",
            budget=100,
            note="above an empty interpreter",
        ),
        Figure(
            what="penstock --help",
            ours=statistics.median(helped) * 1e3,
            unit="ms",
            baseline=statistics.median(bare) * 1e3,
            baseline_name="python -c pass",
        ),
    ]
    with tempfile.TemporaryDirectory(prefix="penstock-bench-") as folder:
        trained = Path(folder) / "trained"
        trained.mkdir()
        build(trained)
        figures += [_serve(trained, runs=runs), *_up(Path(folder) / "fresh")]
    return figures


def _serve(home: Path, *, runs: int) -> Figure:
    times: list[float] = []
    for _ in range(runs):
        with serving(home) as server:
            times.append(server.ready_s)
    return Figure(
        what="penstock serve, until ready with one model",
        ours=statistics.median(times),
        unit="s",
        spread=(min(times), max(times)),
    )


def _up(home: Path) -> list[Figure]:
    """First start of all processes in an empty project, and what they use when idle."""
    home.mkdir()
    run(home, "init")
    settings = f"api_port = {free_port()}\nserve_port = {free_port()}\n"
    (home / "penstock.toml").write_text(settings, encoding="utf-8")
    api = settings.split()[2]
    started = time.perf_counter()
    with subprocess.Popen(
        command("up", "--home", str(home)), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as child:
        try:
            ready = _until_ready(home, started)
            time.sleep(5)
            tree = [psutil.Process(child.pid), *psutil.Process(child.pid).children(recursive=True)]
            memory = sum(one.memory_info().rss for one in tree) / 1e6
            for one in tree:
                one.cpu_percent()
            time.sleep(5)
            busy = sum(one.cpu_percent() for one in tree)
        finally:
            child.terminate()
            child.wait(30)
    return [
        Figure(
            what="penstock up, first start until all are ready",
            ours=ready,
            unit="s",
            budget=10,
            note=f"four processes and their supervisor; the API on port {api}",
        ),
        Figure(
            what="penstock up, idle memory of all processes",
            ours=memory,
            unit="MB",
            budget=800,
            note=f"sum of resident sizes; {busy:.0f} % of a core while idle (budget 5 %)",
        ),
    ]


def _until_ready(home: Path, started: float) -> float:
    while time.perf_counter() - started < 60:
        done = subprocess.run(
            command("status", "--json", "--home", str(home)),
            capture_output=True,
            text=True,
            check=False,
        )
        kinds = {
            kind for kind in ("api", "worker", "stream", "serve") if f'"{kind}"' in done.stdout
        }
        if len(kinds) == 4:
            return time.perf_counter() - started
    raise RuntimeError("the processes are not ready after 60 s")


def _seconds(arguments: list[str], runs: int) -> list[float]:
    def call() -> None:
        subprocess.run(arguments, check=True, capture_output=True)

    call()
    return [timed(call) for _ in range(runs)]
