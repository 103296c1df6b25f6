"""Deployment: what serves a version is chosen and proved, and the champion moves without a gap."""

from __future__ import annotations

from .checks import check_engine, check_version
from .choose import sample_rows
from .convert import Converted, to_onnx
from .deploy import Deployed, deploy, rollback
from .engine import Engine, NativeEngine, OnnxEngine, load_engine
from .package import package
from .proof import TOLERANCE, Proof, adversarial_rows, prove

__all__ = [
    "TOLERANCE",
    "Converted",
    "Deployed",
    "Engine",
    "NativeEngine",
    "OnnxEngine",
    "Proof",
    "adversarial_rows",
    "check_engine",
    "check_version",
    "deploy",
    "load_engine",
    "package",
    "prove",
    "rollback",
    "sample_rows",
    "to_onnx",
]
