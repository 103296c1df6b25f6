"""The profiles of features that are made now and then: of every view with new records."""

from __future__ import annotations

from typing import TYPE_CHECKING

import structlog

from penstock.errors import PenstockError, RetryableError
from penstock.features import profile, profiled, profiled_to
from penstock.ingest import raw_name
from penstock.plan import Catalogue

if TYPE_CHECKING:
    from penstock.ports import Services
    from penstock.spec import View

__all__ = ["profile_views", "views_to_profile"]


def views_to_profile(services: Services, catalogue: Catalogue) -> tuple[View, ...]:
    """The views that can be profiled and have records, or newer ones than their profiles contain.

    Args:
        services: The ports; uses the tables.
        catalogue: What is applied.
    """
    applied = services.tables.applied
    names = {
        view.name: raw_name(found.base[0].source)
        for view in catalogue.views
        if (found := profiled(view)) is not None
    }
    return tuple(
        view
        for view in catalogue.views
        if (name := names.get(view.name))
        and applied(name, name) > profiled_to(services.tables, view)
    )


def profile_views(services: Services, *, days: int, sample: int) -> dict[str, object]:
    """Profile every view that has new records; one that cannot be does not keep others from it.

    Args:
        services: The ports.
        days: As for ``profile``.
        sample: As for ``profile``.

    Returns:
        The days that were computed or computed again, by view, under ``days``; and why a view could
        not be profiled under ``failed``.

    Raises:
        RetryableError: A table is busy; what is stored is whole.
    """
    done: dict[str, int] = {}
    failed: dict[str, str] = {}
    for view in views_to_profile(services, Catalogue.load(services.metadata)):
        try:
            result = profile(
                services.tables,
                services.locks,
                view,
                days=days,
                sample=sample,
                memory_bytes=services.features_memory_bytes,
            )
        except RetryableError:
            raise
        except PenstockError as error:
            # What the function of a user said may hold values, and the run is for everybody.
            failed[view.name] = error.plain
            log = structlog.get_logger("penstock.control")
            log.warning("a view was not profiled", view=view.name, error=error.message)
        else:
            done[view.name] = result.computed + result.recomputed
    return {"days": done, "failed": failed}
