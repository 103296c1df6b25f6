"""How online scoring starts: what it may never use is not taken in."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from penstock.runtime import by_need

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["SELDOM", "serve"]

SELDOM = ("onnxruntime", "polars")
"""Libraries that a serving process takes in when something of them is first used: a model in ONNX
form is loaded, a request comes as a table, more than a few rows have features computed on
demand."""
PROCESS = "penstock.http.serve_process"


def serve(
    home: Path, *, host: str | None = None, port: int | None = None, workers: int | None = None
) -> None:
    """Run online scoring until it is told to stop; answers what is in flight before it ends.

    Args:
        home: The project folder.
        host: The address to bind to; the settings' when left out.
        port: The port; the settings' when left out.
        workers: How many processes answer, sharing the port; the settings' when left out. With
            more than one this process only watches over them.

    Raises:
        NotReadyError: The folder has not been initialised.
        SettingsError: The address can be reached from elsewhere without TLS or consent.
        UnavailableError: The port or the socket is taken.
        NotSupportedError: gRPC is wanted and its library is not installed.
        StateError: The project's state cannot be read; the log says what.
    """
    by_need(*SELDOM)
    import_module(PROCESS).serve(home, host=host, port=port, workers=workers)
