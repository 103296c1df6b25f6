"""What tests of several folders begin with."""

from __future__ import annotations

import os
import shutil
from typing import TYPE_CHECKING

# Before any numeric library is loaded: the tests run side by side, and threads that spin while they
# wait for each other cost more than they bring.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("POLARS_MAX_THREADS", "2")

import hypothesis
import msgspec
import pytest

if TYPE_CHECKING:
    from pathlib import Path

    from penstock.testing.served_project import ServedProject

# Times say nothing on a shared machine. CI repeats itself; HYPOTHESIS_PROFILE=long digs deeper.
hypothesis.settings.register_profile("default", deadline=None)
hypothesis.settings.register_profile("ci", deadline=None, derandomize=True)
hypothesis.settings.register_profile("long", deadline=None, max_examples=10_000)
hypothesis.settings.load_profile(
    os.environ.get("HYPOTHESIS_PROFILE", "ci" if os.environ.get("CI") else "default")
)


@pytest.fixture(scope="session")
def served_template(tmp_path_factory: pytest.TempPathFactory) -> ServedProject:
    """The project of ``penstock.testing.served_project``; made once, to be copied."""
    # It loads every library of training, which most tests never need.
    from penstock.testing.served_project import make_served_project  # noqa: PLC0415

    return make_served_project(tmp_path_factory.mktemp("template") / "home")


@pytest.fixture
def served(served_template: ServedProject, tmp_path: Path) -> ServedProject:
    """A project of one's own with two registered versions, nothing deployed."""
    home = tmp_path / "home"
    shutil.copytree(served_template.home, home)
    return msgspec.structs.replace(served_template, home=home)
