"""A bandit: several versions whose shares follow what they bring."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from penstock.errors import nearest

from .base import NAME_CHARACTERS, Value, unique_faults
from .durations import duration_us
from .experiments import OUTCOME, value_faults
from .routes import ALIASES

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["Bandit"]

CHAMPION = "champion"


class Bandit(Value, frozen=True, omit_defaults=True):
    """Versions that share the traffic by the chance that each is the best (Thompson sampling).

    The worker looks at the outcomes that have come, computes for each arm the chance that its mean
    reward is the greatest, and writes the shares; scoring goes by a hash of the entity, as for any
    challenger. The champion is always an arm and takes what the others leave.

    Attributes:
        name: Names it; its arms are assigned by a hash that the name salts.
        arms: The other arms: aliases such as ``"challenger"``, or numbers of versions.
        metric: The reward of each score whose outcome is known: ``outcome``, the observed value,
            which 0 and 1 make a rate; ``measures.revenue`` for what was observed beside it under
            that name; or a loss of the task (see ``Experiment``), of which the
            smaller is the better.
        floor: Share that every arm keeps, the champion too, whatever it brings.
        every: How often the shares are computed, such as ``"10m"``.
        min_scores: Scores with an outcome that each arm needs before shares move from even ones.
    """

    name: str
    arms: Sequence[str | int]
    metric: str = OUTCOME
    floor: float = 0.05
    every: str = "10m"
    min_scores: int = 100

    @property
    def targets(self) -> tuple[str, ...]:
        """The other arms as routes call them: an alias, or ``@3`` for a version."""
        return tuple(arm if isinstance(arm, str) else f"@{arm}" for arm in self.arms)

    @property
    def every_us(self) -> int:
        """How often the shares are computed, in microseconds."""
        return duration_us(self.every)

    def faults_for(self, task: str) -> Iterator[str]:
        """Yield what does not go with the model's task.

        Args:
            task: ``classification`` or ``regression``.
        """
        yield from value_faults("bandit", self.metric, task)

    def _faults(self) -> Iterator[str]:
        if not self.name or not set(self.name) <= NAME_CHARACTERS:
            yield f"name {self.name!r}: use lower-case letters, digits, '_' and '-'"
        if not self.arms:
            yield "it has no arm beside the champion; give arms=['challenger'], or versions"
        for arm in self.arms:
            if isinstance(arm, str) and arm not in ALIASES:
                yield f"there is no alias {arm!r}. {nearest(arm, ALIASES)}"
            if isinstance(arm, int) and arm < 1:
                yield f"{arm} is no version"
        if CHAMPION in self.arms:
            yield "the champion is an arm already; name the others"
        yield from unique_faults("arm", list(self.targets))
        yield from self._share_faults()

    def _share_faults(self) -> Iterator[str]:
        if not 0 < self.floor * (len(self.arms) + 1) <= 1:
            most = 1 / (len(self.arms) + 1)
            yield f"floor={self.floor} is not above 0 and at most {most:.3g}, an even share"
        if self.min_scores < 1:
            yield f"min_scores={self.min_scores}; give at least 1"
        try:
            if not duration_us(self.every):
                yield "every is zero"
        except ValueError as error:
            yield f"every: {error}"
