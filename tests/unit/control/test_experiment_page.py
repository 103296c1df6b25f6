"""What is made of an experiment's record alone: its verdict at a look, and its page."""

from __future__ import annotations

import re
from datetime import UTC, datetime

import pytest
from msgspec.structs import replace

import penstock as ps
from penstock.control import experiment_page
from penstock.control.experiment_looks import judge
from penstock.records import Arm, ExperimentLook, ExperimentState, GuardrailLook, to_plain

PLAN = ps.Experiment(
    "trial", version=2, metric="outcome", guardrails=[ps.Guardrail(metric="latency_ms")]
)
TOP, BOTTOM = 12.0, 234.0


def _state(*looks: ExperimentLook) -> ExperimentState:
    plain = to_plain(PLAN)
    assert isinstance(plain, dict)
    return ExperimentState(
        deployment="btc", name="trial", model="direction", plan=plain, metric="outcome",
        smaller_is_better=False, version=2, champion=1, target="@2", shares={"@2": 0.5},
        asked_at=datetime(2026, 1, 1, tzinfo=UTC), stage="running", looks=looks,
    )  # fmt: skip


def _look(at_us: int, difference: float, width: float) -> ExperimentLook:
    arm = Arm(entities=400, scores=500, answered=500, observed_entities=400, observed=500,
              effective=390.0, mean=0.5)  # fmt: skip
    return ExperimentLook(
        at_us=at_us, tried=arm, champion=arm, difference=difference, low=difference - width,
        high=difference + width,
    )  # fmt: skip


@pytest.mark.parametrize("difference", [10.0, -10.0, 0.0])
def test_the_difference_is_drawn_within_its_band_however_far_from_zero(difference: float) -> None:
    looks = [_look(at, difference, 1.0 / at) for at in (1, 2, 3)]

    page = experiment_page(_state(*looks))

    points = re.findall(r'<polygon points="([^"]+)"', page)[0].split()
    ys = [float(point.split(",")[1]) for point in points]
    (end,) = re.findall(r'<circle [^>]*cy="([0-9.]+)"', page)
    assert TOP <= min(ys) < float(end) < max(ys) <= BOTTOM
    assert ys[2] < float(end) < ys[3]  # the ends of the last look


@pytest.mark.parametrize("which", ["ratio", "observed_ratio"])
def test_both_tests_of_the_ratio_have_one_chance_of_a_false_alarm_in_a_thousand(which: str) -> None:
    state, seen = _state(), _look(1, 0.0, 1.0)

    assert judge(state, PLAN, replace(seen, **{which: 0.0006})) is None
    found = judge(state, PLAN, replace(seen, **{which: 0.0004}))
    assert found is not None
    assert found[0] == "invalid"


def test_one_look_is_drawn_with_its_band_and_its_time_once() -> None:
    page = experiment_page(_state(_look(1, 0.1, 0.5)))

    assert page.count("00:00:00</text>") == 1
    (low, high) = re.findall(r'<line x1="70.0" x2="70.0" y1="([0-9.]+)" y2="([0-9.]+)"', page)[0]
    assert TOP <= float(low) < float(high) <= BOTTOM


def test_a_guardrail_of_which_too_little_is_known_does_not_hold_yet() -> None:
    look = replace(_look(1, 0.0, 1.0), guardrails=(GuardrailLook(metric="latency_ms"),))

    page = experiment_page(_state(look))

    assert "too little is known" in page
    assert "may be worse by" in page
    assert "<td>holds</td>" not in page
