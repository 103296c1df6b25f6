"""Rules of the house that no linter checks."""

from __future__ import annotations

import ast
import importlib
import pkgutil
import subprocess
import sys
from pathlib import Path

import pytest

import penstock

SOURCE = Path(penstock.__file__).parent
FOLDERS = sorted(
    module.name for module in pkgutil.iter_modules([str(SOURCE)], "penstock.") if module.ispkg
)
BANNED = {"core", "common", "utils", "helpers", "infra", "base", "misc", "manager"}
HEAVY = (
    "polars", "numpy", "pandas", "sklearn", "deltalake", "lmdb", "dbos", "mlflow", "sqlalchemy",
    "onnxruntime", "fastapi", "uvicorn", "xgboost", "optuna", "matplotlib", "ray", "redis",
    "httpx",
)  # fmt: skip


def test_importing_penstock_loads_no_driver() -> None:
    code = f"import sys, penstock\nprint(sorted(name for name in {HEAVY!r} if name in sys.modules))"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert run.stdout.strip() == "[]"


@pytest.mark.parametrize("folder", FOLDERS)
def test_a_folder_s_door_names_what_it_offers(folder: str) -> None:
    module = importlib.import_module(folder)
    tree = ast.parse(Path(str(module.__file__)).read_text(encoding="utf-8"))
    imported = {
        alias.asname or alias.name
        for node in tree.body
        if isinstance(node, ast.ImportFrom) and node.level == 1
        for alias in node.names
    }

    # A folder whose modules are entered one by one, such as one per technology, offers none itself.
    offered = getattr(module, "__all__", [])
    missing = sorted(name for name in imported if name not in offered)
    assert not missing, f"{folder}.__all__ lacks {missing}"
    assert all(hasattr(module, name) for name in offered)


def test_public_names_are_the_ones_declared() -> None:
    public = {
        name
        for name, value in vars(penstock).items()
        if not name.startswith("_")
        and name not in {"annotations", "TYPE_CHECKING"}
        and type(value).__name__ != "module"
    }

    assert public == set(penstock.__all__)


def test_no_folder_or_module_has_a_name_that_says_nothing() -> None:
    top = {path.stem for path in SOURCE.iterdir()}
    folders = {path.name for path in SOURCE.rglob("*") if path.is_dir()}

    assert not (top | folders) & BANNED


def test_no_file_is_longer_than_can_be_read() -> None:
    lengths = {
        path.relative_to(SOURCE).as_posix(): path.read_text(encoding="utf-8").count("\n")
        for path in SOURCE.rglob("*.py")
        if "testing" not in path.parts
    }

    assert {name: length for name, length in lengths.items() if length > 600} == {}


def test_ports_and_adapters_stay_small() -> None:
    for path in (SOURCE / "ports").glob("*.py"):
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.ClassDef) and any(
                getattr(base, "id", "") == "ABC" for base in node.bases
            ):
                methods = [item for item in node.body if isinstance(item, ast.FunctionDef)]
                assert len(methods) <= 10, f"{path.name}: {len(methods)} methods"
    for path in (SOURCE / "adapters").rglob("*.py"):
        assert path.read_text(encoding="utf-8").count("\n") <= 300, path
