"""The last screen of the demonstration."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from rich.console import Group

from penstock.cli.humanise import count, number, size
from penstock.cli.screen import table

from .inside import COUNTS
from .world import auc

if TYPE_CHECKING:
    from pathlib import Path

    from rich.console import RenderableType
    from rich.table import Table

    from penstock.records import ModelVersion

    from .play import Play
    from .world import Asked

__all__ = ["summary_screen", "summary_value"]

PARTS = {"quiet": "before the change", "changed": "after the change", "after": "at the end"}


def summary_value(play: Play) -> dict[str, object]:
    """Everything the demonstration found, as plain values and records."""
    return {
        "origin": play.market.origin,
        "counts": play.inside.counts(),
        "candidates": [*play.first, *play.second],
        "accuracy": {part: auc(asked) for part, asked in play.asked.items()},
        "latency_ms": _latency_ms(play),
        "report": play.report,
        "incident": play.incident,
        "seconds": play.stages.seconds,
        "total_s": play.stages.total_s,
        "peak_bytes": play.stages.peak_bytes,
    }


def summary_screen(play: Play, home: Path) -> RenderableType:
    """One screen: counts, candidates, accuracy and latency, the incident, where to look further."""
    counts = play.inside.counts()
    columns = ["data", *COUNTS]
    rows = [["candles", *(count(counts[name]) for name in COUNTS)]]
    return Group(
        "",
        table(columns, rows, title="Data: read = stored + quarantined + duplicates", right=COUNTS),
        "",
        _candidates([*play.first, *play.second]),
        "",
        _live(play),
        "",
        _incident(play),
        "",
        _further(play, home),
        "",
        f"[green]✓[/] Every step did what it says, in {play.stages.total_s:.0f} s and "
        f"{size(play.stages.peak_bytes)} of memory.",
    )


def _candidates(versions: list[ModelVersion]) -> Table:
    rows = [
        (
            one.label,
            one.candidate,
            number(one.metrics.get("validation.roc_auc")),
            number(one.metrics.get("test.roc_auc")),
            number(one.metrics.get("test.log_loss")),
            number(one.metrics.get("test.accuracy")),
            "ready" if one.ready else ("refused" if one.selected else "-"),
            one.engine or "-",
        )
        for one in versions
    ]
    columns = ["version", "candidate", "validation AUC", "test AUC", "log loss", "accuracy"]
    title = "Candidates: split by time, with an embargo"
    return table([*columns, "gates", "engine"], rows, title=title, right=columns[2:])


def _live(play: Play) -> Table:
    rows = [
        (PARTS[part], _versions(asked), len(asked), number(auc(asked), 3), *_quantiles(asked))
        for part, asked in play.asked.items()
    ]
    columns = ["live", "answered by", "predictions", "ROC AUC", "p50 ms", "p99 ms"]
    return table(columns, rows, title="Predictions over HTTP", right=columns[2:])


def _versions(asked: list[Asked]) -> str:
    return ", ".join(sorted({one.version for one in asked}))


def _quantiles(asked: list[Asked]) -> tuple[str, str]:
    p50, p99 = np.quantile([one.took_ms for one in asked], [0.5, 0.99])
    return f"{p50:.1f}", f"{p99:.1f}"


def _latency_ms(play: Play) -> dict[str, float]:
    took = [one.took_ms for asked in play.asked.values() for one in asked]
    return {"p50": float(np.quantile(took, 0.5)), "p99": float(np.quantile(took, 0.99))}


def _incident(play: Play) -> Table:
    if play.incident is None:
        return table(["incident"], [["none"]])
    rows = [("breached", breach) for breach in play.incident.breaches]
    rows += list(play.incident.actions.items())
    rows.append(("now", play.incident.state))
    return table(["incident", play.incident.incident_id], rows, title="Incident")


def _further(play: Play, home: Path) -> Table:
    one = play.asked["changed"][0].prediction_id
    commands = [
        ("what there is", f"penstock status --home {home}"),
        ("is all well", f"penstock doctor --home {home}"),
        ("one score's origin", f"penstock lineage {one} --home {home}"),
        ("the same score again", f"penstock replay {one} --home {home}"),
        ("the models", f"penstock models list --home {home}"),
        ("go on with it", f"penstock up --home {home}"),
    ]
    return table(["look further", ""], commands)
