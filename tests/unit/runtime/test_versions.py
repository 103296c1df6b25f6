from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

from penstock.runtime import code_version

if TYPE_CHECKING:
    from pathlib import Path

    import pytest


def git(folder: Path, *arguments: str) -> None:
    who = ["-c", "user.name=t", "-c", "user.email=t@example.org", "-c", "commit.gpgsign=false"]
    subprocess.run(["git", *who, *arguments], cwd=folder, check=True, capture_output=True)  # noqa: S607


def test_no_repository(tmp_path: Path) -> None:
    assert code_version(tmp_path) == ("", "")


def test_no_commit_yet(tmp_path: Path) -> None:
    git(tmp_path, "init", "-q")

    assert code_version(tmp_path) == ("", "")


def test_no_git(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    git(tmp_path, "init", "-q")
    git(tmp_path, "commit", "-q", "--allow-empty", "-m", "x")
    monkeypatch.setenv("PATH", "")

    assert code_version(tmp_path) == ("", "")


def test_the_commit_and_what_differs(tmp_path: Path) -> None:
    home = tmp_path / "shop"
    home.mkdir()
    (home / "project.py").write_text("a = 1\n")
    (tmp_path / "other.py").write_text("o = 1\n")
    git(tmp_path, "init", "-q")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-q", "-m", "x")
    commit, clean = code_version(home)
    (home / "project.py").write_text("a = 2\n")
    (home / "new.py").write_text("n = 1\n")
    (home / "data.csv").write_text("1\n")
    (tmp_path / "other.py").write_text("o = 2\n")
    same, patch = code_version(home)

    assert len(commit) == 40
    assert (clean, same) == ("", commit)
    assert "-a = 1\n+a = 2\n" in patch
    assert "b/project.py" in patch
    assert "b/new.py" in patch
    assert "+n = 1\n" in patch
    assert "data.csv" not in patch
    assert "other.py" not in patch
