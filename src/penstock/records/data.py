"""Batches and datasets: what data there is and where it came from."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import ClassVar, Literal

import msgspec

from .base import Record

__all__ = ["Batch", "CapturedFeature", "DatasetSnapshot", "Deletion", "LookedUp", "StoredPin"]


class Deletion(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Records that are to count no more.

    Attributes:
        delete_id: The caller's name for it; under the same one it is done once.
        keys: The entities.
        at_us: Only their records of this time, as their own timestamp says it, in microseconds
            since 1970 UTC; all of their records where None.
        reason: Why.
        actor: Who asked for it.
    """

    delete_id: str
    keys: tuple[str | int, ...]
    at_us: int | None = None
    reason: str = ""
    actor: str = ""


class LookedUp(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a batch's records found in another source.

    Attributes:
        source: The other source.
        on: The column whose values were looked up.
        last_batch: The other source's greatest batch number then; 0 where it had none.
        missing: How many of the batch's stored records found nothing: no record, or for features
            none of their key as far back as these look.
        view: The feature view whose features were looked up; empty where columns were.
    """

    source: str
    on: str
    last_batch: int = 0
    missing: int = 0
    view: str = ""

    @property
    def found_in(self) -> str:
        """What was looked into: the view, or the source."""
        return self.view or self.source


class CapturedFeature(Record, frozen=True):
    """A feature that records of a source have been completed with: what its column means for ever.

    Written with the first batch that has values of it.

    Attributes:
        source: The source whose records have it.
        column: Its column of the raw table.
        meaning: Hash of what it was computed from.
        words: The same in words.
    """

    KIND: ClassVar[str] = "captured_feature"
    INDEXED: ClassVar[tuple[str, ...]] = ("source",)

    source: str
    column: str
    meaning: str
    words: str

    @property
    def key(self) -> str:
        """``source/column``."""
        return self.key_of(self.source, self.column)

    @staticmethod
    def key_of(source: str, column: str) -> str:
        """The key of a source's column."""
        return f"{source}/{column}"


class Batch(Record, frozen=True):
    """One ingested unit of raw data, or one deletion. Immutable once it is ``stored``.

    Written as ``started`` before any row is, so that a killed ingestion knows what to finish.

    Attributes:
        source: The source.
        number: 1, 2, 3 ... within the source; the raw table's ``_batch``.
        batch_id: ``<source>-<number>-<first 8 of sha256>``; the raw table's ``_batch_id``.
        origin: ``file:<path>``, ``log:<topic>:<first offset>-<last offset>`` or
            ``delete:<delete_id>``.
        sha256: Hash of the file's bytes, of the events' payloads, or of the deletion's id.
        state: ``started`` until every row is in its table.
        read: Records read; ``stored + quarantined + duplicates`` when stored.
        stored: Records in the raw table.
        quarantined: Records in the quarantine table.
        duplicates: Records that were there already, unchanged.
        reasons: How many records broke each rule.
        arrived_at: When the platform took it in; the raw table's ``_arrived_at``.
        min_at_us: Earliest known time of its stored records, in microseconds since 1970 UTC.
        max_at_us: Latest.
        fingerprint: Of the source's declaration that its records were judged by.
        deletion: What it takes away from the batches before it; none for a batch of records.
        deleted: How many records that were.
        lookups: What its stored records were completed with, in the order of the declaration.
        senders: How many of its messages each caller sent; empty for a file, and for messages whose
            sender is not known.
    """

    KIND: ClassVar[str] = "batch"
    INDEXED: ClassVar[tuple[str, ...]] = ("source", "sha256", "state", "batch_id", "number")

    source: str
    number: int
    batch_id: str
    origin: str
    sha256: str
    state: Literal["started", "stored"]
    arrived_at: datetime
    read: int = 0
    stored: int = 0
    quarantined: int = 0
    duplicates: int = 0
    reasons: Mapping[str, int] = {}
    min_at_us: int | None = None
    max_at_us: int | None = None
    fingerprint: str = ""
    deletion: Deletion | None = None
    deleted: int = 0
    lookups: tuple[LookedUp, ...] = ()
    senders: Mapping[str, int] = {}

    @property
    def found_nothing(self) -> int:
        """How often one of its stored records looked something up and found nothing."""
        return sum(one.missing for one in self.lookups)

    @property
    def key(self) -> str:
        """``source/number``, ordered as text like the numbers."""
        return self.key_of(self.source, self.number)

    @staticmethod
    def key_of(source: str, number: int) -> str:
        """The key of a source's batch of that number."""
        return f"{source}/{number:09d}"


class StoredPin(msgspec.Struct, frozen=True, kw_only=True):
    """Stored features as a dataset read them.

    Attributes:
        view: The view.
        source: The source of its records.
        table: The table of its stored features.
        version: Version of the table.
        last_batch: The last raw batch that its rows contain.
        max_age: How long before a row's time the stored values may be, such as ``"1h"``.
    """

    view: str
    source: str
    table: str
    version: int
    last_batch: int
    max_age: str


class DatasetSnapshot(Record, frozen=True):
    """A dataset as it was built: pinned to table versions, with its rows as an artifact.

    Attributes:
        dataset_id: Hash of the declaration's fingerprint and the table versions.
        dataset: Name of the declaration.
        fingerprint: Of the declaration.
        tables: Version of each table that was read.
        batches: Greatest batch number of each source that was read, deletions among them.
        rows: Rows with a label.
        unlabelled: Rows left out for want of a label.
        parts: Rows of each part, and of the ``embargo`` between them.
        label_balance: Share of true labels (classification) or mean label, per part.
        feature_names: Columns the model sees, in order.
        task: ``classification`` or ``regression``.
        artifact: Reference of the Parquet file: entity key, ``at``, features, label, ``part``.
        warnings: What a reader should know, such as uneven labels.
        service: The feature service its features come from; empty where the dataset lists them.
        service_id: The service's id as it was then.
        stored: The stored features that were joined; their tables are among ``tables``.
        created_at: When.
    """

    KIND: ClassVar[str] = "dataset"
    INDEXED: ClassVar[tuple[str, ...]] = ("dataset",)

    dataset_id: str
    dataset: str
    fingerprint: str
    tables: Mapping[str, int]
    batches: Mapping[str, int]
    rows: int
    unlabelled: int
    parts: Mapping[str, int]
    label_balance: Mapping[str, float]
    feature_names: tuple[str, ...]
    task: Literal["classification", "regression"]
    artifact: str
    created_at: datetime
    warnings: tuple[str, ...] = ()
    service: str = ""
    service_id: str = ""
    stored: tuple[StoredPin, ...] = ()

    @property
    def key(self) -> str:
        """The dataset's id."""
        return self.dataset_id
