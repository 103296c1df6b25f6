"""What is said of a row for which a version gives no prediction, or one that cannot be."""

from __future__ import annotations

from math import isfinite

from penstock.errors import InputError

__all__ = ["no_score"]


def no_score(label: str, prediction: float) -> InputError:
    """The error of a row whose prediction is outside of ``prediction_bounds``.

    Args:
        label: ``model@version``.
        prediction: What that gave.
    """
    if isfinite(prediction):
        message = (
            f"{label} predicts {prediction:g} for these features, which is no probability; "
            "expected 0 to 1. Check what the model computes, or roll back with 'penstock rollback'."
        )
    else:
        message = (
            f"{label} has no finite prediction for these features. Check the values and the nulls "
            "among them: the model was trained without such rows."
        )
    return InputError(message, version=label, no_value=True)
