"""What runs in the process of a custom model, by the Python of its own environment.

It needs NumPy and nothing else: Penstock is not installed there. Messages come on standard input
and answers go to standard output, each a JSON header and the bytes of its float64 arrays; what the
model prints goes to standard error.
"""

from __future__ import annotations

import importlib
import inspect
import json
import os
import select
import struct
import sys
import threading
import traceback
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import BinaryIO

    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

LENGTH = struct.Struct("<I")
METHODS = ("fit", "predict", "save", "load")


class Host:
    """The model, and what is asked of it."""

    def __init__(self) -> None:
        self._model: Any = None
        self._class: Any = None

    def find(self, *, root: str, path: str, memory_bytes: int) -> None:
        """Import the class, within the memory it may have."""
        if memory_bytes:
            import resource  # noqa: PLC0415 - there is none on Windows

            resource.setrlimit(resource.RLIMIT_DATA, (memory_bytes, memory_bytes))
        sys.path.insert(0, root)
        module, _, name = path.partition(":")
        self._class = getattr(importlib.import_module(module), name)

    def check(self, *, params: dict[str, object]) -> list[str]:
        """Everything that keeps the class from being used."""
        lacking = [name for name in METHODS if not callable(getattr(self._class, name, None))]
        faults = [f"it has no method {name!r}" for name in lacking]
        try:
            inspect.signature(self._class).bind(**params)
        except TypeError as error:
            faults.append(f"it does not take its parameters: {error}")
        return faults

    def make(self, *, params: dict[str, object], seed: int) -> dict[str, object]:
        """Build the model; returns the parameters it was built with."""
        if "random_state" in inspect.signature(self._class).parameters:
            params.setdefault("random_state", seed)
        self._model = self._class(**params)
        return params

    def fit(self, x: Floats, y: Floats, *, whole: bool) -> None:
        """Let it learn."""
        self._model.fit(x, y[:, 0].astype(np.int64) if whole else y[:, 0])

    def save(self, *, file: str) -> None:
        """Let it write its file."""
        self._model.save(file)

    def load(self, *, file: str) -> None:
        """Let it read its file."""
        self._model = self._class.load(file)

    def predict(self, x: Floats) -> Floats:
        """Let it predict."""
        found = np.asarray(self._model.predict(x), dtype=np.float64)
        if found.shape != (len(x),):
            raise ValueError(
                f"predict gave an array of shape {found.shape} for {len(x)} rows; expected one "
                "number for each, the probability of true or the value"
            )
        return found


def main() -> None:
    """Answer until nobody asks any more."""
    sys.path.pop(0)  # the folder of this file
    asks, answers = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.dup2(2, 1)
    threading.Thread(target=_end_with_parent, args=(asks.fileno(),), daemon=True).start()
    host = Host()
    while True:
        header, arrays = _receive(asks)
        if header is None:
            os._exit(0)
        do: Callable[..., object] = getattr(host, header.pop("do"))
        try:
            found = do(*arrays, **header)
        except BaseException as error:  # noqa: BLE001 - the model's own code raises anything
            _send(answers, _failure(error))
            continue
        if isinstance(found, np.ndarray):
            _send(answers, {}, found)
        else:
            _send(answers, {"value": found})


def _failure(error: BaseException) -> dict[str, object]:
    told = "".join(traceback.format_exception(type(error), error, error.__traceback__))
    return {"error": type(error).__name__, "text": str(error), "traceback": told}


def _receive(file: BinaryIO) -> tuple[dict[str, Any] | None, list[Floats]]:
    head = file.read(LENGTH.size)
    if len(head) < LENGTH.size:
        return None, []
    header = json.loads(file.read(LENGTH.unpack(head)[0]))
    arrays: list[Floats] = []
    for rows, width in header.pop("shapes"):
        content = file.read(8 * rows * width)
        arrays.append(np.frombuffer(content, dtype=np.float64).reshape(rows, width).copy())
    return header, arrays


def _send(file: BinaryIO, header: dict[str, object], array: Floats | None = None) -> None:
    size = 0 if array is None else len(array)
    content = json.dumps({**header, "size": size}).encode()
    file.write(LENGTH.pack(len(content)) + content + (b"" if array is None else array.tobytes()))
    file.flush()


def _end_with_parent(place: int) -> None:
    """End when nobody can ask any more, also in the middle of something."""
    poll = select.poll()
    poll.register(place, 0)  # hanging up is told always
    poll.poll()
    os._exit(1)


if __name__ == "__main__":
    main()
