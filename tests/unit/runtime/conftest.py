from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

import pytest

from penstock.runtime import init_project, open_services

if TYPE_CHECKING:
    from collections.abc import Generator
    from pathlib import Path

    from penstock.runtime import LocalServices


@pytest.fixture(autouse=True)
def _own_process_state(monkeypatch: pytest.MonkeyPatch) -> Generator[None]:
    for name in [name for name in os.environ if name.startswith("PENSTOCK_")]:
        monkeypatch.delenv(name)
    monkeypatch.setattr(sys, "path", list(sys.path))
    modules = set(sys.modules)
    yield
    for name in set(sys.modules) - modules:
        if name.partition(".")[0] in {"project", "parts", "shop"}:
            del sys.modules[name]


@pytest.fixture
def home(tmp_path: Path) -> Path:
    folder = tmp_path / "shop-1"
    init_project(folder)
    return folder


@pytest.fixture
def services(home: Path) -> Generator[LocalServices]:
    with open_services(home) as opened:
        yield opened
