from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import pytest

from penstock.adapters.files import FileLocks
from penstock.errors import StateError
from penstock.testing.locks_suite import LocksSuite

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from penstock.ports import Locks


class TestFileLocks(LocksSuite):
    @pytest.fixture
    def opener(self, tmp_path: Path) -> Callable[[], Locks]:
        return partial(FileLocks, tmp_path / "state" / "locks")


def test_names_do_not_leave_the_folder(tmp_path: Path) -> None:
    with FileLocks(tmp_path / "locks").hold("../../a"):
        pass
    assert [path.name for path in tmp_path.iterdir()] == ["locks"]


def test_folder_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StateError, match="cannot be opened"):
        FileLocks(tmp_path / "file" / "locks").hold("a").__enter__()
