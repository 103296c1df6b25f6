"""The types a column can have."""

from __future__ import annotations

import enum

__all__ = ["DType"]


class DType(enum.StrEnum):
    """Type of a column, as declared.

    ``TIMESTAMP`` is a point in time with microseconds, kept in UTC; text without a zone is refused.
    ``FLOAT64`` is finite unless its column is nullable; NaN and infinity never pass.
    """

    STRING = "string"
    INT64 = "int64"
    FLOAT64 = "float64"
    BOOLEAN = "boolean"
    TIMESTAMP = "timestamp"

    @property
    def is_number(self) -> bool:
        """Whether arithmetic and aggregates take this type."""
        return self in {DType.INT64, DType.FLOAT64, DType.BOOLEAN}
