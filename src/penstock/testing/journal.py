"""Step functions that leave a trace on disk, so that several processes can be watched at work.

Each appends its name to a journal when it is called. Files in the same folder tell them what to do:
``release`` lets ``hold`` return and ``hold_broken`` fail, ``mended`` keeps ``flaky`` and ``broken``
from failing.
"""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING

from penstock.errors import InputError, UnavailableError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from penstock.ports import StepFunction

__all__ = ["Journal"]

POLL_S = 0.01
PATIENCE_S = 60.0


class Journal:
    """The traces and switches of one test.

    Args:
        folder: Where they are kept.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._path = folder / "journal"

    @property
    def lines(self) -> list[str]:
        """What was called, in order."""
        return self._path.read_text().split() if self._path.exists() else []

    def switch(self, name: str) -> None:
        """Set a switch: ``release`` or ``mended``."""
        (self._folder / name).touch()

    def await_line(self, line: str, *, times: int = 1) -> None:
        """Wait until something was called so often.

        Raises:
            TimeoutError: It was not.
        """
        self._await(lambda: self.lines.count(line) >= times, line)

    @property
    def functions(self) -> Mapping[str, StepFunction]:
        """The step functions by their names."""
        return {
            "first": self._first,
            "hold": self._hold,
            "hold_broken": self._hold_broken,
            "last": self._last,
            "flaky": self._flaky,
            "broken": self._broken,
            "stop": self._stop,
        }

    def _note(self, line: str) -> None:
        handle = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        try:
            os.write(handle, f"{line}\n".encode())  # one write: whole lines from every process
        finally:
            os.close(handle)

    def _is_set(self, name: str) -> bool:
        return (self._folder / name).exists()

    def _first(
        self, parameters: Mapping[str, object], _outputs: Mapping[str, object]
    ) -> Mapping[str, object]:
        self._note(str(parameters.get("line", "first")))
        return {"given": parameters.get("value")}

    def _hold(
        self, _parameters: Mapping[str, object], _outputs: Mapping[str, object]
    ) -> Mapping[str, object]:
        self._note("hold")
        self._await(lambda: self._is_set("release"), "release")
        return {}

    def _hold_broken(
        self, _parameters: Mapping[str, object], _outputs: Mapping[str, object]
    ) -> Mapping[str, object]:
        self._note("hold")
        self._await(lambda: self._is_set("release"), "release")
        raise InputError("The file is no CSV. Expected one; correct it.")

    def _last(
        self, _parameters: Mapping[str, object], outputs: Mapping[str, object]
    ) -> Mapping[str, object]:
        self._note("last")
        return {"outputs": dict(outputs)}

    def _flaky(
        self, _parameters: Mapping[str, object], _outputs: Mapping[str, object]
    ) -> Mapping[str, object]:
        self._note("flaky")
        if not self._is_set("mended") and self.lines.count("flaky") < 3:  # noqa: PLR2004
            raise UnavailableError("The store is busy. Try again.")
        return {}

    def _broken(
        self, _parameters: Mapping[str, object], _outputs: Mapping[str, object]
    ) -> Mapping[str, object]:
        self._note("broken")
        if not self._is_set("mended"):
            raise InputError("The file is no CSV. Expected one; correct it.")
        return {}

    def _stop(
        self, _parameters: Mapping[str, object], _outputs: Mapping[str, object]
    ) -> Mapping[str, object]:
        self._note("stop")
        return {"stop": True}

    @staticmethod
    def _await(holds: Callable[[], bool], what: str) -> None:
        end_s = time.monotonic() + PATIENCE_S
        while not holds():
            if time.monotonic() > end_s:
                raise TimeoutError(what)
            time.sleep(POLL_S)
