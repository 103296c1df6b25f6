"""Datasets: features and a label at the rows of a spine, and how they are split."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Literal

from penstock.errors import nearest

from .base import Named, Value
from .dtypes import DType
from .durations import duration_text, duration_us
from .expressions import (
    Call,
    Column,
    Constant,
    Expression,
    Lead,
    columns_of,
    expression_fault,
    is_condition,
    leads_of,
)
from .feature_services import FeatureService, feature_faults
from .on_demand import Features, View, base_views, entities_of, request_fields, views_in
from .sources import Source

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .sources import FeatureView


__all__ = [
    "Dataset",
    "Label",
    "RandomSplit",
    "ShuffledSplit",
    "Split",
    "StratifiedSplit",
    "TimeSplit",
    "is_truth",
    "stored_faults",
]

SUM_TOLERANCE = 1e-9
SELECTION_ID = re.compile(r"[0-9a-f]{16}")


class Label(Value, frozen=True, kw_only=False):
    """What is to be predicted, as an expression over the spine's records.

    Attributes:
        name: Column of the label in the dataset.
        expression: Its value; only here may ``lead`` look ahead. A condition or a column of
            booleans makes the task a binary classification, anything else a regression. Rows
            without a value are left out and counted.
    """

    name: str
    expression: Expression

    def _subject(self) -> str:
        return f"Label({self.name!r})"

    def _faults(self) -> Iterator[str]:
        if fault := expression_fault(self.expression):
            yield f"it {fault}"


class _Shares(Value, frozen=True, omit_defaults=True):
    """Shares of the three parts; they add up to 1."""

    train: float = 0.7
    validation: float = 0.15
    test: float = 0.15

    def _faults(self) -> Iterator[str]:
        shares = {"train": self.train, "validation": self.validation, "test": self.test}
        for part, share in shares.items():
            if not 0 < share < 1:
                yield f"{part}={share} is no share between 0 and 1"
        if abs(sum(shares.values()) - 1) > SUM_TOLERANCE:
            yield f"the shares add up to {sum(shares.values()):g}; they have to add up to 1"


class TimeSplit(_Shares, frozen=True, tag="time"):
    """Oldest rows train, newest test, with a gap between the parts.

    Attributes:
        embargo: Rows whose time is within this of the next part's first row are left out; at
            least the label's horizon, so that no label of one part looks into the next.
    """

    embargo: str = ""

    @property
    def embargo_us(self) -> int:
        """The gap between the parts, in microseconds."""
        return duration_us(self.embargo) if self.embargo else 0

    def _faults(self) -> Iterator[str]:
        yield from super()._faults()
        try:
            duration_us(self.embargo or "0s")
        except ValueError as error:
            yield f"embargo: {error}"


class RandomSplit(_Shares, frozen=True, tag="random"):
    """Each row goes to a part by itself, by a hash of its entity, time and the seed.

    A row keeps its part when others are added. The sizes are as close to the shares as chance has
    it.
    """

    seed: int = 0


class ShuffledSplit(_Shares, frozen=True, tag="shuffled"):
    """Rows are shuffled with the seed and cut at the exact shares."""

    seed: int = 0


class StratifiedSplit(_Shares, frozen=True, tag="stratified"):
    """Shuffled within each value of the label, so that every part has the same proportions."""

    seed: int = 0


Split = TimeSplit | RandomSplit | ShuffledSplit | StratifiedSplit


class Dataset(Named, frozen=True, kw_only=True, tag="dataset"):
    """Features and label at every record of the spine, correct at that record's time.

    Attributes:
        spine: The source whose records give the rows: (entity, time when the record is known).
        features: What is joined: views for all of their features, ``view["name", ...]`` for some
            of them; or a feature service for exactly its features in its order, whose id every
            model of the dataset then carries. A view about another entity than the spine's is
            joined by the spine's column of that entity's name; the request fields of on-demand
            views are the spine's columns of those names.
        label: What is to be predicted; none for a dataset that is only scored.
        split: How the rows are parted.
        select: Id of a feature selection, as ``penstock features select`` gives it: only the
            features it kept are in the dataset, and in the models that learn from it. All when
            empty.
        as_known: Whether features are computed only from records that had arrived by a row's time,
            as the serving process saw them, late ones left out. Files arrive when they are
            ingested, so it is for sources whose events came in as they happened.
        stored: Views whose features are not computed at the row's time, but are those that
            ``penstock features backfill`` stored last before it, to the greatest age they may have:
            ``{"momentum": "1h"}``. Where there is none so young, they are null.
    """

    spine: Source
    features: Sequence[Features] | FeatureService
    label: Label | None = None
    split: Split = TimeSplit()
    select: str = ""
    as_known: bool = False
    stored: Mapping[str, str] = {}

    @property
    def service(self) -> FeatureService | None:
        """The feature service it takes its features from; None where it lists them itself."""
        return self.features if isinstance(self.features, FeatureService) else None

    @property
    def views(self) -> tuple[View, ...]:
        """The views its features come from, each once, in order."""
        return views_in(self._listed)

    @property
    def feature_names(self) -> tuple[str, ...]:
        """Full names of all its features, selected or not, in order."""
        return tuple(name for each in self._listed for name in each.names)

    @property
    def _listed(self) -> Sequence[Features]:
        if isinstance(self.features, FeatureService):
            return self.features.features
        return self.features

    @property
    def base_views(self) -> tuple[FeatureView, ...]:
        """The feature views that its features are computed from."""
        return base_views(self.views)

    @property
    def entity_dtypes(self) -> dict[str, DType]:
        """Type of the key of each entity its features are about; the spine's first, or alone."""
        about = {entity.name: entity.dtype for entity in entities_of(self.views)}
        own = self.spine.entity.name
        first = {own: self.spine.entity.dtype} if own in about or not about else {}
        return first | about

    @property
    def request_fields(self) -> dict[str, DType]:
        """The fields a request has to bring beside the entities' keys, and their types."""
        return request_fields(self.views)

    @property
    def joined_by(self) -> tuple[str, ...]:
        """The spine's columns that its features are joined by: keys and request fields."""
        return (*self.entity_dtypes, *self.request_fields)

    @property
    def stored_us(self) -> dict[str, int]:
        """Greatest age of a stored row in microseconds, by the view whose rows are joined."""
        return {name: duration_us(age) for name, age in self.stored.items()}

    @property
    def horizon_us(self) -> int:
        """How far the label looks ahead, in microseconds."""
        if self.label is None:
            return 0
        return max((duration_us(node.by) for node in leads_of(self.label.expression)), default=0)

    @property
    def task(self) -> Literal["classification", "regression"]:
        """What a model of this dataset does."""
        truth = self.label is not None and is_truth(self.label.expression, self.spine.columns)
        return "classification" if truth else "regression"

    def _faults(self) -> Iterator[str]:
        yield from super()._faults()
        yield from feature_faults(self._listed)
        yield from self._column_faults("entity key", self.entity_dtypes)
        yield from self._column_faults("request field", self.request_fields)
        yield from stored_faults(self.stored, self.base_views, as_known=self.as_known)
        if self.select and SELECTION_ID.fullmatch(self.select) is None:
            yield (
                f"select={self.select!r} is no id of a feature selection; give the 16 characters "
                f"that 'penstock features select {self.name}' answers with"
            )
        if self.label is not None:
            yield from self._label_faults(self.label)

    def _column_faults(self, what: str, wanted: Mapping[str, DType]) -> Iterator[str]:
        """Yield what the spine lacks of the columns that its features are joined by."""
        columns = self.spine.columns
        for name, dtype in wanted.items():
            if name not in columns:
                yield (
                    f"its features need the {what} {name!r}, which is no column of the spine "
                    f"{self.spine.name!r}. {nearest(name, list(columns))}"
                )
            elif columns[name] != dtype:
                yield (
                    f"the {what} {name!r} is {dtype.value}, but the spine's column is "
                    f"{columns[name].value}; give both one type"
                )

    def _label_faults(self, label: Label) -> Iterator[str]:
        columns = list(self.spine.columns)
        wanted = columns_of(label.expression) | {n.column for n in leads_of(label.expression)}
        for column in sorted(wanted - set(columns)):
            yield f"label {label.name!r} reads {column!r}. {nearest(column, columns)}"
        if isinstance(self.split, TimeSplit) and self.split.embargo_us < self.horizon_us:
            need = duration_text(self.horizon_us)
            yield (
                f"label {label.name!r} looks {need} ahead, but the split leaves an embargo of "
                f"{self.split.embargo or 'nothing'}; set embargo={need!r} or more"
            )


