"""Deployment: what serves a version is chosen and proved, and the champion moves without a gap."""

from __future__ import annotations

from .checks import check_engine, check_version
from .choose import sample_rows
from .convert import Converted, to_onnx
from .deploy import Deployed, deploy, rollback
from .engine import Engine, NativeEngine, OnnxEngine, load_engine
from .package import package
from .proof import TOLERANCE, Proof, adversarial_rows, prove
from .rerouting import Rerouted, RouteEdit, change_routes, reset_routes, show_routes
from .routed import RouteState, changes_of, route_states, routed, version_behind

__all__ = [
    "TOLERANCE",
    "Converted",
    "Deployed",
    "Engine",
    "NativeEngine",
    "OnnxEngine",
    "Proof",
    "Rerouted",
    "RouteEdit",
    "RouteState",
    "adversarial_rows",
    "change_routes",
    "changes_of",
    "check_engine",
    "check_version",
    "deploy",
    "load_engine",
    "package",
    "prove",
    "reset_routes",
    "rollback",
    "route_states",
    "routed",
    "sample_rows",
    "show_routes",
    "to_onnx",
    "version_behind",
]
