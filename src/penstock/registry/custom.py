"""Custom models: classes of the user, in a process of their own.

The process runs the Python of the model's own environment and is asked through pipes. Whatever it
does, this process goes on: an error of the model is an error of the call; a process that dies or is
late is ended and another started at once, which reads the model's file again. One that dies again
and again is started more and more seldom, and whoever asks meanwhile is told so.

A package holds the model's own file, in whatever format it writes, and where its class is. The
class comes from the project's folder, never from the package, and has to be the one that was
trained.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import select
import struct
import subprocess
import sys
import tempfile
import time
import weakref
import zipfile
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, cast

import msgspec
import numpy as np

from penstock.errors import (
    InputError,
    NotSupportedError,
    StateError,
    UnavailableError,
    UserCodeError,
)

from .custom_folder import CustomFolder

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

__all__ = ["CustomModel", "CustomPlace", "open_custom"]

ABOUT, MODEL = "about.json", "model"
LENGTH = struct.Struct("<I")
START_S = 60.0
PAUSED_DEATHS = 3  # of a batch and of the one row in it that kills, a neighbour hears nothing
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.1, 30.0
NEVER_S = LONGEST_WAIT_S = 1e6
PIPE_BYTES = 4_096  # a pipe that can be written to takes so many without waiting
PART_ROWS = 4_096


class CustomPlace(msgspec.Struct, frozen=True, kw_only=True):
    """Where a custom model's class is, and what it may use.

    Attributes:
        path: ``module:Class``.
        python: The interpreter of its environment; empty for this one. Relative to the folder that
            the module is in.
        timeout_s: Longest time for a prediction of up to 4,096 rows.
        memory_bytes: Most memory for its data; 0 for no bound.
        sha256: Of the module's source when it was trained; empty before.
    """

    path: str
    python: str = ""
    timeout_s: float = 10.0
    memory_bytes: int = 0
    sha256: str = ""


class _Child:
    """The process that lives now, replaced when it dies, and the file that it reads."""

    def __init__(self) -> None:
        self.process: subprocess.Popen[bytes] | None = None
        self.folder: CustomFolder | None = None

    def close(self) -> None:
        """Leave nothing behind."""
        self.end()
        if self.folder is not None:
            self.folder.remove()
            self.folder = None

    def end(self) -> None:
        """End it, wherever it is."""
        process, self.process = self.process, None
        if process is None:
            return
        process.kill()
        process.wait()
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                with suppress(OSError):
                    pipe.close()


class CustomModel:
    """A model in a process of its own. For one thread at a time.

    Args:
        place: Where its class is.

    Raises:
        NotSupportedError: There is no such module or interpreter.
        StateError: The module is not the one that was trained.
        UserCodeError: Its class cannot be imported.
        UnavailableError: The process died or did not start in time.
    """

    def __init__(self, place: CustomPlace) -> None:
        self.place = place
        self._root, source = _source(place)
        self._sha256 = hashlib.sha256(source.read_bytes()).hexdigest()
        if place.sha256 not in {"", self._sha256}:
            raise StateError(
                f"{source} is not what {place.path} was trained with: it has changed since. Bring "
                "the file back as it was, or train the model again.",
                path=str(source),
            )
        self._child = _Child()
        self._ended = weakref.finalize(self, _Child.close, self._child)
        self._deaths = 0
        self._not_before_s = 0.0
        self._unheard = 0  # what a process was told at its start and has not answered
        self._start()
        try:
            self._settle()
        except BaseException:
            self.close()
            raise

    @property
    def estimator(self) -> object:
        """There is none in this process."""
        return None

    @property
    def process_id(self) -> int:
        """Of the process that lives now; 0 between two."""
        return self._child.process.pid if self._child.process else 0

    def close(self) -> None:
        """End the process; the object is not used afterwards."""
        self._ended()

    def check(self, params: Mapping[str, object]) -> list[str]:
        """Everything that keeps the class from being trained with such parameters."""
        return cast("list[str]", self._ask({"do": "check", "params": dict(params)}, START_S))

    def make(self, params: Mapping[str, object], seed: int) -> dict[str, object]:
        """Build the model; returns the parameters, with the seed where it takes one."""
        told = {"do": "make", "params": dict(params), "seed": seed}
        return cast("dict[str, object]", self._ask(told, START_S))

    def fit(self, x: Floats, y: NDArray[np.generic]) -> CustomModel:
        """Let it learn, however long that takes."""
        whole = np.issubdtype(y.dtype, np.integer)
        truth = np.asarray(y, dtype=np.float64).reshape(-1, 1)
        self._ask({"do": "fit", "whole": bool(whole)}, NEVER_S, x, truth)
        return self

    def predict(self, x: Floats) -> Floats:
        """Predict rows; see ``NativeModel``.

        Raises:
            UserCodeError: The model failed.
            UnavailableError: Its process died or was late; the next call finds another one.
        """
        parts = [
            cast(
                "Floats", self._ask({"do": "predict"}, self.place.timeout_s, x[at : at + PART_ROWS])
            )
            for at in range(0, len(x), PART_ROWS)
        ]
        return parts[0] if len(parts) == 1 else np.concatenate([*parts, np.empty(0)])

    def save(self, path: Path) -> None:
        """Write the model's file and where its class is."""
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / MODEL
            self._ask({"do": "save", "file": str(file)}, START_S)
            if not file.is_file():
                raise UserCodeError(
                    f"{self.place.path} wrote no file: save(path) has to write one file at path.",
                    plain=f"{self.place.path} wrote no file.",
                )
            about = msgspec.structs.replace(self.place, sha256=self._sha256)
            with zipfile.ZipFile(path, "w") as packed:
                packed.writestr(ABOUT, msgspec.json.encode(about))
                packed.write(file, MODEL)

    def load(self, content: bytes) -> None:
        """Read the model's file, now and in each process to come."""
        folder = self._child.folder = CustomFolder()
        (folder.path / MODEL).write_bytes(content)
        self._ask(_reading(folder.path), START_S)

    def _ask(self, header: dict[str, Any], wait_s: float, *arrays: Floats) -> object:
        self._revive()
        try:
            self._tell(header, arrays, wait_s)
            found = self._answer(wait_s)
        except UnavailableError:
            self._bury()
            raise
        except BaseException as error:
            # Interrupted in the middle of a message, as by the end of a search's time.
            if not isinstance(error, UserCodeError):
                self._bury()
            raise
        self._deaths = 0
        return found

    def _revive(self) -> None:
        """See that a process lives and has read the model."""
        process = self._child.process
        if process is not None and process.poll() is not None:
            self._bury()
        if self._child.process is None:
            left_s = self._not_before_s - time.monotonic()
            if left_s > 0:
                raise UnavailableError(
                    f"The process of {self.place.path} has died {self._deaths} times in a row; it "
                    f"is started again in {left_s:.1f} s. Its standard error says why.",
                    retry_after_s=max(1, round(left_s)),
                )
            self._start()
        if self._unheard:
            try:
                self._settle()
            except (UnavailableError, UserCodeError):
                self._bury()
                raise

    def _bury(self) -> None:
        """Let go of a process that died or is late; start the next one, unless it keeps dying."""
        self._child.end()
        self._deaths += 1
        if self._deaths < PAUSED_DEATHS:
            with suppress(NotSupportedError):  # who asks next is told
                self._start()
            return
        pause_s = min(FIRST_PAUSE_S * 2 ** min(self._deaths, 20), LONGEST_PAUSE_S)
        self._not_before_s = time.monotonic() + pause_s

    def _start(self) -> None:
        """Start a process and tell it what to load; it need not have answered yet."""
        python = self.place.python
        program = str(self._root / python) if python else sys.executable
        try:
            self._child.process = subprocess.Popen(  # noqa: S603 - the project's own interpreter
                [program, str(Path(__file__).with_name("custom_child.py"))],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                bufsize=0,
                cwd=self._root,
                env=_environment(),
            )
        except OSError as error:
            raise NotSupportedError(
                f"The interpreter {program} of {self.place.path} cannot be started: {error}. Make "
                "its environment there (uv venv, uv pip install numpy ...), or leave python= out.",
                python=program,
            ) from error
        self._unheard = 1
        told = {"do": "find", "root": str(self._root), "path": self.place.path,
                "memory_bytes": self.place.memory_bytes}  # fmt: skip
        with suppress(UnavailableError):  # it died already, which the answer will tell
            self._tell(told, (), START_S)
            if self._child.folder is not None:
                self._tell(_reading(self._child.folder.path), (), START_S)
                self._unheard += 1

    def _settle(self) -> None:
        """Hear what a fresh process says of what it was told at its start."""
        while self._unheard:
            self._unheard -= 1
            self._answer(START_S)

    def _tell(self, header: dict[str, Any], arrays: tuple[Floats, ...], wait_s: float) -> None:
        rows = [np.ascontiguousarray(one, dtype=np.float64) for one in arrays]
        content = json.dumps({**header, "shapes": [one.shape for one in rows]}).encode()
        pipe = self._pipe().stdin
        place = pipe.fileno() if pipe is not None else -1
        end_s = time.monotonic() + wait_s
        for part in (LENGTH.pack(len(content)) + content, *(one.tobytes() for one in rows)):
            left = memoryview(part)
            while left:
                self._wait(place, select.POLLOUT, end_s, wait_s)
                try:
                    left = left[os.write(place, left[:PIPE_BYTES]) :]
                except OSError as error:
                    raise self._died() from error

    def _answer(self, wait_s: float) -> object:
        end_s = time.monotonic() + wait_s
        head = self._read(LENGTH.size, end_s, wait_s)
        header = json.loads(self._read(LENGTH.unpack(head)[0], end_s, wait_s))
        if "error" in header:
            raise UserCodeError(
                f"{self.place.path} failed: {header['error']}: {header['text']}",
                plain=f"{self.place.path} failed with {header['error']}.",
                traceback=header["traceback"],
            )
        if "value" in header:
            return header["value"]
        return np.frombuffer(self._read(8 * header["size"], end_s, wait_s), dtype=np.float64)

    def _read(self, size: int, end_s: float, wait_s: float) -> bytes:
        pipe = self._pipe().stdout
        parts = io.BytesIO()
        place = pipe.fileno() if pipe is not None else -1
        while parts.tell() < size:
            self._wait(place, select.POLLIN, end_s, wait_s)
            content = os.read(place, min(size - parts.tell(), 1 << 20))
            if not content:
                raise self._died()
            parts.write(content)
        return parts.getvalue()

    def _wait(self, place: int, what: int, end_s: float, wait_s: float) -> None:
        poll = select.poll()
        poll.register(place, what)
        left_s = min(end_s - time.monotonic(), LONGEST_WAIT_S)
        if left_s > 0 and poll.poll(left_s * 1000):
            return
        raise UnavailableError(
            f"{self.place.path} did not answer within {wait_s:g} s; its process was ended. "
            "Give it timeout=, or look at what it waits for.",
            retry_after_s=1,
        )

    def _pipe(self) -> subprocess.Popen[bytes]:
        if self._child.process is None:
            raise self._died()
        return self._child.process

    def _died(self) -> UnavailableError:
        return UnavailableError(
            f"The process of {self.place.path} died: it was killed, ran out of memory, or crashed "
            "in native code. Its standard error may say why; another one is started.",
            retry_after_s=1,
        )