def stored_faults(
    stored: Mapping[str, str], views: Sequence[FeatureView], *, as_known: bool
) -> Iterator[str]:
    """Yield what is wrong with asking for the stored features of views.

    Args:
        stored: The greatest age that stored rows may have, by name of their view.
        views: The feature views that there are to choose from.
        as_known: Whether late records are to be left out.
    """
    names = [view.name for view in views]
    for name, age in stored.items():
        if name not in names:
            yield f"stored={{{name!r}: ...}} names no view of it. {nearest(name, names)}"
        try:
            duration_us(age)
        except ValueError as error:
            yield f"stored={{{name!r}: {age!r}}}: {error}"
    if stored and as_known:
        yield (
            "stored rows hold late records too, so as_known=True cannot be kept for them; "
            "leave one of the two out"
        )


def is_truth(expression: Expression, schema: Mapping[str, DType]) -> bool:
    """Whether an expression is true or false: a condition, or made of columns that are.

    Args:
        expression: The expression.
        schema: The columns it may read and their types.
    """
    match expression:
        case Column(name) | Lead(name):
            return schema.get(name) is DType.BOOLEAN
        case Constant(value):
            return isinstance(value, bool)
        case Call("coalesce", args):
            return all(is_truth(arg, schema) for arg in args)
        case _:
            return is_condition(expression)
