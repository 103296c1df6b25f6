"""Functions of the user inside expressions: found again, checked, called inside one boundary."""

from __future__ import annotations

import hashlib
import importlib
import inspect
import traceback
from functools import reduce
from typing import TYPE_CHECKING

import numpy as np

from penstock.errors import DeclarationError, UserCodeError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from penstock.spec import Function

    from .arrays import FloatArray

__all__ = ["call_function", "load_function"]

HASH_LENGTH = 12


def load_function(node: Function) -> Callable[..., object]:
    """Import the function an expression names and check that it is still the same.

    Args:
        node: The function as it was declared, with the hash of its source.

    Returns:
        The function itself.

    Raises:
        DeclarationError: It cannot be imported, or its source is another one now.
    """
    subject = f"function {node.module}.{node.qualname}"
    try:
        module = importlib.import_module(node.module)
        body: Callable[..., object] = reduce(getattr, node.qualname.split("."), module)  # type: ignore[assignment]
        source = inspect.getsource(body)
    except (ImportError, AttributeError, OSError, TypeError) as error:
        fault = f"it cannot be found again ({error}); put its module where Python imports from"
        raise DeclarationError.of(subject, [fault]) from error
    found = hashlib.sha256(source.encode()).hexdigest()
    if found != node.sha256:
        fault = (
            f"its source changed since it was declared (hash {node.sha256[:HASH_LENGTH]}, now "
            f"{found[:HASH_LENGTH]}); apply the declarations again"
        )
        raise DeclarationError.of(subject, [fault])
    return body


def call_function(
    node: Function, body: Callable[..., object], arrays: Sequence[FloatArray]
) -> FloatArray:
    """Call a function of the user with one array per argument, NaN standing for null.

    It is not called for no rows: a reduction inside it would have nothing to reduce.

    Args:
        node: The function as it was declared; errors name it.
        body: What ``load_function`` returned for it.
        arrays: float64 arrays of one length.

    Returns:
        A float64 array of that length; whatever is not finite in it means null.

    Raises:
        UserCodeError: The function failed, or returned something else.
    """
    name = f"{node.module}.{node.qualname}"
    if not len(arrays[0]):
        return np.empty(0)
    try:
        result = np.asarray(body(*arrays), dtype=np.float64)
    except (Exception, SystemExit) as error:  # the one boundary around code that is not ours
        last = traceback.extract_tb(error.__traceback__)[-1]
        what = f"The function {name!r} failed with {type(error).__name__}"
        place = f"({last.filename}:{last.lineno})"
        raise UserCodeError(
            f"{what}: {error} {place}. It is called with one float64 array per column, "
            "NaN where there is no value; correct it and apply again.",
            function=name,
            plain=f"{what} {place}.",
        ) from error
    if result.shape != arrays[0].shape:
        raise UserCodeError(
            f"The function {name!r} returned the shape {result.shape} for arrays of shape "
            f"{arrays[0].shape}. It has to return one value per row.",
            function=name,
        )
    return result
