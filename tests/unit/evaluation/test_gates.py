"""Gates compare the test metric with their bound, the right way round."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

import penstock as ps
from penstock.evaluation import judge

if TYPE_CHECKING:
    from penstock.spec import Gate

CHAMPION = {"champion": {"roc_auc": 0.6, "log_loss": 0.5}}


@pytest.mark.parametrize(
    ("gate", "value", "passed"),
    [
        (ps.at_least("roc_auc", 0.5), 0.5, True),
        (ps.at_least("roc_auc", 0.5), 0.49, False),
        (ps.at_most("log_loss", 0.7), 0.7, True),
        (ps.at_most("log_loss", 0.7), 0.71, False),
        (ps.beats("champion", "roc_auc"), 0.61, True),
        (ps.beats("champion", "roc_auc"), 0.6, False),
        (ps.beats("champion", "roc_auc", by=0.05), 0.64, False),
        (ps.beats("champion", "roc_auc", by=0.05), 0.66, True),
        (ps.beats("champion", "log_loss"), 0.49, True),
        (ps.beats("champion", "log_loss"), 0.5, False),
        (ps.beats("champion", "log_loss", by=0.1), 0.41, False),
        (ps.beats("champion", "log_loss", by=0.1), 0.39, True),
        (ps.beats("challenger", "roc_auc"), 0.1, True),
    ],
)
def test_a_gate_passes_what_keeps_its_bound(gate: Gate, value: float, *, passed: bool) -> None:
    (verdict,) = judge([gate], {gate.metric: value}, CHAMPION)
    assert (verdict.gate, verdict.passed, verdict.value) == (gate.name, passed, value)


def test_verdicts_say_why_in_words() -> None:
    gates = [
        ps.at_least("roc_auc", 0.5),
        ps.beats("champion", "log_loss", by=0.1),
        ps.beats("previous", "roc_auc"),
    ]
    found = judge(gates, {"roc_auc": 0.45, "log_loss": 0.3}, CHAMPION)
    assert [(verdict.bound, verdict.reason) for verdict in found] == [
        (0.5, "roc_auc is 0.45, not at least 0.5"),
        (0.5, "log_loss is 0.3, as wanted below the champion's 0.5 by more than 0.1"),
        (None, "there is no previous to beat yet; roc_auc is 0.45"),
    ]


@pytest.mark.parametrize("gate", [ps.at_least("roc_auc", 0.5), ps.beats("nobody", "roc_auc")])
def test_a_metric_that_is_not_defined_passes_no_gate(gate: Gate) -> None:
    (verdict,) = judge([gate], {}, {})
    assert (verdict.passed, verdict.value) == (False, None)
    assert "is not defined on the test part" in verdict.reason
