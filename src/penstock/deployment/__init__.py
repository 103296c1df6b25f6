"""Deployment: what serves a version is chosen and proved, and the champion moves without a gap."""

from __future__ import annotations

from .checks import check_engine, check_version
from .compiled import TreesEngine
from .convert import Converted, to_onnx
from .deploy import Deployed, deploy, rollback
from .engine import Engine, NativeEngine, OnnxEngine, SplitEngine
from .forest import Forest, pack_forest, read_forest, unpack_forest
from .forest_onnx import forest_to_onnx
from .loading import load_engine
from .package import package
from .probes import adversarial_rows, legal_rows, probes
from .proof import TOLERANCE, Proof, prove
from .rerouting import Rerouted, RouteEdit, change_routes, reset_routes, show_routes
from .routed import RouteState, changes_of, route_states, routed, version_behind
from .sample import sample_rows
from .timing import time_engines

__all__ = [
    "TOLERANCE",
    "Converted",
    "Deployed",
    "Engine",
    "Forest",
    "NativeEngine",
    "OnnxEngine",
    "Proof",
    "Rerouted",
    "RouteEdit",
    "RouteState",
    "SplitEngine",
    "TreesEngine",
    "adversarial_rows",
    "change_routes",
    "changes_of",
    "check_engine",
    "check_version",
    "deploy",
    "forest_to_onnx",
    "legal_rows",
    "load_engine",
    "pack_forest",
    "package",
    "probes",
    "prove",
    "read_forest",
    "reset_routes",
    "rollback",
    "route_states",
    "routed",
    "sample_rows",
    "show_routes",
    "time_engines",
    "to_onnx",
    "unpack_forest",
    "version_behind",
]
