"""A serving process in which a version turns bad on demand: what tests of incidents begin with.

Everything in it is real but the engine of one version, which stands before the real one and does as
a file says: nothing for as it is, ``slow 0.1`` takes so many seconds longer, ``wrong`` predicts no
number, ``high`` predicts 1.7, ``crash`` raises, ``half`` raises every second time.
"""

from __future__ import annotations

import sys
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

import penstock.scoring.served
from penstock.deployment import Engine, load_engine

from .ports import free_port
from .serving import running

if TYPE_CHECKING:
    from collections.abc import Generator

    import httpx
    from numpy.typing import NDArray

    from penstock.records import Manifest

    from .served_project import ServedProject

    Floats = NDArray[np.float64]

__all__ = ["Faulty", "make_faulty", "serving_faulty"]

WRONG = {"wrong": np.nan, "high": 1.7}
CHILD = """
import sys
from pathlib import Path
from penstock.http import serve
from penstock.testing.faulty import make_faulty
home, port, orders, version = sys.argv[1:]
make_faulty(orders, version)
serve(Path(home), port=int(port))
"""


class Faulty(Engine):
    """Does as a file says, else as the engine behind it.

    Args:
        inner: The real engine.
        orders: The file; none is as it is.
    """

    def __init__(self, inner: Engine, orders: Path) -> None:
        self.name = inner.name
        self._inner = inner
        self._orders = orders
        self._calls = 0

    def predict(self, x: Floats) -> Floats:
        """Predict rows, well or badly."""
        word, _, seconds = self._told().partition(" ")
        self._calls += 1
        if word == "crash" or (word == "half" and self._calls % 2):
            raise RuntimeError("told to crash")
        if word == "slow":
            time.sleep(float(seconds))
        predicted = self._inner.predict(x)
        return np.full_like(predicted, WRONG[word]) if word in WRONG else predicted

    def _told(self) -> str:
        try:
            return self._orders.read_text(encoding="utf-8")
        except FileNotFoundError:
            return ""


@contextmanager
def serving_faulty(
    project: ServedProject, orders: Path, *, version: int
) -> Generator[httpx.Client]:
    """Run a serving process in which one version does as a file says, until the block ends.

    Args:
        project: The project.
        orders: The file.
        version: Number of the version.

    Yields:
        A client of its administrator, once it is ready.
    """
    port = str(free_port())
    arguments = [str(project.home), port, str(orders), str(version)]
    with running(project, [sys.executable, "-c", CHILD, *arguments], port) as http:
        yield http


def make_faulty(orders: str, version: str) -> None:
    """Put a faulty engine before that of a version, in this process.

    Args:
        orders: The file that says what it does.
        version: Number of the version.
    """

    def load(folder: Path, manifest: Manifest) -> Engine:
        engine = load_engine(folder, manifest)
        return Faulty(engine, Path(orders)) if manifest.version == int(version) else engine

    penstock.scoring.served.load_engine = load  # type: ignore[attr-defined]  # faults are for tests
