"""Libraries that a process takes in only when something of them is first used.

A serving process reads entities and hands rows to an engine: most never make a frame. Modules that
make frames now and then name the library at their top, as all do, and a process that may never get
there says so before it loads them.
"""

from __future__ import annotations

import sys
from importlib import import_module
from importlib.util import find_spec
from types import ModuleType

__all__ = ["by_need"]


class _Absent(ModuleType):
    """Stands for a library until something of it is asked for.

    Any thread may ask: who is second waits for the import of the first.
    """

    def __getattr__(self, name: str) -> object:
        if name.startswith("__"):  # what the import system asks of modules takes no library
            raise AttributeError(f"module {self.__name__!r} has no attribute {name!r}")
        if sys.modules.get(self.__name__) is self:
            sys.modules.pop(self.__name__, None)
        library = import_module(self.__name__)
        known = vars(library).copy()  # another thread may import a part of it meanwhile
        found = {key: value for key, value in known.items() if not key.startswith("__")}
        self.__dict__.update(found)  # from now on it costs what it costs of the library itself
        return getattr(library, name)


def by_need(*names: str) -> None:
    """Take libraries in when something of them is first used, instead of when they are named.

    Args:
        names: The libraries; those that are loaded already, or not installed, stay as they are.
    """
    for name in names:
        found = None if name in sys.modules else find_spec(name)
        if found is not None:
            absent = _Absent(name)
            absent.__spec__ = found
            absent.__path__ = list(found.submodule_search_locations or ())
            sys.modules[name] = absent
