"""The folder of the demonstration, and the processes that work on it."""

from __future__ import annotations

import shutil
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from penstock.errors import InputError, UnavailableError

if TYPE_CHECKING:
    from typing import Self

__all__ = ["DEFAULT_HOME", "Processes", "prepare_home"]

DEFAULT_HOME = Path("psystock-demo")
MARKER = ".psystock-demo"
OURS = (".penstock", "data", "project.py", "penstock.toml", ".gitignore", "__pycache__", MARKER)
PROJECT = Path(__file__).with_name("psystock.py")
STOP_S = 30.0
SETTINGS = """\
# Settings of the demonstration; see 'penstock init' in an empty folder for all of them.
api_port = {api}
serve_port = {serve}
workers = 2
stream_wait_ms = 20
"""


def prepare_home(home: Path) -> tuple[int, int]:
    """Make the folder ready: empty of a former demonstration, with the project and its settings.

    Args:
        home: The folder.

    Returns:
        The ports of the control plane and of the serving process.

    Raises:
        InputError: The folder holds something else.
    """
    if home.exists() and not home.is_dir():
        raise InputError(
            f"{home} is a file. Name a new folder with --home; nothing was touched.", home=str(home)
        )
    if home.exists() and any(home.iterdir()) and not (home / MARKER).exists():
        raise InputError(
            f"{home} is not empty, and no former demonstration made it. Name a new folder with "
            "--home; nothing was touched.",
            home=str(home),
        )
    for name in OURS:
        path = home / name
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
    home.mkdir(parents=True, exist_ok=True)
    (home / MARKER).touch()
    shutil.copyfile(PROJECT, home / "project.py")
    api, serve = _free_port(8000), _free_port(8001)
    (home / "penstock.toml").write_text(SETTINGS.format(api=api, serve=serve), encoding="utf-8")
    return api, serve


class Processes:
    """All processes of the folder, as ``penstock up`` runs them.

    Args:
        home: The folder.
    """

    def __init__(self, home: Path) -> None:
        self._output = home / ".penstock" / "logs" / "up.out"
        self._command = [sys.executable, "-m", "penstock.cli", "up", "--home", str(home)]
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        self._output.parent.mkdir(parents=True, exist_ok=True)
        with self._output.open("wb") as output:
            self._process = subprocess.Popen(  # noqa: S603 - our own command
                self._command, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT
            )
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def check(self) -> None:
        """See that the supervisor still runs.

        Raises:
            UnavailableError: It ended; says what it printed last.
        """
        if self._process is None or self._process.poll() is None:
            return
        said = self._output.read_text(errors="replace").strip().splitlines()[-5:]
        raise UnavailableError("'penstock up' ended by itself:\n" + "\n".join(said))

    def stop(self) -> int:
        """Stop all processes as Ctrl-C does; returns the exit code of the supervisor."""
        if self._process is None:
            return 0
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGINT)
        try:
            return self._process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            return self._process.wait()


def _free_port(wanted: int) -> int:
    """The port itself, or another where it is in use."""
    for port in (wanted, 0):
        with socket.socket() as trial:
            trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                trial.bind(("127.0.0.1", port))
            except OSError:
                continue
            return int(trial.getsockname()[1])
    return wanted
