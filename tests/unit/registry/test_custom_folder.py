"""Folders of loaded custom models: whose process was killed, theirs are removed; no others."""

from __future__ import annotations

import signal
import subprocess
import sys
import tempfile
from typing import TYPE_CHECKING

import pytest

from penstock.registry import sweep_custom_folders
from penstock.registry.custom_folder import CustomFolder

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

HOLDER = """
import os, signal
from penstock.registry.custom_folder import CustomFolder
folder = CustomFolder()
(folder.path / "model").write_bytes(b"learned")
os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Where temporary folders are made, by this process and its children."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", None)
    yield tmp_path
    monkeypatch.undo()


def test_what_killed_processes_left_is_removed_and_nothing_else(place: Path) -> None:
    held = CustomFolder()
    beginning = place / "penstock-custom-begins"
    other = place / "somebody-else"
    beginning.mkdir()
    other.mkdir()
    for _ in range(2):
        run = subprocess.run([sys.executable, "-c", HOLDER], check=False)
        assert run.returncode == -signal.SIGKILL
    assert len(list(place.iterdir())) == 5

    swept = sweep_custom_folders()

    assert len(swept) == 2
    assert set(place.iterdir()) == {held.path, beginning, other}
    assert sweep_custom_folders() == []
    held.remove()
    assert set(place.iterdir()) == {beginning, other}
