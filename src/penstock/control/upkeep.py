"""What is done in each interval whatever happens: features checked, old things removed.

The run of an interval has its time as its id, so any number of processes may ask and each is one
run. The first interval is the one that begins after the project was applied.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, NamedTuple

from penstock.features import PROFILE_DAYS, PROFILE_SAMPLE, STORED
from penstock.scoring import table_of
from penstock.spec import Deployment, FeatureView

from .pipelines import check_run, profile_run, prune_run, vacuum_run
from .profiling import views_to_profile
from .vacuuming import RAW

if TYPE_CHECKING:
    from collections.abc import Callable

    from penstock.plan import Catalogue
    from penstock.ports import Services

    from .pipelines import Submission

__all__ = [
    "CheckSchedule",
    "ProfileSchedule",
    "PruneSchedule",
    "Upkeep",
    "VacuumSchedule",
    "interval_us",
    "stamp",
]

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class CheckSchedule(NamedTuple):
    """When features are compared with the raw tables by themselves.

    Attributes:
        every_us: How often, in microseconds; 0 for never.
        max_rate: The share of a column's values that may differ before somebody is told.
    """

    every_us: int
    max_rate: float = 0.0


class ProfileSchedule(NamedTuple):
    """When features are profiled by themselves, and how.

    Attributes:
        every_us: How often, in microseconds; 0 for never.
        days: So many days up to the newest record.
        sample: At most so many points of a day.
    """

    every_us: int
    days: int = PROFILE_DAYS
    sample: int = PROFILE_SAMPLE


class VacuumSchedule(NamedTuple):
    """When old versions of stored features and raw tables are removed by themselves.

    Attributes:
        every_us: How often, in microseconds; 0 for never.
        older_than_h: How many hours they stay.
    """

    every_us: int
    older_than_h: int = 168


class PruneSchedule(NamedTuple):
    """When scores are removed that have been kept long enough, and files that were merged.

    Attributes:
        every_us: How often, in microseconds; 0 for never.
    """

    every_us: int


class Upkeep:
    """What is due at one time.

    Args:
        services: The ports.
        catalogue: What is applied.
        now_us: The time, in microseconds since 1970 UTC.
        applied_us: When something was applied last; None where nothing is.
        busy: Whether a run of a pipeline about a subject is queued or running.
    """

    def __init__(
        self,
        services: Services,
        catalogue: Catalogue,
        *,
        now_us: int,
        applied_us: int | None,
        busy: Callable[[str, str], bool],
    ) -> None:
        self._services = services
        self._catalogue = catalogue
        self._now_us = now_us
        self._applied_us = applied_us
        self._busy = busy

    def check(self, schedule: CheckSchedule) -> Submission | None:
        """Features compared with the raw tables, where there are both."""
        views = self._catalogue.all(FeatureView)
        slot_us = self._slot_us(schedule.every_us)
        if not views or slot_us is None:
            return None
        run = check_run(f"check-features-{stamp(slot_us)}", max_rate=schedule.max_rate)
        version = self._services.tables.version
        return self._new(
            run, lambda: any(version(f"raw/{view.source.name}") is not None for view in views)
        )

    def profile(self, schedule: ProfileSchedule) -> Submission | None:
        """Features profiled, where records have come in."""
        slot_us = self._slot_us(schedule.every_us)
        if slot_us is None:
            return None
        run = profile_run(
            f"profile-features-{stamp(slot_us)}", days=schedule.days, sample=schedule.sample
        )
        return self._new(run, lambda: bool(views_to_profile(self._services, self._catalogue)))

    def vacuum(self, schedule: VacuumSchedule) -> Submission | None:
        """Old versions of stored features and raw tables removed, where there are any."""
        slot_us = self._slot_us(schedule.every_us)
        if slot_us is None:
            return None
        run = vacuum_run(f"vacuum-features-{stamp(slot_us)}", older_than_h=schedule.older_than_h)
        names = self._services.tables.names
        return self._new(run, lambda: any(names(prefix) for prefix in (STORED, *RAW)))

    def prune(self, schedule: PruneSchedule) -> Submission | None:
        """Scores removed that were kept long enough, and files that were merged."""
        slot_us = self._slot_us(schedule.every_us)
        if slot_us is None:
            return None
        run = prune_run(f"prune-scores-{stamp(slot_us)}", now_us=slot_us)
        names, version = self._catalogue.all(Deployment), self._services.tables.version
        return self._new(run, lambda: any(version(table_of(one.name)) is not None for one in names))

    def _new(self, run: Submission, wanted: Callable[[], bool]) -> Submission | None:
        """The run, unless it was submitted, one of its subject is under way, or it has no work."""
        known = self._services.workflows.get(run.run_id) is not None
        if known or self._busy(run.pipeline.name, run.subject):
            return None
        return run if wanted() else None

    def _slot_us(self, every_us: int) -> int | None:
        """When the interval of now began; None for never, and if something was applied in it."""
        if not every_us or self._applied_us is None:
            return None
        slot_us = interval_us(self._now_us, every_us)
        return slot_us if slot_us > self._applied_us else None


def interval_us(now_us: int, every_us: int) -> int:
    """When the interval of a time began, in microseconds since 1970 UTC."""
    return now_us // every_us * every_us


def stamp(at_us: int) -> str:
    """A time as part of a run's id, such as ``20261120T0300``, as fine as it needs."""
    moment = EPOCH + timedelta(microseconds=at_us)
    form = "%H%M%S.%f" if moment.microsecond else "%H%M%S" if moment.second else "%H%M"
    return moment.strftime(f"%Y%m%dT{form}")
