"""Which code a project folder holds, as git knows it."""

from __future__ import annotations

import shutil
import subprocess
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["code_version"]

GIT_TIMEOUT_S = 20


def code_version(home: Path) -> tuple[str, str]:
    """The folder's commit, and what differs from it.

    Args:
        home: The project folder.

    Returns:
        The commit's hash, and the difference as a patch: of tracked files, and of Python and
        settings files that git does not know yet. Both are empty where there is no git, no
        repository or no commit.
    """
    git = shutil.which("git")
    if git is None:
        return "", ""
    commit = _git(git, home, "rev-parse", "--verify", "--quiet", "HEAD").strip()
    if not commit:
        return "", ""
    patch = _git(git, home, "diff", "HEAD", "--no-color", "--no-ext-diff", "--relative", "--", ".")
    unknown = _git(
        git, home, "ls-files", "--others", "--exclude-standard", "-z", "--", "*.py", "*.toml"
    )
    added = [
        _git(git, home, "diff", "--no-color", "--no-ext-diff", "--no-index", "/dev/null", name)
        for name in sorted(unknown.split("\0"))
        if name
    ]
    return commit, "".join([patch, *added])


def _git(git: str, home: Path, *arguments: str) -> str:
    """What git prints; empty when it fails, as it does outside a repository."""
    try:
        done = subprocess.run(  # noqa: S603 - a fixed program with fixed options
            [git, "-C", str(home), *arguments],
            capture_output=True,
            timeout=GIT_TIMEOUT_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    # `diff --no-index` answers 1 for "they differ".
    return done.stdout.decode(errors="replace") if done.returncode in {0, 1} else ""
