"""Bytes of strangers, bred by what they reach: atheris over everything that decodes the wire.

``python tests/fuzz/reach.py --seconds 60`` breeds for a minute at each wire, from the good bodies
that the tests damage at random, and ends with 1 where one brought anything but rows or a fault in
words. What is found is told, with the bytes as they stand. Without atheris it ends with 1 and says
how to get it.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import subprocess
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from types import ModuleType

    Target = tuple[Callable[[bytes], object], Sequence[bytes]]

HTTP = Path(__file__).parents[1] / "unit" / "http"
LONGEST_BYTES = 4_096
LONGEST_S = 20
MOST_MEMORY_MB = 2_048
CUT = b"|CUT|"
WIRES = (
    "json", "arrow", "v2", "v2 binary", "csv", "v1", "grpc", "gzip", "deflate",
    "features json", "features arrow", "http",
)  # fmt: skip


def main() -> int:
    """Breed at each wire in a process of its own; how many found something."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("wires", nargs="*", default=WIRES, help=f"of {', '.join(WIRES)}")
    parser.add_argument("--seconds", type=int, default=60, help="for each wire")
    parser.add_argument("--at", metavar="FOLDER", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if importlib.util.find_spec("atheris") is None:
        _say("atheris is not installed, so nothing is bred. Run 'uv pip install atheris'.")
        return 1
    if unknown := set(asked.wires) - set(WIRES):
        parser.error(f"no such wire: {', '.join(unknown)}; there are {', '.join(WIRES)}")
    if asked.at:
        breed(asked.wires[0], Path(asked.at), asked.seconds)
    return sum(not _bred(wire, asked.seconds) for wire in asked.wires)


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def _bred(wire: str, seconds: int) -> bool:
    """Whether nothing was found at a wire."""
    with tempfile.TemporaryDirectory(prefix="penstock-fuzz-") as folder:
        command = [sys.executable, __file__, wire, "--seconds", str(seconds), "--at", folder]
        # A fuzzer leaves its process as it likes, so what it says is read from outside.
        child = subprocess.run(
            command, capture_output=True, text=True, errors="replace", check=False
        )
        lines = (child.stdout + child.stderr).splitlines()
        told = [line for line in lines if not line.startswith(("INFO: ", "#"))]
        done = [line for line in told if line.startswith("Done")]
        _say(f"{wire}: {'; '.join(done) or f'ended with {child.returncode}'}")
        if child.returncode:
            _say("\n".join(told[-60:]))
            for path in Path(folder).glob("found-*"):
                _say(f"{path.name}: {path.read_bytes()!r}")
        return not child.returncode


def breed(wire: str, folder: Path, seconds: int) -> None:
    """Breed at one wire until the time is over or something is found; never returns.

    Args:
        wire: Its name.
        folder: Where bodies are kept that reach something new.
        seconds: For how long.
    """
    atheris: Any = importlib.import_module("atheris")
    stack = ExitStack()
    with atheris.instrument_imports(include=["penstock"]):
        check, seeds = _target(wire, folder, stack)
    bodies = folder / "bodies"
    bodies.mkdir()
    for number, seed in enumerate(seeds):
        (bodies / f"good-{number}").write_bytes(seed)
    options = [
        f"-max_total_time={seconds}", f"-max_len={LONGEST_BYTES}", f"-timeout={LONGEST_S}",
        f"-rss_limit_mb={MOST_MEMORY_MB}", f"-artifact_prefix={folder}/found-",
    ]  # fmt: skip
    atheris.Setup([__file__, *options, str(bodies)], check)
    atheris.Fuzz()  # it ends the process; what the stack holds lives as long
    stack.close()


def _target(
    wire: str, folder: Path, stack: ExitStack
) -> tuple[Callable[[bytes], object], Sequence[bytes]]:
    """What bodies are handed to, and good ones."""
    if wire == "http":
        return _http(folder, stack)
    if wire.startswith("features"):
        return _features(wire)
    tests = _tests("test_wire_fuzz")
    return lambda body: tests.check(wire, body), tests.SEEDS[wire]


def _features(wire: str) -> Target:
    tests = _tests("test_feature_fuzz")
    arrow = wire.endswith("arrow")

    def check(body: bytes) -> None:
        for schema in tests.SCHEMAS.values():
            if arrow:
                tests.holds_or_teaches(lambda: tests.arrow_wanted(schema, body, tests.NOW_US))  # noqa: B023
            else:
                tests.holds_or_teaches(lambda: schema.wanted(body, tests.NOW_US))  # noqa: B023

    seeds = [*tests.STREAMS, *tests.KEYS_ONLY, *tests.COMPOSED] if arrow else tests.BODIES
    return check, seeds


def _http(folder: Path, stack: ExitStack) -> Target:
    """A whole serving process, spoken to over a pipe."""
    tests = _tests("test_http_fuzz")
    # Only what is loaded here is seen by the fuzzer.
    from penstock.testing.served_project import make_served_project  # noqa: PLC0415

    project = make_served_project(folder / "home")
    server = stack.enter_context(tests.started(project.home, project.token))
    good = [tests.whole(path, "TOKEN") for path in tests.PATHS]

    def check(stream: bytes) -> None:
        parts = stream.replace(b"TOKEN", project.token.encode()).split(CUT)
        tests.check(server, parts)

    return check, [*good, b"".join(good), CUT.join([good[0][:90], good[0][90:]])]


def _tests(name: str) -> ModuleType:
    """A module of tests: it knows what a wire may bring, and good bodies."""
    spec = importlib.util.spec_from_file_location(name, HTTP / f"{name}.py")
    if spec is None or spec.loader is None:
        raise FileNotFoundError(HTTP / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


if __name__ == "__main__":
    sys.exit(main())
