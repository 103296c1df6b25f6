"""Pure: what is declared and what is remembered -> graph, fingerprints, difference, steps."""

from __future__ import annotations

from .applying import apply, preview
from .catalogue import DECLARED_CLASSES, Catalogue
from .difference import difference
from .steps import Change, Create, FieldChange, Plan, Remove, Stale, Step

__all__ = [
    "DECLARED_CLASSES",
    "Catalogue",
    "Change",
    "Create",
    "FieldChange",
    "Plan",
    "Remove",
    "Stale",
    "Step",
    "apply",
    "difference",
    "preview",
]
