"""What runs inside a worker process."""

from __future__ import annotations

import atexit
import importlib
import multiprocessing
import os
import pickle
import signal
import sys
import threading
import traceback
from multiprocessing.connection import wait
from typing import TYPE_CHECKING

from penstock.errors import NotFoundError, UserCodeError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

__all__ = ["call", "prepare"]

_THREAD_VARIABLES = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "NUMEXPR_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
    "POLARS_MAX_THREADS",
)


def prepare(python_path: tuple[str, ...]) -> None:
    """Set up a fresh worker, before any numeric library is imported.

    Args:
        python_path: Folders that modules are imported from, before all others.
    """
    for variable in _THREAD_VARIABLES:
        os.environ[variable] = "1"
    sys.path[:0] = [folder for folder in python_path if folder not in sys.path]
    # Ctrl-C reaches every process of the terminal; the parent alone decides what it means.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # Registered first, so called last: taking large libraries apart at the end takes a second.
    atexit.register(os._exit, 0)
    threading.Thread(target=_end_with_parent, name="end-with-parent", daemon=True).start()


def call(function: str, arguments: Mapping[str, object]) -> object:
    """Call ``module:name`` with keyword arguments.

    Raises:
        NotFoundError: There is no such module or function.
        UserCodeError: The function raised an error that cannot travel between processes.
    """
    target = _resolve(function)
    try:
        return target(**arguments)
    except Exception as error:
        if _travels(error):
            raise
        message = (
            f"{function!r} failed with {type(error).__name__}: {error}\n"
            f"{''.join(traceback.format_exception(error))}"
        )
        raise UserCodeError(message, function=function, error=type(error).__name__) from None


def _resolve(function: str) -> Callable[..., object]:
    module_name, _, name = function.partition(":")
    hint = "Expected 'module:name' of a function that the worker can import."
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        # A module that is there but imports a missing one is its author's matter.
        if error.name is None or not f"{module_name}.".startswith(f"{error.name}."):
            raise
        raise NotFoundError.of("module", module_name, hint=hint) from error
    target: object = getattr(module, name, None)
    if not callable(target):
        raise NotFoundError.of("function", function, hint=hint)
    return target


def _travels(error: Exception) -> bool:
    """Whether the error survives pickling; one that does not would break the whole pool."""
    try:
        pickle.loads(pickle.dumps(error))  # noqa: S301 - our own bytes, made on this line
    except Exception:  # noqa: BLE001 - pickling runs code of the error's class: anything may happen
        return False
    return True


def _end_with_parent() -> None:
    """End this process when its parent is gone: nobody would ever ask it for anything again."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os._exit(1)
