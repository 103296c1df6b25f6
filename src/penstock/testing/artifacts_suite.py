"""What every implementation of ``Artifacts`` must keep."""
# ruff: noqa: S101, PLR2004 - a suite asserts, and literal expectations are its point

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest

from penstock.errors import InputError, NotFoundError, StateError

from .children import child

if TYPE_CHECKING:
    from collections.abc import Callable
    from multiprocessing.connection import Connection
    from pathlib import Path

    from penstock.ports import Artifacts

__all__ = ["ArtifactsSuite"]

_ABSENT = "0" * 64
_SIZE_BYTES = 200_000


class ArtifactsSuite:
    """Subclass it and override the fixture ``opener``."""

    @pytest.fixture
    def opener(self) -> Callable[[], Artifacts]:
        """Opens the same store each time; pickles, so that other processes can open it."""
        raise NotImplementedError

    @pytest.fixture
    def store(self, opener: Callable[[], Artifacts]) -> Artifacts:
        """The store, empty at first."""
        return opener()

    def test_file(self, store: Artifacts, tmp_path: Path) -> None:
        """A file is kept as it is, and apart from the one it was made from."""
        source = _file(tmp_path / "source", b"one")
        reference = store.put(source)
        source.write_bytes(b"two")
        assert store.path(reference).read_bytes() == b"one"
        assert store.exists(reference)
        assert len(reference) == 64

    def test_folder(self, store: Artifacts, tmp_path: Path) -> None:
        """A folder is kept with everything in it."""
        _file(tmp_path / "source/inner/deep.bin", b"\x00\xff")
        _file(tmp_path / "source/top.txt", b"")
        kept = store.path(store.put(tmp_path / "source"))
        found = {path.relative_to(kept).as_posix() for path in kept.rglob("*") if path.is_file()}
        assert found == {"inner/deep.bin", "top.txt"}
        assert (kept / "inner/deep.bin").read_bytes() == b"\x00\xff"

    def test_reference_is_made_from_the_content(
        self, store: Artifacts, opener: Callable[[], Artifacts], tmp_path: Path
    ) -> None:
        """The same content has the same reference, another content, name or place another."""
        folders = [
            {"a": b"1", "b": b"2"},
            {"a": b"2", "b": b"1"},
            {"a": b"12", "b": b""},
            {"b": b"1", "c": b"2"},
            {"a/b": b"12"},
            {"a": b"1"},
            {},
        ]
        references: list[str] = []
        for place, files in enumerate(folders):
            for name, content in files.items():
                _file(tmp_path / str(place) / name, content)
            (tmp_path / str(place)).mkdir(exist_ok=True)
            references.append(store.put(tmp_path / str(place)))
        references += [store.put(_file(tmp_path / "f", content)) for content in (b"1", b"12", b"")]
        assert len(set(references)) == len(references)
        again = _file(tmp_path / "elsewhere/a", b"1")
        assert opener().put(again) == references[-3]
        assert opener().put(again.parent) == references[5]

    def test_what_is_not_there(self, store: Artifacts) -> None:
        """An unknown reference is not found, nor is one that is no reference."""
        for reference in (_ABSENT, "", "x", "../artifacts", f"{_ABSENT}/.."):
            assert not store.exists(reference)
            with pytest.raises(NotFoundError):
                store.path(reference)

    def test_nothing_to_put(self, store: Artifacts, tmp_path: Path) -> None:
        """A path where nothing is, and a link, are refused."""
        with pytest.raises(InputError, match="no file or folder"):
            store.put(tmp_path / "nothing")
        _file(tmp_path / "source/a", b"1")
        (tmp_path / "source/link").symlink_to(tmp_path / "source/a")
        with pytest.raises(InputError, match="link"):
            store.put(tmp_path / "source")

    @pytest.mark.parametrize("damage", [b"", b"one", b"onf", b"one!"])
    def test_damaged(
        self, store: Artifacts, opener: Callable[[], Artifacts], tmp_path: Path, damage: bytes
    ) -> None:
        """A changed artifact is found by this object and the next; putting it again repairs it."""
        source = _file(tmp_path / "source/a", b"one")
        reference = store.put(source.parent)
        kept = store.path(reference)
        _file(kept / "b" if damage == b"one" else kept / "a", damage)
        for reader in (store, opener()):
            with pytest.raises(StateError, match="damaged"):
                reader.path(reference)
        assert store.put(source.parent) == reference
        assert (opener().path(reference) / "a").read_bytes() == b"one"

    def test_threads_put_the_same(self, store: Artifacts, tmp_path: Path) -> None:
        """However often it is put at once, it is there once and whole."""
        _file(tmp_path / "source/a", b"1" * _SIZE_BYTES)
        with ThreadPoolExecutor(4) as pool:
            references = set(pool.map(lambda _: store.put(tmp_path / "source"), range(12)))
        assert len(references) == 1
        assert store.path(references.pop()).is_dir()

    @pytest.mark.slow
    def test_kill(self, store: Artifacts, opener: Callable[[], Artifacts], tmp_path: Path) -> None:
        """What a killed process had put is whole; what it was about to put is absent or whole."""
        with child(_put, opener, tmp_path) as writer:
            writer.listen(15)
            said = writer.kill()
        for number in range(1, len(said) + 2):
            folder = _numbered(tmp_path / "again", number)
            acknowledged = number <= len(said)
            if acknowledged:
                assert store.path(str(said[number - 1])).is_dir()
            reference = store.put(folder)
            assert not acknowledged or reference == said[number - 1]
            assert (store.path(reference) / "small").read_text() == str(number)


def _file(path: Path, content: bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def _numbered(root: Path, number: int) -> Path:
    _file(root / f"{number}/large", b"%d" % number * _SIZE_BYTES)
    _file(root / f"{number}/small", b"%d" % number)
    return root / str(number)


def _put(say: Connection, opener: Callable[[], Artifacts], root: Path) -> None:
    store = opener()
    for number in range(1, 9999):
        say.send(store.put(_numbered(root, number)))
