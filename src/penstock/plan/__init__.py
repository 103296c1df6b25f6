"""Pure: what is declared and what is remembered -> graph, fingerprints, difference, steps."""

from __future__ import annotations

from .applying import apply, preview
from .catalogue import DECLARED_CLASSES, Catalogue
from .deprecations import Deprecated, deprecated_in, deprecation_of
from .difference import difference
from .entries import (
    FeatureEntry,
    ServiceEntry,
    ViewKind,
    derived_columns,
    feature_entries,
    looked_up_features,
    service_entries,
)
from .fields import field_changes
from .looked_up import captured_features
from .protected import Lock, Locks, idle_protections, locks_of, protections_in
from .readable import readable
from .readers import Readers, readers_of
from .routed import routed
from .searching import Found, search
from .steps import Change, Create, FieldChange, Plan, Remove, Stale, Step
from .versions import VersionDifference, compare_versions, versions_of, view_kind

__all__ = [
    "DECLARED_CLASSES",
    "Catalogue",
    "Change",
    "Create",
    "Deprecated",
    "FeatureEntry",
    "FieldChange",
    "Found",
    "Lock",
    "Locks",
    "Plan",
    "Readers",
    "Remove",
    "ServiceEntry",
    "Stale",
    "Step",
    "VersionDifference",
    "ViewKind",
    "apply",
    "captured_features",
    "compare_versions",
    "deprecated_in",
    "deprecation_of",
    "derived_columns",
    "difference",
    "feature_entries",
    "field_changes",
    "idle_protections",
    "locks_of",
    "looked_up_features",
    "preview",
    "protections_in",
    "readable",
    "readers_of",
    "routed",
    "search",
    "service_entries",
    "versions_of",
    "view_kind",
]
