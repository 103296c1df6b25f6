"""Stored features in an answer of the past, as a dataset joins them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from penstock.datasets import StoredViews
from penstock.errors import InputError, StoredFeaturesWarning
from penstock.features import spine_times
from penstock.ingest import raw_name
from penstock.spec import base_views, stored_faults

from .told import Told

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import polars as pl

    from penstock.ports import Tables
    from penstock.spec import FeatureService, FeatureView

__all__ = ["check_stored", "join_stored"]

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def check_stored(
    stored: Mapping[str, str], views: Sequence[FeatureView], *, as_known: bool
) -> None:
    """See that what is asked of stored features can be.

    Raises:
        InputError: It names no view of the service, an age is none, or late records are to be
            left out too.
    """
    faults = [*stored_faults(stored, views, as_known=as_known)]
    if faults:
        raise InputError(f"{'; '.join(faults)}.", faults=faults)


def join_stored(
    tables: Tables, service: FeatureService, spine: pl.DataFrame, stored: Mapping[str, str]
) -> Told[dict[str, pl.DataFrame]]:
    """The stored features at each row of a spine, by view, and what they lack.

    Args:
        tables: Where they are.
        service: The service.
        spine: The keys and the times.
        stored: The greatest age that stored rows may have, by name of their view.

    Raises:
        NotReadyError: There are none, they end too early before the last row, or records were
            deleted after they were brought up to date.
        InputError: The spine lacks a column, or has one of another type.
    """
    views = [view for view in base_views(service.views) if view.name in stored]
    if not views:
        return Told({})
    at_us = spine_times(spine)
    found = StoredViews(tables, ("service", service.name), views, stored)
    names = {view.source.name: raw_name(view.source) for view in views}
    versions = {name: tables.version(name) or 0 for name in names.values()}
    found.refuse_deleted(versions)
    if len(at_us):
        found.refuse_short(EPOCH + timedelta(microseconds=int(at_us.max())))
    joined = found.join(spine)
    batches = {
        source: tables.applied(name, name, version=versions[name]) for source, name in names.items()
    }
    told = [*found.empty(joined), *found.behind(batches)]
    notes = tuple(
        StoredFeaturesWarning(f"{text[0].upper()}{text[1:]}.", service=service.name)
        for text in told
    )
    return Told(joined, notes)
