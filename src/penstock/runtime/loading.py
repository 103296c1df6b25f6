"""Reading what the user's module declares, inside one boundary that keeps their traceback."""

from __future__ import annotations

import ast
import difflib
import importlib
import importlib.util
import re
import sys
import traceback
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from penstock.errors import DeclarationError, NotFoundError, UserCodeError
from penstock.spec import Declaration, Project, argument_names

from .settings import Settings, load_settings

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from types import ModuleType, TracebackType

__all__ = ["lead_path", "load_project"]

KEYWORD = re.compile(r"Unexpected keyword argument '(\w+)'")
"""How building a value says that it does not take an argument."""

NAME_CHARACTERS = frozenset("abcdefghijklmnopqrstuvwxyz0123456789_-")


def load_project(home: Path, *, settings: Settings | None = None) -> Project:
    """Read the project that a folder declares.

    The module is run afresh, with its folder at the front of ``sys.path``. A ``Project`` at its top
    level is the project; without one, everything declared at its top level is, under the folder's
    name.

    Args:
        home: The project folder.
        settings: Settings that were read already; else they are read here.

    Raises:
        NotFoundError: There is no such module.
        DeclarationError: Definitions cannot work; all faults of all of them.
        UserCodeError: The module failed otherwise; carries the user's traceback.
    """
    home = home.absolute()
    chosen = settings or load_settings(home)
    name = chosen.project
    lead_path(home)
    _forget(home, name)
    importlib.invalidate_caches()
    path = _source_of(home, name)
    _drop_bytecode([*home.glob("*.py"), *path.parent.glob("*.py")])
    try:
        module = importlib.import_module(name)
    except DeclarationError as error:
        raise _all_faults(path, name, home, error) from error
    except (Exception, SystemExit) as error:
        raise _user_error(path, home, error) from error
    return _gather(module, home, path)


def lead_path(home: Path) -> None:
    """Put a folder at the front of ``sys.path``, as Python does with a script's."""
    place = str(home)
    sys.path[:] = [place, *(other for other in sys.path if other != place)]


def _forget(home: Path, name: str) -> None:
    """Drop the modules that were imported from this folder, and one of the project's name."""
    for known, module in list(sys.modules.items()):
        place = home.joinpath(*known.split("."))
        file = getattr(module, "__file__", None)
        inside = file in {str(place.with_suffix(".py")), str(place / "__init__.py")}
        if inside or known == name or known.startswith(f"{name}."):
            del sys.modules[known]


def _drop_bytecode(sources: Iterable[Path]) -> None:
    """Remove what Python has compiled of these files.

    It takes bytecode for fresh when the file's size and the second of its last change are the same:
    a word corrected right after the last run would not be seen.
    """
    for source in sources:
        with suppress(OSError, NotImplementedError):
            Path(importlib.util.cache_from_source(str(source))).unlink(missing_ok=True)


def _source_of(home: Path, name: str) -> Path:
    """The module's file, found without running it."""
    base = home.joinpath(*name.split("."))
    for path in (base.with_suffix(".py"), base / "__init__.py"):
        if path.is_file():
            return path
    here = sorted(path.stem for path in home.glob("*.py"))
    raise NotFoundError.of(
        "project module",
        f"{name}.py",
        [f"{stem}.py" for stem in here],
        hint=f"Looked in {home}. Run 'penstock init' there to get a first one, name another folder "
        "with --home, or set 'project' in penstock.toml.",
    )


def _gather(module: ModuleType, home: Path, path: Path) -> Project:
    values = list(vars(module).values())
    projects: list[Project] = []
    for value in values:
        if isinstance(value, Project) and value not in projects:
            projects.append(value)
    if len(projects) == 1:
        return projects[0]
    if projects:
        names = ", ".join(repr(project.name) for project in projects)
        raise DeclarationError.of(
            path.name, [f"it declares {len(projects)} projects ({names}); keep one"]
        )
    declared = tuple(value for value in values if isinstance(value, Declaration))
    if not declared:
        raise DeclarationError.of(
            path.name,
            ["it declares nothing; assign a ps.Source, ps.FeatureView, ps.Model ... to a name"],
        )
    name = "".join(c if c in NAME_CHARACTERS else "-" for c in home.name.lower()).strip("-")
    return Project(name or "project", declarations=declared)


