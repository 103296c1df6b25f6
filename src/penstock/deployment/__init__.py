"""Deployment: what serves a version is chosen and proved, and the champion moves without a gap."""

from __future__ import annotations

from .canary import compare_counts, compare_metric, has_share, share_back, share_put
from .checks import check_engine, check_version
from .compiled import TreesEngine
from .convert import Converted, to_onnx
from .deploy import Deployed, deploy, refuse_going_around, rollback
from .engine import Engine, GraphEngine, NativeEngine, OnnxEngine, SplitEngine
from .explainable import exact_form
from .forest import MISSING_RIGHT, Forest, pack_forest, parts_of, read_forest, unpack_forest
from .forest_onnx import forest_to_onnx
from .linear import Linear, numbers_of
from .loading import ENGINE_FILES, load_engine
from .package import package
from .pointing import point_alias
from .probes import adversarial_rows, legal_rows, probes
from .proof import TOLERANCE, Proof, prediction_bounds, prove
from .regression import Replayed, compare_answers, regression_checks
from .report import rollout_page
from .rerouting import Rerouted, change_routes, reset_routes, show_routes
from .rollouts import (
    abort_rollout,
    begin_rollout,
    decide_rollout,
    get_rollout,
    live_rollout,
    move_rollout,
    rollouts,
)
from .route_edits import RouteEdit
from .routed import RouteState, changes_of, route_states, version_behind
from .sample import sample_rows
from .splits import (
    challenger_shares,
    champion_behind,
    split_put,
    target_version,
    wait_for_split,
)
from .timing import time_engines
from .verify import verify
from .written import DeployedState, StateChange, deployed_state, plan_state, read_state

__all__ = [
    "ENGINE_FILES",
    "MISSING_RIGHT",
    "TOLERANCE",
    "Converted",
    "Deployed",
    "DeployedState",
    "Engine",
    "Forest",
    "GraphEngine",
    "Linear",
    "NativeEngine",
    "OnnxEngine",
    "Proof",
    "Replayed",
    "Rerouted",
    "RouteEdit",
    "RouteState",
    "SplitEngine",
    "StateChange",
    "TreesEngine",
    "abort_rollout",
    "adversarial_rows",
    "begin_rollout",
    "challenger_shares",
    "champion_behind",
    "change_routes",
    "changes_of",
    "check_engine",
    "check_version",
    "compare_answers",
    "compare_counts",
    "compare_metric",
    "decide_rollout",
    "deploy",
    "deployed_state",
    "exact_form",
    "forest_to_onnx",
    "get_rollout",
    "has_share",
    "legal_rows",
    "live_rollout",
    "load_engine",
    "move_rollout",
    "numbers_of",
    "pack_forest",
    "package",
    "parts_of",
    "plan_state",
    "point_alias",
    "prediction_bounds",
    "probes",
    "prove",
    "read_forest",
    "read_state",
    "refuse_going_around",
    "regression_checks",
    "reset_routes",
    "rollback",
    "rollout_page",
    "rollouts",
    "route_states",
    "sample_rows",
    "share_back",
    "share_put",
    "show_routes",
    "split_put",
    "target_version",
    "time_engines",
    "to_onnx",
    "unpack_forest",
    "verify",
    "version_behind",
    "wait_for_split",
]
