"""What worker processes do for deployment: try the engines of a model and prove them.

Plain JSON values in and out. After a training these processes have the model's library loaded.
"""

from __future__ import annotations

from pathlib import Path

import msgspec

from penstock.registry import read_manifest

from .choose import choose_engine

__all__ = ["prove_engine"]


def prove_engine(*, package: str, into: str) -> object:
    """Choose what serves a package; see ``choose_engine``.

    Args:
        package: Path of the package.
        into: Folder in which the files of the engines that serve are written.

    Returns:
        An ``EngineChoice`` as plain values.
    """
    folder = Path(package)
    made = choose_engine(folder, read_manifest(folder))
    for name, content in made.files.items():
        (Path(into) / name).write_bytes(content)
    return msgspec.to_builtins(made.choice)
