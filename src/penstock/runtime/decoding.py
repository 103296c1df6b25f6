"""What is read from JSON is known before threads read it."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["prepare_decoding"]


def prepare_decoding() -> None:
    """Let msgspec look at every type of ours that has been loaded.

    It looks at the fields of a type when a value of it is first read, which takes a while, and a
    thread that reads one meanwhile finds fields without types: the process dies of it (seen with
    0.22, in a worker whose first run began while its main thread read the same record). So whatever
    starts threads calls this first; it takes 20 ms, and 2 when it is called again.
    """
    for known in _below(msgspec.Struct):
        if known.__module__.partition(".")[0] == "penstock":
            # A type that cannot be read is never read, so nobody has to know it.
            with suppress(TypeError, NameError):
                msgspec.json.Decoder(known)


def _below(kind: type) -> Iterator[type]:
    found: list[type] = kind.__subclasses__()
    for known in found:
        yield known
        yield from _below(known)
