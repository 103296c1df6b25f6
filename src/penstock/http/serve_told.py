"""What a client is told of a score."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

import msgspec

__all__ = ["Probability", "Told"]


class Probability(msgspec.Struct, rename={"no": "false", "yes": "true"}, frozen=True):
    """How likely each class is.

    Attributes:
        no: That it is false.
        yes: That it is true.
    """

    no: float
    yes: float


class Told(msgspec.Struct, omit_defaults=True, frozen=True):
    """What a client is told of a score; what it has none of is left out.

    Attributes:
        prediction_id: Its id.
        prediction: Whether the class is true; or the number.
        probability: How likely each class is; of a number none.
        model: The model that answered.
        version: Its version.
        route: The role that it answered as.
        as_of: The time that its features are of.
        reason: Why this route answered.
        parts: What the steps of a graph gave.
        features: The values that the model saw, where they were asked for.
    """

    prediction_id: str
    prediction: bool | float
    probability: Probability | msgspec.UnsetType
    model: str
    version: int
    route: str
    as_of: datetime
    reason: str = ""
    parts: Mapping[str, float | None] = {}
    features: Mapping[str, float | None] | msgspec.UnsetType = msgspec.UNSET
