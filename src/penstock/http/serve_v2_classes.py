"""Predictions as the classes that rank highest, as Triton's classification extension has them.

The extension:
https://github.com/triton-inference-server/server/blob/main/docs/protocol/extension_classification.md.
Values are told to their last digit; Triton itself rounds them to six decimals.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from .serve_v2_tensors import Output

__all__ = ["classified"]

LABELS = ("false", "true")


def classified(output: Output, count: int, task: str) -> Output:
    """Predictions as texts: ``value:index:label`` of each class, the likeliest first.

    A classification has the classes false, 0, and true, 1. What predicts a value has that one
    alone, which has no label.

    Args:
        output: The predictions.
        count: How many classes are wanted; all there are where they are fewer.
        task: What the model does.
    """
    if task != "classification":
        return _texts(output, (f"{float(value)!r}:0" for value in output.values), 1)
    width = min(count, len(LABELS))
    return _texts(output, _ranked(output, width), width)


def _ranked(output: Output, width: int) -> Iterator[str]:
    for value in output.values:
        true = float(value)
        classes = [(1.0 - true, 0), (true, 1)]
        classes.sort(key=lambda one: -one[0])  # of two that are alike the first stays first
        for likelihood, index in classes[:width]:
            yield f"{likelihood!r}:{index}:{LABELS[index]}"


def _texts(output: Output, values: Iterable[str], width: int) -> Output:
    return msgspec.structs.replace(output, datatype="BYTES", values=list(values), width=width)
