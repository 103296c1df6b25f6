"""Pure: what is declared and what is remembered -> graph, fingerprints, difference, steps."""

from __future__ import annotations

from .catalogue import DECLARED_CLASSES, Catalogue

__all__ = ["DECLARED_CLASSES", "Catalogue"]
