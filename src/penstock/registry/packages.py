"""Packages on disk: a folder with a manifest, the native model and a sample, checked by hash."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import msgspec
import polars as pl

from penstock.errors import StateError
from penstock.records import MANIFEST_SCHEMA, Manifest, NativeFormat

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

__all__ = [
    "MANIFEST_FILE",
    "NATIVE_FILES",
    "SAMPLE_FILE",
    "check_file",
    "file_sha256",
    "read_manifest",
    "read_sample",
    "write_manifest",
]

MANIFEST_FILE = "manifest.json"
SAMPLE_FILE = "sample.parquet"
NATIVE_FILES: Mapping[NativeFormat, str] = {
    "skops": "model.skops",
    "ubj": "model.ubj",
    "lgb": "model.txt",
    "custom": "model.custom",
    "graph": "model.graph",
}


class _Numbered(msgspec.Struct):
    schema: int = 0


def read_manifest(folder: Path) -> Manifest:
    """Read the manifest of a package.

    Args:
        folder: The package.

    Raises:
        StateError: There is none, it cannot be read, or a newer version of Penstock wrote it.
    """
    path = folder / MANIFEST_FILE
    try:
        content = path.read_bytes()
        number = msgspec.json.decode(content, type=_Numbered).schema
        if number > MANIFEST_SCHEMA:
            raise StateError(
                f"{path} has schema {number}, but this version of Penstock reads up to "
                f"{MANIFEST_SCHEMA}. Update Penstock.",
                path=str(path),
                schema=number,
            )
        return msgspec.json.decode(content, type=Manifest)
    except (OSError, msgspec.DecodeError) as error:
        raise StateError(
            f"{path} is no readable manifest: {error}. Train the model again, or restore the "
            "package from a copy.",
            path=str(path),
        ) from error


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Write the manifest of a package in the making, for people to read as well.

    Args:
        folder: The package.
        manifest: What it says.
    """
    content = msgspec.json.encode(manifest, order="sorted")
    (folder / MANIFEST_FILE).write_bytes(msgspec.json.format(content, indent=2))


def file_sha256(path: Path) -> str:
    """Hash (sha256, hex) of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def check_file(folder: Path, manifest: Manifest, name: str) -> Path:
    """The path of a file of the package, once its bytes are known to be the manifest's.

    Args:
        folder: The package.
        manifest: Its manifest.
        name: The file's name.

    Raises:
        StateError: The manifest does not list it, it is missing, or it was altered.
    """
    path = folder / name
    label = f"{manifest.model}@{manifest.version}"
    expected = manifest.files.get(name)
    if expected is None or not path.is_file():
        raise StateError(
            f"The package of {label} has no file {name!r}. Restore it from a copy, or train and "
            "deploy another version.",
            path=str(path),
        )
    found = file_sha256(path)
    if found != expected:
        raise StateError(
            f"{path} is not the file that {label} was registered with: its sha256 is {found}, the "
            f"manifest says {expected}. It is not loaded. Restore it from a copy, or train and "
            "deploy another version.",
            path=str(path),
            sha256=found,
            expected=expected,
        )
    return path


def read_sample(folder: Path, manifest: Manifest) -> pl.DataFrame:
    """Test rows of the package: the features (Float64), the label and ``prediction``.

    Args:
        folder: The package.
        manifest: Its manifest.

    Raises:
        StateError: The file is missing or was altered.
    """
    return pl.read_parquet(check_file(folder, manifest, SAMPLE_FILE))
