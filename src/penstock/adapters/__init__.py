"""One folder per technology; only ``penstock.runtime`` chooses among them."""

from __future__ import annotations
