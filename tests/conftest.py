"""What tests of several folders begin with."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import msgspec
import pytest

if TYPE_CHECKING:
    from pathlib import Path

    from penstock.testing.served_project import ServedProject


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
