"""What worker processes do for deployment: convert a model and prove the conversion.

Plain JSON values in and out. After a training these processes have the model's library loaded.
"""

from __future__ import annotations

from pathlib import Path

import msgspec

from penstock.registry import read_manifest

from .choose import choose_engine

__all__ = ["prove_engine"]


def prove_engine(*, package: str, model: str) -> object:
    """Choose what serves a package; see ``choose_engine``.

    Args:
        package: Path of the package.
        model: Where the ONNX model is written, if that is what serves.

    Returns:
        An ``EngineChoice`` as plain values.
    """
    folder = Path(package)
    made = choose_engine(folder, read_manifest(folder))
    if made.model is not None:
        Path(model).write_bytes(made.model)
    return msgspec.to_builtins(made.choice)
