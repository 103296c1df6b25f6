"""Stored features, pinned, refused where they do not reach, and joined as of each row."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import polars as pl

from penstock.errors import NotReadyError
from penstock.features import stored_features, stored_state
from penstock.ingest import raw_name, read_tombstones
from penstock.records import StoredPin
from penstock.spec import duration_text, duration_us

from .spine import AT

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from penstock.ports import Tables
    from penstock.spec import FeatureView

__all__ = ["StoredViews"]

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MINUTE_US, HOUR_US = 60_000_000, 3_600_000_000


class StoredViews:
    """The views whose features are joined from what is stored, pinned as it is now.

    Args:
        tables: Where stored features are.
        of: What the features are for, as a kind and a name: ``("dataset", "hourly")``.
        views: The feature views of that.
        stored: The greatest age that stored rows may have, by name of their view; views that it
            does not name are let be.
        versions: Version to read, by name of the table; the newest where none is named.

    Raises:
        NotReadyError: Nothing is stored of a view as it is declared now.
    """

    def __init__(
        self,
        tables: Tables,
        of: tuple[str, str],
        views: Sequence[FeatureView],
        stored: Mapping[str, str],
        versions: Mapping[str, int] | None = None,
    ) -> None:
        self._tables = tables
        self._kind, self._name = of
        self._stored = stored
        self._ages_us = {name: duration_us(age) for name, age in stored.items()}
        self._views = [view for view in views if view.name in stored]
        self._states = {view.name: stored_state(tables, view, versions) for view in self._views}

    @property
    def versions(self) -> dict[str, int]:
        """The version that is read of each table."""
        return {state.table: state.version for state in self._states.values()}

    @property
    def pins(self) -> tuple[StoredPin, ...]:
        """What a snapshot remembers of them."""
        return tuple(
            StoredPin(
                view=view.name,
                source=view.source.name,
                table=self._states[view.name].table,
                version=self._states[view.name].version,
                last_batch=self._states[view.name].last_batch,
                max_age=self._stored[view.name],
            )
            for view in self._views
        )

    def refuse_short(self, last: datetime) -> None:
        """Refuse what ends so early that the last row may not use it.

        Args:
            last: Time of the last row that is wanted.

        Raises:
            NotReadyError: It does, by more than the greatest age declared.
        """
        last_us = (last - EPOCH) // timedelta(microseconds=1)
        for name, age_us in self._ages_us.items():
            behind_us = last_us - self._states[name].last_us
            if behind_us > age_us:
                raise NotReadyError(
                    f"The stored features of view {name!r} end at "
                    f"{_moment(self._states[name].last_us)}, {_about(behind_us)} before the last "
                    f"row of {self._kind} {self._name!r} ({_moment(last_us)}); stored="
                    f"{{{name!r}: {self._stored[name]!r}}} allows no such age. Run "
                    f"'penstock features backfill {name}' first, or allow more.",
                    view=name,
                    behind_us=behind_us,
                    **{self._kind: self._name},
                )

    def refuse_deleted(self, versions: Mapping[str, int]) -> None:
        """Refuse what may still hold records that have been deleted.

        Args:
            versions: Version of each raw table that is read.

        Raises:
            NotReadyError: Records of a view's source were deleted after the last backfill.
        """
        for view in self._views:
            version = versions[raw_name(view.source)]
            found = read_tombstones(self._tables, view.source, version=version)
            last = 0 if found is None else int(found.frame["_batch"].to_numpy().max())
            if last > self._states[view.name].right_to:
                raise NotReadyError(
                    f"Records of {view.source.name!r} were deleted (batch {last}) after the stored "
                    f"features of view {view.name!r} were brought up to date (batch "
                    f"{self._states[view.name].right_to}), which may hold them. Run 'penstock "
                    f"features backfill {view.name}' first.",
                    view=view.name,
                    batch=last,
                    **{self._kind: self._name},
                )

    def join(self, spine: pl.DataFrame) -> dict[str, pl.DataFrame]:
        """The features at each row of a spine, by view; null where none is young enough."""
        return {
            view.name: stored_features(
                self._tables,
                view,
                spine.select(view.source.entity.name, AT),
                version=self._states[view.name].version,
                max_age_us=self._ages_us[view.name],
            ).select(view.names)
            for view in self._views
        }

    def empty(self, joined: Mapping[str, pl.DataFrame]) -> list[str]:
        """How many rows got no values, in words; nothing where all did."""
        told: list[str] = []
        for name, frame in joined.items():
            rows = frame.select(pl.all_horizontal(pl.all().is_null()).sum()).item()
            if rows:
                told.append(
                    f"{rows:,} of {len(frame):,} rows found no stored values of view {name!r} that "
                    f"are at most {self._stored[name]} old"
                )
        return told

    def behind(self, batches: Mapping[str, int]) -> list[str]:
        """Which raw batches are not in them, in words.

        Args:
            batches: The last raw batch of each source.
        """
        told: list[str] = []
        for view in self._views:
            right_to, last = self._states[view.name].right_to, batches[view.source.name]
            if right_to < last:
                told.append(
                    f"stored features of view {view.name!r} are right up to raw batch {right_to} "
                    f"of {last}; 'penstock features backfill {view.name}' brings the rest in"
                )
        return told


def _about(span_us: int) -> str:
    """A span to the hour or minute, or as it is when shorter."""
    for unit_us in (HOUR_US, MINUTE_US):
        if span_us >= unit_us:
            return duration_text(span_us // unit_us * unit_us)
    return duration_text(span_us)


def _moment(at_us: int) -> str:
    return (EPOCH + timedelta(microseconds=at_us)).isoformat(timespec="seconds")
