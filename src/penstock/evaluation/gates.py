"""Gates: whether a candidate may be used, by what it did on the test part."""

from __future__ import annotations

from typing import TYPE_CHECKING

from penstock.records import GateVerdict
from penstock.spec import SMALLER_IS_BETTER

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from penstock.spec import Gate

__all__ = ["judge"]


def judge(
    gates: Sequence[Gate],
    metrics: Mapping[str, float],
    rivals: Mapping[str, Mapping[str, float]],
) -> tuple[GateVerdict, ...]:
    """Ask every gate.

    Args:
        gates: The gates, in order.
        metrics: The candidate's metrics on the test part, by plain name.
        rivals: The same of the model behind each alias, on the same rows; an alias that points
            nowhere is left out, and there is nobody to beat.

    Returns:
        A verdict for each gate. A metric that the test rows do not define passes no gate.
    """
    return tuple(_judge(gate, metrics.get(gate.metric), rivals) for gate in gates)


def _judge(
    gate: Gate, value: float | None, rivals: Mapping[str, Mapping[str, float]]
) -> GateVerdict:
    bound = gate.value if gate.rule != "beats" else rivals.get(gate.alias, {}).get(gate.metric)
    if value is None:
        reason = f"{gate.metric} is not defined on the test part: its labels are all alike"
        return GateVerdict(gate=gate.name, passed=False, value=None, bound=bound, reason=reason)
    if bound is None:
        reason = f"there is no {gate.alias} to beat yet; {gate.metric} is {value:.6g}"
        return GateVerdict(gate=gate.name, passed=True, value=value, bound=None, reason=reason)
    passed, wanted = _compare(gate, value, bound)
    reason = f"{gate.metric} is {value:.6g}, {'as wanted' if passed else 'not'} {wanted}"
    return GateVerdict(gate=gate.name, passed=passed, value=value, bound=bound, reason=reason)


def _compare(gate: Gate, value: float, bound: float) -> tuple[bool, str]:
    """Whether the value holds, and what was wanted in words."""
    match gate.rule:
        case "at_least":
            return value >= bound, f"at least {bound:g}"
        case "at_most":
            return value <= bound, f"at most {bound:g}"
        case "beats":
            smaller = gate.metric in SMALLER_IS_BETTER
            ahead = bound - value if smaller else value - bound
            by = f" by more than {gate.value:g}" if gate.value else ""
            side = "below" if smaller else "above"
            return ahead > gate.value, f"{side} the {gate.alias}'s {bound:.6g}{by}"
