from __future__ import annotations

import hashlib
from functools import partial
from typing import TYPE_CHECKING

import pytest

from penstock.adapters.files import FileArtifacts
from penstock.errors import StateError
from penstock.testing.artifacts_suite import ArtifactsSuite

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from penstock.ports import Artifacts


class TestFileArtifacts(ArtifactsSuite):
    @pytest.fixture
    def opener(self, tmp_path: Path) -> Callable[[], Artifacts]:
        return partial(FileArtifacts, tmp_path / "state" / "artifacts")


def test_reference_of_a_file_is_its_hash(tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.write_bytes(b"one")
    reference = FileArtifacts(tmp_path / "artifacts").put(source)
    assert reference == hashlib.sha256(b"one").hexdigest()


def test_scratch_of_the_dead_is_swept(tmp_path: Path) -> None:
    leftover = tmp_path / "artifacts" / "scratch" / "dead" / "content"
    leftover.parent.mkdir(parents=True)
    leftover.write_bytes(b"half")
    source = tmp_path / "source"
    source.write_bytes(b"one")
    FileArtifacts(tmp_path / "artifacts").put(source)
    assert list((tmp_path / "artifacts" / "scratch").iterdir()) == []


def test_root_that_cannot_be_written(tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.write_bytes(b"one")
    with pytest.raises(StateError, match="could not be written"):
        FileArtifacts(source / "artifacts").put(source)
