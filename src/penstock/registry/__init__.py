"""Model versions: packages, their numbers, and the aliases that say which of them answers."""

from __future__ import annotations

from .aliases import aliases, find_version, nominate, point, promote, rollback, withdraw
from .custom import CustomModel, CustomPlace
from .custom_folder import sweep_custom_folders
from .definitions import explainers_in, rebuild, views_of
from .graph_files import GraphModel, GraphParts, open_graph, pack_graph
from .native import TRUSTED_TYPES, NativeModel, as_native, load_native, open_native, save_native
from .packages import (
    MANIFEST_FILE,
    NATIVE_FILES,
    SAMPLE_FILE,
    check_file,
    file_sha256,
    read_manifest,
    read_sample,
    write_manifest,
)
from .provenance import definitions_of, installed
from .register import Registration, register
from .versions import get_version, versions

__all__ = [
    "MANIFEST_FILE",
    "NATIVE_FILES",
    "SAMPLE_FILE",
    "TRUSTED_TYPES",
    "CustomModel",
    "CustomPlace",
    "GraphModel",
    "GraphParts",
    "NativeModel",
    "Registration",
    "aliases",
    "as_native",
    "check_file",
    "definitions_of",
    "explainers_in",
    "file_sha256",
    "find_version",
    "get_version",
    "installed",
    "load_native",
    "nominate",
    "open_graph",
    "open_native",
    "pack_graph",
    "point",
    "promote",
    "read_manifest",
    "read_sample",
    "rebuild",
    "register",
    "rollback",
    "save_native",
    "sweep_custom_folders",
    "versions",
    "views_of",
    "withdraw",
    "write_manifest",
]
