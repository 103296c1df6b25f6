"""A client that tells what came true of each answer, for tests of what follows from that."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import numpy as np

from penstock.monitoring import observe
from penstock.records import Observation

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    import httpx

    from penstock.ports import Services

__all__ = ["Observer"]

ENTITIES, ROWS = 300, 40


class Observer:
    """Asks the deployment ``btc`` for many entities, and observes each answer.

    Args:
        services: The project.
        rates: Chance of outcome 1 by the version that answers.
        note: Takes each entity and its answer.
    """

    def __init__(
        self,
        services: Services,
        rates: Mapping[int, float],
        note: Callable[[str, Mapping[str, Any]], None],
    ) -> None:
        self._services = services
        self._rates = rates
        self._note = note
        self._rng = np.random.default_rng(1)

    def ask(self, http: httpx.Client) -> None:
        """Ask for some entities, one after the other, then observe their answers.

        Args:
            http: A client of a serving process.

        Raises:
            httpx.HTTPError: An answer was none.
        """
        told: list[Observation] = []
        for key in self._rng.integers(0, ENTITIES, ROWS).tolist():
            entity = f"S{key}"
            body = {"entity": {"symbol": entity}}
            reply = http.post("/v1/deployments/btc/predict", json=body)
            answer = reply.raise_for_status().json()
            self._note(entity, answer)
            told.append(
                Observation(
                    prediction_id=answer["prediction_id"],
                    value=float(self._rng.random() < self._rates[answer["version"]]),
                    observed_at_us=time.time_ns() // 1_000,
                )
            )
        observe(self._services, "btc", told)
