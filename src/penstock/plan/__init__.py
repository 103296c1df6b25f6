"""Pure: what is declared and what is remembered -> graph, fingerprints, difference, steps."""

from __future__ import annotations

from .applying import apply, preview
from .catalogue import DECLARED_CLASSES, Catalogue
from .deprecations import Deprecated, deprecated_in, deprecation_of
from .difference import difference
from .steps import Change, Create, FieldChange, Plan, Remove, Stale, Step
from .versions import VersionDifference, compare_versions, versions_of

__all__ = [
    "DECLARED_CLASSES",
    "Catalogue",
    "Change",
    "Create",
    "Deprecated",
    "FieldChange",
    "Plan",
    "Remove",
    "Stale",
    "Step",
    "VersionDifference",
    "apply",
    "compare_versions",
    "deprecated_in",
    "deprecation_of",
    "difference",
    "preview",
    "versions_of",
]
