"""One supervised process: start it, see whether it is ready, stop it."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
from typing import TYPE_CHECKING, Literal

import msgspec

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

__all__ = ["Child", "ProcessStatus"]

ProcessState = Literal["starting", "ready", "restarting", "stopping", "stopped"]
PR_SET_PDEATHSIG = 1
TAIL_BYTES = 4_000
TAIL_LINES = 6


class ProcessStatus(msgspec.Struct, frozen=True, kw_only=True):
    """Where one supervised process stands.

    Attributes:
        name: ``api``, ``worker``, ``stream`` or ``serve``; ``stream-2`` for the second of them.
        state: ``starting`` until it is ready for the first time, ``restarting`` after it died.
        process_id: Its id; 0 while there is none.
        address: Where it answers; empty for those that do not.
        restarts: How often it was started again.
        detail: What its last death left: how it ended, and its last lines.
    """

    name: str
    state: ProcessState
    process_id: int = 0
    address: str = ""
    restarts: int = 0
    detail: str = ""


class Child:
    """A process that is started again when it dies.

    It runs in a session of its own, so that Ctrl-C at the terminal reaches the supervisor alone,
    and the kernel kills it when the supervisor is gone: everything Penstock does survives that.

    Args:
        name: Which process.
        command: What to run.
        output: File for what it prints.
        kind: What kind of process it is; its name when left out.
        address: Where it will answer; empty for those that do not.
    """

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        output: Path,
        *,
        kind: str = "",
        address: str = "",
    ) -> None:
        self.name = name
        self.kind = kind or name
        self.address = address
        self._command = list(command)
        self._output = output
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def process_id(self) -> int:
        """Its id; 0 before the first start."""
        return self._process.pid if self._process is not None else 0

    @property
    def runs(self) -> bool:
        """Whether it runs now."""
        return self._process is not None and self._process.poll() is None

    def start(self) -> None:
        """Start it; a former one has ended."""
        with self._output.open("wb") as output:
            self._process = subprocess.Popen(  # noqa: S603 - our own command, no shell
                self._command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                preexec_fn=_dies_with(os.getpid()),  # noqa: PLW1509 - one call into libc, no lock
            )

    def terminate(self) -> None:
        """Ask it to stop."""
        if self.runs and self._process is not None:
            self._process.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """End it."""
        if self.runs and self._process is not None:
            self._process.kill()
            self._process.wait()

    def post_mortem(self) -> str:
        """How it ended, and the last lines it printed."""
        code = self._process.returncode if self._process is not None else None
        ended = f"signal {-code}" if code is not None and code < 0 else f"exit code {code}"
        try:
            printed = self._output.read_bytes()[-TAIL_BYTES:].decode(errors="replace")
        except OSError:
            printed = ""
        return "\n".join([ended, *printed.splitlines()[-TAIL_LINES:]])


def _dies_with(parent: int) -> Callable[[], None]:
    """What the new process does before anything else: ask the kernel to be killed with its parent.

    Where the system has no ``prctl``, it is left out: the parent's end is then noticed by nobody.
    """
    prctl = getattr(ctypes.CDLL(None, use_errno=True), "prctl", None)

    def bind() -> None:
        if prctl is not None:
            prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
            if os.getppid() != parent:  # it died in between
                os._exit(1)

    return bind
