"""Keys and request fields as words of a command: NAME=VALUE, each of its declared type."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import msgspec

from penstock.errors import nearest
from penstock.spec import DType

from .failures import UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from penstock.records import Given

__all__ = ["given_values", "value_of"]


def given_values(
    option: str, words: Sequence[str], dtypes: Mapping[str, DType], *, of: str
) -> dict[str, Given]:
    """The values of NAME=VALUE words by name; of a single key the value alone will do.

    Args:
        option: Name of the option; ``--key`` or ``--request``.
        words: Its words; none for none.
        dtypes: The names that there are, all of which have to be given, and their types.
        of: Who takes them, in words.

    Raises:
        UsageError: A name is unknown or missing, or a value is not of its type.
    """
    if not words:
        return {}
    pairs = [(word.partition("=")[0], word.partition("=")[2]) for word in words]
    if option == "--key" and len(dtypes) == 1 and pairs[0][0] not in dtypes:
        pairs = [(next(iter(dtypes)), words[0])] if len(words) == 1 else pairs
    given = dict(pairs)
    for name in given:
        if name not in dtypes:
            hint = nearest(name, dtypes) or f"{of} takes none."
            raise UsageError(f"{option} {name!r}: there is no such name. {hint}", name=name)
    missing = [name for name in dtypes if name not in given]
    if missing:
        shown = " ".join(f"{option} {name}=..." for name in missing)
        raise UsageError(f"{shown} is missing.", missing=missing)
    return {name: value_of(f"{option} {name}", given[name], dtypes[name]) for name in dtypes}


def value_of(what: str, text: str, dtype: DType) -> Given:
    """A value as its type has it; null for a request field where nothing follows the sign.

    Args:
        what: The option and the name.
        text: The value's text.
        dtype: Its type.

    Raises:
        UsageError: It is no value of that type.
    """
    if dtype is DType.STRING:
        return text
    if what.startswith("--request") and text in {"", "null"}:
        return None
    try:
        value: object = msgspec.json.decode(text.encode())
    except msgspec.DecodeError:
        value = text
    kind = {DType.INT64: int, DType.BOOLEAN: bool}.get(dtype, (int, float))
    if not isinstance(value, kind) or isinstance(value, bool) != (dtype is DType.BOOLEAN):
        raise UsageError(f"{what}={text!r}: it is {dtype.value}, so this is no value of it.")
    return cast("Given", value)
