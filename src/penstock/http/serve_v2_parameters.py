"""What a request of the Open Inference Protocol (V2) may say beside its tensors: its parameters.

Triton's clients send some whether or not a model has a use for them. What changes nothing of an
answer is taken and left alone, as Triton does; what an answer would have to mind is minded, or
refused.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from penstock.errors import InputError, NotSupportedError, nearest

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

__all__ = ["OUTPUTS", "check_load", "check_unload", "known_outputs", "known_parameters"]

PREDICTION = "prediction"
OUTPUTS = (PREDICTION, "prediction_id")
INT64 = 1 << 63
SEQUENCE_ENDS = ("sequence_start", "sequence_end")
CONFIG, FILES = "config", "file:"
DEPENDENTS = "unload_dependents"


def known_parameters(parameters: Mapping[str, Any]) -> int:
    """How long a request may take by its parameters, in microseconds; 0 where they do not say.

    A model here keeps nothing between requests, so those of a sequence are answered as any others
    are, and the marks of its ends mean nothing. Requests have no order but that of their coming,
    so a priority means nothing either.

    Raises:
        InputError: One is of another type than its clients send.
    """
    for name in SEQUENCE_ENDS:
        if not isinstance(parameters.get(name, False), bool):
            raise InputError(f"{name}={parameters[name]!r}. Give true or false.")
    sequence = parameters.get("sequence_id", 0)
    if not (isinstance(sequence, str) or _is_count(sequence)):
        raise InputError(f"sequence_id={sequence!r}. Give a whole number from 0, or a text.")
    priority = parameters.get("priority", 0)
    if not _is_count(priority):
        raise InputError(f"priority={priority!r}. Give a whole number from 0, which is none.")
    timeout_us = parameters.get("timeout", 0)
    if _is_count(timeout_us) and timeout_us < INT64:
        return int(timeout_us)
    raise InputError(f"timeout={timeout_us!r}. Give a number of microseconds; 0 for no limit.")


def check_load(parameters: Iterable[str]) -> None:
    """Refuse what loading would ignore.

    Args:
        parameters: Names of those that a request to load a deployment has.

    Raises:
        InputError: There is no such parameter.
        NotSupportedError: The request brings a configuration, or files of a model.
    """
    for name in parameters:
        if name == CONFIG or name.startswith(FILES):
            raise NotSupportedError(
                f"Loading with the parameter {name!r} ('config' and 'files' of Triton's clients) "
                "is not supported: what answers is a registered version, as it was registered. "
                "Register a version and deploy it with 'penstock deploy', then load without "
                "parameters."
            )
        raise InputError(f"There is no parameter {name!r} to load by. Send none.")


def check_unload(parameters: Iterable[str]) -> None:
    """Refuse what unloading would ignore. Nothing hangs on a deployment: it has no dependents.

    Args:
        parameters: Names of those that a request to unload a deployment has.

    Raises:
        InputError: There is no such parameter.
    """
    for name in parameters:
        if name != DEPENDENTS:
            near = nearest(name, [DEPENDENTS])
            raise InputError(f"There is no parameter {name!r} to unload by. {near}")


def known_outputs(
    wanted: Mapping[str, Mapping[str, Any]],
) -> tuple[Sequence[str], Mapping[str, int]]:
    """What a request wants of outputs, before anything is scored for it.

    Args:
        wanted: The parameters of each, by its name.

    Returns:
        Their names, and of those that are wanted as classes how many.

    Raises:
        InputError: There is no such output, or it has no such classes.
        NotSupportedError: It is wanted in shared memory.
    """
    classes: dict[str, int] = {}
    for name, parameters in wanted.items():
        if name not in OUTPUTS:
            raise InputError(f"There is no output {name!r}. {nearest(name, OUTPUTS)}")
        if "shared_memory_region" in parameters:
            raise NotSupportedError(
                f"Output {name!r} is wanted in shared memory, which is not supported. Take its "
                "data."
            )
        count = parameters.get("classification", 0)
        if not _is_count(count):
            raise InputError(
                f"Output {name!r}: classification={count!r} ('class_count' of Triton's clients). "
                "Give the number of classes wanted; 0 for the values themselves."
            )
        if count and name != PREDICTION:
            raise InputError(
                f"Output {name!r} is a text for each row and has no classes. Leave "
                f"'classification' out, or ask for the classes of {PREDICTION!r}."
            )
        if count:
            classes[name] = count
    return list(wanted), classes


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0
