"""Traces for any collector that speaks OTLP over HTTP."""

from __future__ import annotations

from .spans import OtlpSpans

__all__ = ["OtlpSpans"]