def open_custom(content: bytes) -> CustomModel:
    """Start the process of a model that ``CustomModel.save`` wrote.

    Args:
        content: The file.

    Raises:
        StateError: It cannot be read, or its class is not the one that was trained.
        NotSupportedError: Its module or interpreter is not here.
        UserCodeError: Its class cannot read the model.
        UnavailableError: The process died or did not start in time.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as packed:
            place = msgspec.json.decode(packed.read(ABOUT), type=CustomPlace)
            inner = packed.read(MODEL)
    except (zipfile.BadZipFile, KeyError, msgspec.DecodeError, OSError) as error:
        raise StateError(
            f"This file cannot be read as a custom model: {error}. It is damaged; train the model "
            "again."
        ) from error
    model = CustomModel(place)
    try:
        model.load(inner)
    except BaseException:
        model.close()
        raise
    return model


def _reading(folder: Path) -> dict[str, object]:
    return {"do": "load", "file": str(folder / MODEL)}


def _environment() -> dict[str, str]:
    """The variables of this process without those that belong to its Python."""
    own = {"PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV"}
    threads = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    return {name: value for name, value in os.environ.items() if name not in own} | threads


def _source(place: CustomPlace) -> tuple[Path, Path]:
    """The folder that the module is imported from, and its file; neither is run here."""
    module, _, name = place.path.partition(":")
    if not module or not name:
        raise InputError(f"{place.path!r} is no 'module:Class'.", path=place.path)
    parts = module.split(".")
    for folder in sys.path:
        root = Path(folder or ".").resolve()
        stem = root.joinpath(*parts)
        for file in (stem.with_name(f"{stem.name}.py"), stem / "__init__.py"):
            if file.is_file():
                return root, file
    raise NotSupportedError(
        f"The module {module!r} of the custom model {place.path} is not here; put it into the "
        "project folder.",
        module=module,
    )