def _all_faults(path: Path, name: str, home: Path, first: DeclarationError) -> DeclarationError:
    """Every fault of the module, not only the one that stopped its import.

    The module is run once more, statement by statement; one that fails is noted. The faulty value
    still gets its name, so that what refers to it is checked as well; where there is no value, what
    needs the name is left out.
    """
    found = list(_faults_by_statement(path, name, home)) or [(_place(home, first), first)]
    lines = [f"{place}: {error.message}" for place, error in found]
    faults = tuple(fault for _, error in found for fault in error.faults)
    return DeclarationError("\n".join(lines), subject=path.name, faults=faults)


def _faults_by_statement(
    path: Path, name: str, home: Path
) -> Iterator[tuple[str, DeclarationError]]:
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None:
        return
    _forget(home, name)
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # functions are looked up there by their module's name
    try:
        for statement in ast.parse(path.read_text(encoding="utf-8")).body:
            code = compile(ast.Module([statement], []), str(path), "exec", dont_inherit=True)
            try:
                exec(code, vars(module))  # noqa: S102 - it is the user's own module
            except DeclarationError as error:
                yield _place(home, error), error
                vars(module).update(_faulty(statement, error, vars(module)))
            except (Exception, SystemExit):  # noqa: BLE001, S112 - it needs what failed before
                continue
    finally:
        _forget(home, name)


def _faulty(
    statement: ast.stmt, error: DeclarationError, names: Mapping[str, object]
) -> dict[str, object]:
    """The value that ``name = ps.Source(...)`` would have made, under its name.

    A value checks itself at the end of its making, so the one that refused is whole; it is found in
    the last frame. One that was made inside of the statement's own is not it.
    """
    match statement:
        case ast.Assign(
            targets=[ast.Name(id=name)], value=ast.Call(func=ast.Name() | ast.Attribute() as made)
        ):
            cls = eval(compile(ast.Expression(made), "", "eval"), dict(names))  # noqa: S307 - a name
        case _:
            return {}
    part = error.__traceback__
    while part is not None and part.tb_frame.f_code.co_name != "__post_init__":
        part = part.tb_next
    value = part.tb_frame.f_locals.get("self") if part is not None else None
    return {name: value} if isinstance(value, Declaration) and type(value) is cls else {}


def _place(home: Path, error: BaseException) -> str:
    """The line of the user's code at which it happened: ``project.py:12``."""
    place = ""
    for frame in traceback.extract_tb(error.__traceback__):
        if Path(frame.filename).is_relative_to(home):
            place = f"{Path(frame.filename).relative_to(home)}:{frame.lineno}"
    return place or str(home)


def _user_error(path: Path, home: Path, error: BaseException) -> UserCodeError:
    shown = "".join(traceback.format_exception(type(error), error, _users_part(home, error)))
    return UserCodeError(
        f"{path.name} failed while it was read: {type(error).__name__}: {str(error).rstrip('.')}. "
        f"{_hint(error)}It was expected to declare the project and do nothing else; correct it.\n"
        f"{shown.rstrip()}",
        path=str(path),
        place=_place(home, error),
        traceback=shown,
    )


def _hint(error: BaseException) -> str:
    """What was probably meant by an argument that a declaration does not take."""
    if not isinstance(error, TypeError):
        return ""
    text = str(error)
    if "Extra positional arguments" in text:
        return "After the name, arguments go by keyword, as in entity=... "
    found = KEYWORD.search(text)
    if found is None:
        return ""
    close = difflib.get_close_matches(found[1], argument_names() - {found[1]}, n=1)
    return f"Did you mean {close[0]!r}? " if close else ""


def _users_part(home: Path, error: BaseException) -> TracebackType | None:
    """The traceback from the first line of the user's code on."""
    part = error.__traceback__
    while part is not None:
        if Path(part.tb_frame.f_code.co_filename).is_relative_to(home):
            return part
        part = part.tb_next
    return None
