"""Libraries that are taken in when something of them is first used."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path


def _run(script: str) -> list[str]:
    done = subprocess.run(
        [sys.executable, "-c", "import sys\nfrom penstock.runtime import by_need\n" + script],
        check=True,
        capture_output=True,
        text=True,
    )
    return done.stdout.split()


def test_naming_a_library_takes_nothing_in_and_using_it_does() -> None:
    script = """
by_need("polars", "no_such_library")
import polars as pl
print("polars.dataframe" in sys.modules, "no_such_library" in sys.modules)
frame = pl.DataFrame({"a": [1, 2]})
print(frame["a"].sum(), "polars.dataframe" in sys.modules, sys.modules["polars"] is pl)
import polars
print(isinstance(frame, polars.DataFrame), polars.__name__, polars.__version__ > "0")
"""

    assert _run(script) == ["False", "False", "3", "True", "False", "True", "polars", "True"]


def test_threads_that_ask_at_once_all_get_the_whole_library() -> None:
    script = """
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
by_need("polars")
import polars as pl
start = Barrier(8)
def ask(number):
    start.wait()
    return pl.Series([number]).sum() + pl.selectors.float().meta.is_column_selection()
with ThreadPoolExecutor(8) as threads:
    print(*threads.map(ask, range(8)))
"""

    assert _run(script) == [str(number + 1) for number in range(8)]


def test_a_library_that_grows_meanwhile_is_taken_in_all_the_same(tmp_path: Path) -> None:
    """As it does where another thread imports a part of it."""
    (tmp_path / "growing.py").write_text(
        "import threading\n"
        "globals().update((f'name{n}', n) for n in range(200_000))\n"
        "def grow():\n"
        "    for n in range(100_000):\n"
        "        globals()[f'more{n}'] = n\n"
        "threading.Thread(target=grow).start()\n"
    )
    script = f"""
sys.setswitchinterval(1e-5)
sys.path.append({str(tmp_path)!r})
by_need("growing")
import growing
print(growing.name7)
"""

    assert _run(script) == ["7"]


def test_a_library_that_is_loaded_stays_as_it_is() -> None:
    script = "import polars as before; by_need('polars'); import polars; print(polars is before)"

    assert _run(script) == ["True"]


def test_what_a_library_has_not_is_said_as_ever() -> None:
    script = """
by_need("polars")
import polars
try:
    polars.nothing_of_the_kind
except AttributeError as error:
    print(error)
"""

    assert "'nothing_of_the_kind'" in _run(script)
