"""The command that explains a prediction."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer
from rich.text import Text

from penstock.control import explain as explain_score
from penstock.runtime import open_services

from .humanise import count, number
from .screen import table

if TYPE_CHECKING:
    from penstock.control import ScoreExplanation
    from penstock.scoring import Contribution, Explanation

    from .screen import Screen

__all__ = ["explain"]

SHOWN = 20
BAR = 24
PARTS = " ▏▎▍▌▋▊▉"
SPACES = {
    "probability": "the probability of true",
    "log_odds": "log-odds of true",
    "value": "the value",
    "log": "the logarithm of the value",
}
METHODS = {
    "linear": "exact, from the coefficients",
    "trees": "exact, from the trees",
    "sampled": "estimated, with its standard error",
}


def explain(
    screen: Screen,
    prediction_id: str = typer.Argument(help="Id of the prediction."),
    whole: bool = typer.Option(False, "--all", help="Show every feature."),
) -> None:
    """Explain a prediction."""
    with open_services(screen.home) as services:
        found = explain_score(services, prediction_id)
    one = found.explanation
    largest = sorted(one.contributions, key=lambda part: -abs(part.contribution))
    shown = largest if whole else largest[:SHOWN]
    top = abs(largest[0].contribution) if largest else 0.0
    sampled = one.method == "sampled"
    rows = [_row(part, top, sampled=sampled) for part in shown]
    columns = ["feature", "value", "adds", *(["±"] if sampled else []), ""]
    title = f"{prediction_id}  {found.version}  {found.entity}".rstrip()
    screen.show(found, table(columns, rows, title=title, right=["value", "adds", "±"]))
    screen.hint(*_told(found, len(largest) - len(shown)))


def _row(part: Contribution, top: float, *, sampled: bool) -> list[object]:
    value = "null" if part.value is None else f"{part.value:.6g}"
    error = [f"{part.error:.2g}"] if sampled else []
    return [part.feature, value, f"{part.contribution:+.4f}", *error, _bar(part.contribution, top)]


def _bar(value: float, top: float) -> Text:
    """A bar as long as the value is large, in the colour of its direction."""
    if not top:
        return Text()
    eighths = round(abs(value) / top * BAR * len(PARTS))
    bar = "█" * (eighths // len(PARTS)) + PARTS[eighths % len(PARTS)].strip()
    return Text(bar, style="green" if value > 0 else "red")


def _told(found: ScoreExplanation, hidden: int) -> list[str]:
    one = found.explanation
    start, end = number(one.base, 4), number(one.output, 4)
    beside = f"beside {count(one.background_rows)} test rows of {found.version}"
    told = f"{SPACES[one.space]}{_prediction(one)}"
    lines = [
        f"{start} on average; with what the features add {end}: {told}.",
        f"[dim]{METHODS[one.method].capitalize()}, {beside}.[/]",
    ]
    if hidden:
        lines.append(f"[dim]{count(hidden)} more features; --all shows them.[/]")
    return lines


def _prediction(one: Explanation) -> str:
    """What the sum makes of itself, where that is something else."""
    if one.space in {"probability", "value"}:
        return ""
    name = "a probability" if one.space == "log_odds" else "a value"
    return f", {name} of {number(one.prediction, 4)}"
