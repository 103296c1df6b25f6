"""What windows, aggregates and expressions mean: one law for batch, stream and request time. Pure.

- ``windows``: when an event counts, what a window holds, which of two events is the newer.
- ``states``: the aggregates' states and how exactly every way to a value agrees.
- ``expressions``: what an expression means, over frames (``to_polars``) and rows (``compile_row``).
- ``program``: a feature view compiled once; ``compute_points`` is the batch engine over it,
  ``fold`` the stream engine, ``ValueReader`` the reader of what the stream engine keeps.
- ``leaving``: when an entity's value may leave the online store.
- ``tombstones``: which records a deletion takes away.
- ``lookups``: which record of another source is found for a record, and which features.
- ``spread``: how the values of a column lie, day by day.
- ``drift``: how far a feature has moved from the rows a model learned from.
- ``metrics``: how far predictions agree with what came true; ``losses``, score by score.
- ``sequential``: whether two arms differ, looked at as often as one likes.
- ``arms``: which of several arms is the best, and what each would have brought.
"""

from __future__ import annotations

from .arms import Weighed, chances_best, floored, weighed
from .arrays import BoolArray, FloatArray, IntArray
from .drift import PSI_FLOOR, count_bins, psi, reference_bins
from .expressions import tidy, to_polars
from .extract import Events, event_times, extract
from .fold import count_too_late, fold
from .functions import call_function, load_function
from .graphs import GraphProgram, GraphRun, Predictor, check_graph
from .kernel import Each, compute_points, in_turn
from .known import compute_points_as_known
from .labels import check_label
from .layout import newest_of, newest_one
from .leaving import is_past, lacks_past, may_have_left, may_leave, past_from
from .lookups import Found, FoundFeatures, Keyed, find_features, find_newest
from .losses import score_values
from .metrics import compute_metric, compute_metrics
from .newest import NewestValues, asks_newest
from .on_demand import OnDemandProgram, compile_on_demand
from .operators import dtype_of
from .program import Program, captured_meaning, compile_view
from .read import ValueReader, as_of
from .registers import hashes_of
from .row_checks import require_by_row
from .rows import RowFunction, Scalar, compile_row
from .rules import check_rules, compile_rule
from .sequential import ArmMean, Compared, arm_mean, compare, half_width, ratio_evidence
from .spans import ALWAYS, Span, span_of
from .spread import (
    SPREAD_QUANTILES,
    Spread,
    equal_bins,
    inner_span,
    merge_spreads,
    shift,
    spreads_of,
)
from .state import NEVER_US
from .tombstones import FOR_EVER, Tombstones
from .vectors import compile_vector
from .windows import first_tile, tile_of, window_start

__all__ = [
    "ALWAYS",
    "FOR_EVER",
    "NEVER_US",
    "PSI_FLOOR",
    "SPREAD_QUANTILES",
    "ArmMean",
    "BoolArray",
    "Compared",
    "Each",
    "Events",
    "FloatArray",
    "Found",
    "FoundFeatures",
    "GraphProgram",
    "GraphRun",
    "IntArray",
    "Keyed",
    "NewestValues",
    "OnDemandProgram",
    "Predictor",
    "Program",
    "RowFunction",
    "Scalar",
    "Span",
    "Spread",
    "Tombstones",
    "ValueReader",
    "Weighed",
    "arm_mean",
    "as_of",
    "asks_newest",
    "call_function",
    "captured_meaning",
    "chances_best",
    "check_graph",
    "check_label",
    "check_rules",
    "compare",
    "compile_on_demand",
    "compile_row",
    "compile_rule",
    "compile_vector",
    "compile_view",
    "compute_metric",
    "compute_metrics",
    "compute_points",
    "compute_points_as_known",
    "count_bins",
    "count_too_late",
    "dtype_of",
    "equal_bins",
    "event_times",
    "extract",
    "find_features",
    "find_newest",
    "first_tile",
    "floored",
    "fold",
    "half_width",
    "hashes_of",
    "in_turn",
    "inner_span",
    "is_past",
    "lacks_past",
    "load_function",
    "may_have_left",
    "may_leave",
    "merge_spreads",
    "newest_of",
    "newest_one",
    "past_from",
    "psi",
    "ratio_evidence",
    "reference_bins",
    "require_by_row",
    "score_values",
    "shift",
    "span_of",
    "spreads_of",
    "tidy",
    "tile_of",
    "to_polars",
    "weighed",
    "window_start",
]
