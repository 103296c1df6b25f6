"""Artifacts in a folder: written aside, flushed to disk, then renamed into place."""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
import shutil
import tempfile
import threading
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from penstock.errors import InputError, NotFoundError, StateError
from penstock.ports import Artifacts

if TYPE_CHECKING:
    from collections.abc import Generator

__all__ = ["FileArtifacts"]

_CHUNK_BYTES = 1 << 20
_REFERENCE = re.compile(r"[0-9a-f]{64}")

# One line per file: its path, inode, size and time of last change. While it stays the same, so
# does the content.
_Signature = tuple[tuple[str, int, int, int], ...]


class FileArtifacts(Artifacts):
    """Artifacts as ``<root>/<first two characters>/<reference>``, a file or a folder.

    The reference of a file is the sha256 of its bytes, that of a folder the sha256 over its files'
    sorted relative paths and their sha256 each; times, modes and empty folders do not count. A
    copy is made in ``<root>/scratch`` and renamed into place when it is whole and on disk. What a
    killed process leaves in scratch is removed by the next one that puts something.

    Args:
        root: The folder; made when something is first put.
    """

    def __init__(self, root: Path) -> None:
        self._root = Path(root)
        self._scratch = self._root / "scratch"
        self._lock = threading.Lock()
        self._swept = False
        self._verified: dict[str, _Signature] = {}

    def put(self, path: Path) -> str:
        """Keep a copy of a file or folder; returns its reference, ``<sha256 hex>``.

        A damaged artifact of the same reference is replaced.

        Raises:
            InputError: There is nothing at the path, or it holds something that is neither file
            nor folder.
            StateError: The copy cannot be written.
        """
        files = _files_of(Path(path))
        try:
            self._sweep()
            with self._aside() as aside:
                reference = _copy(Path(path), files, aside / "content")
                self._place(aside, reference)
        except OSError as error:
            message = (
                f"The artifact of '{path}' could not be written under '{self._root}': "
                f"{error.strerror or error}. "
                "Make sure the folder can be written to and the disk has room, then do it again; "
                "nothing was kept."
            )
            raise StateError(message, path=str(path), root=str(self._root)) from error
        return reference

    def path(self, reference: str) -> Path:
        """A local path of the artifact, to be read only.

        The content is hashed when it is asked for first, and again when a file's time or size
        differs.

        Raises:
            NotFoundError: There is no such artifact.
            StateError: It is there but damaged.
        """
        target = self._target(reference)
        if target is None or not target.exists():
            hint = "It was removed, or belongs to another project folder."
            raise NotFoundError.of("artifact", reference, hint=hint)
        if not self._whole(target, reference):
            message = (
                f"The artifact {reference!r} at '{target}' is damaged: its content has another "
                "hash. "
                "Restore it from a backup, or make it again."
            )
            raise StateError(message, reference=reference, path=str(target))
        return target

    def exists(self, reference: str) -> bool:
        """Whether the artifact is there."""
        target = self._target(reference)
        return target is not None and target.exists()

    def _target(self, reference: str) -> Path | None:
        if _REFERENCE.fullmatch(reference) is None:
            return None
        return self._root / reference[:2] / reference

    def _whole(self, target: Path, reference: str) -> bool:
        """Whether the content still has the hash that is its name."""
        try:
            files = _files_of(target)
            signature = _signature(target, files)
            if self._verified.get(reference) == signature:
                return True
            if _reference_of(target, files) != reference:
                return False
        except (InputError, FileNotFoundError):
            return False
        self._verified[reference] = signature
        return True

    def _place(self, aside: Path, reference: str) -> None:
        """Rename the copy into place, unless a whole one is there already."""
        target = self._root / reference[:2] / reference
        target.parent.mkdir(parents=True, exist_ok=True)
        if target.exists():
            if self._whole(target, reference):
                return
            target.rename(aside / "damaged")
        try:
            (aside / "content").rename(target)
        except OSError:
            # Another process placed the same folder in between; a file is simply replaced.
            if not self._whole(target, reference):
                raise
        _flush_folder(target.parent)
        _flush_folder(self._root)

    @contextmanager
    def _aside(self) -> Generator[Path]:
        """A folder for one copy, locked so that nobody takes it for a leftover."""
        while True:
            aside = Path(tempfile.mkdtemp(dir=self._scratch))
            handle = os.open(aside, os.O_RDONLY)
            fcntl.flock(handle, fcntl.LOCK_EX)
            if aside.exists():
                break
            os.close(handle)  # swept between its making and its locking
        try:
            yield aside
        finally:
            shutil.rmtree(aside, ignore_errors=True)
            os.close(handle)

    def _sweep(self) -> None:
        """Remove, once per object, the scratch folders whose makers are dead."""
        self._scratch.mkdir(parents=True, exist_ok=True)
        with self._lock:
            if self._swept:
                return
            self._swept = True
        for leftover in self._scratch.iterdir():
            with suppress(OSError):
                handle = os.open(leftover, os.O_RDONLY)
                try:
                    fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    shutil.rmtree(leftover, ignore_errors=True)
                finally:
                    os.close(handle)


def _files_of(path: Path) -> list[str]:
    """Relative paths of the files in a folder, sorted; ``[""]`` for a single file.

    Raises:
        InputError: There is nothing, or something that is neither file nor folder.
    """
    if path.is_file():
        return [""]
    if not path.is_dir():
        message = f"There is no file or folder at '{path}' to keep as an artifact."
        raise InputError(message, path=str(path))
    files: list[str] = []
    for found in path.rglob("*"):
        if found.is_file() and not found.is_symlink():
            files.append(found.relative_to(path).as_posix())
        elif found.is_symlink() or not found.is_dir():
            message = (
                f"'{found}' is a link or a special file; an artifact holds only plain files and "
                "folders. "
                "Copy what it stands for into the folder."
            )
            raise InputError(message, path=str(found))
    return sorted(files)


def _copy(source: Path, files: list[str], target: Path) -> str:
    """Copy, flush to disk and hash in one pass, so that the hash is that of the copy."""
    if files == [""]:
        return _copy_file(source, target)
    target.mkdir()
    digests: list[str] = []
    for name in files:
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        digests.append(_copy_file(source / name, target / name))
    for folder in {(target / name).parent for name in files} | {target}:
        _flush_folder(folder)
    return _folder_reference(files, digests)


def _copy_file(source: Path, target: Path) -> str:
    digest = hashlib.sha256()
    with source.open("rb") as reader, target.open("xb") as writer:
        while chunk := reader.read(_CHUNK_BYTES):
            digest.update(chunk)
            writer.write(chunk)
        writer.flush()
        os.fsync(writer.fileno())
    return digest.hexdigest()


def _reference_of(path: Path, files: list[str]) -> str:
    if files == [""]:
        return _hash_file(path)
    return _folder_reference(files, [_hash_file(path / name) for name in files])


def _hash_file(path: Path) -> str:
    with path.open("rb") as reader:
        return hashlib.file_digest(reader, "sha256").hexdigest()


def _folder_reference(files: list[str], digests: list[str]) -> str:
    digest = hashlib.sha256(b"folder\0")
    for name, file_digest in zip(files, digests, strict=True):
        digest.update(f"{name}\0{file_digest}\0".encode())
    return digest.hexdigest()


def _signature(path: Path, files: list[str]) -> _Signature:
    found = [(name, (path / name).stat()) for name in files]
    return tuple((name, stat.st_ino, stat.st_size, stat.st_mtime_ns) for name, stat in found)


def _flush_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
