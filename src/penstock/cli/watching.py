"""The commands about what happens after a prediction: observe, monitor."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import typer

from penstock.control import monitor_run
from penstock.errors import InputError, NotReadyError
from penstock.monitoring import observe as report_outcomes
from penstock.plan import Catalogue
from penstock.records import Incident, MonitorReport, Observation
from penstock.scoring import find_score
from penstock.spec import Monitor

from .failures import UsageError
from .follow import follow, output_of
from .humanise import count, number, plural
from .opening import opened_as
from .screen import Screen, table

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.table import Table

    from penstock.ports import Services
    from penstock.runtime import LocalServices

__all__ = ["monitor", "observe"]


class Outcome(msgspec.Struct, frozen=True):
    """One line of a file of outcomes."""

    prediction_id: str
    value: float
    observed_at_us: int | None = None
    measures: Mapping[str, float] = {}


def observe(  # noqa: PLR0913, PLR0917 - one parameter for each option
    screen: Screen,
    deployment: str = typer.Argument(help="The deployment that made the predictions."),
    prediction: str = typer.Option("", "--id", help="Id of the prediction."),
    value: float | None = typer.Option(
        None, "--value", help="What came true: 0 or 1, or the number."
    ),
    measure: list[str] = typer.Option(
        [], "--measure", help="What else came of it: NAME=NUMBER, such as revenue=12.5."
    ),
    file: str = typer.Option(
        "", "--file", help='JSON lines such as {"prediction_id": "01J...", "value": 1}.'
    ),
) -> None:
    """Report true outcomes."""
    measures = dict(_measure(word) for word in measure)
    alone = [] if value is None or not prediction else [Outcome(prediction, value, None, measures)]
    if bool(file) == bool(alone) or (file and (prediction or measures)):
        raise UsageError("Give either --id and --value, or --file.")
    with opened_as(screen, "writer") as services:
        Catalogue.load(services.metadata).deployment(deployment)
        now_us = services.clock.now_us()
        outcomes = alone or _read(Path(file))
        observations = [
            Observation(
                prediction_id=one.prediction_id,
                value=one.value,
                observed_at_us=one.observed_at_us or now_us,
                measures=one.measures,
            )
            for one in outcomes
        ]
        taken = report_outcomes(services, deployment, observations)
        if alone and find_score(services, prediction) is None:
            screen.say(
                f"No prediction {prediction!r} is known here. The observation is kept and counts "
                "when its score is; see that the id is the one in the answer to the request."
            )
    said = f"[green]✓[/] {plural(taken, 'observation')} of {deployment} taken in."
    screen.show({"deployment": deployment, "count": taken}, said)


def _measure(word: str) -> tuple[str, float]:
    name, _, text = word.partition("=")
    try:
        return name, float(text)
    except ValueError:
        raise UsageError(f"--measure {word!r} is no measure; write revenue=12.5.") from None


def monitor(
    screen: Screen,
    name: str = typer.Argument("", help="The monitor; all when left out."),
) -> None:
    """Look now, and act on what is seen."""
    with opened_as(screen, "admin") as services:
        catalogue = Catalogue.load(services.metadata)
        catalogue.require_applied()
        chosen = [catalogue.monitor(name)] if name else catalogue.all(Monitor)
        if not chosen:
            screen.show([], "No monitor is declared. Add a ps.Monitor to the project.")
        reports = [_look(screen, services, one.name) for one in chosen]
        incidents = [_incident(services, report) for report in reports]
    value = [{"report": r, "incident": i} for r, i in zip(reports, incidents, strict=True)]
    shown: list[object] = []
    for report, incident in zip(reports, incidents, strict=True):
        shown += [_checks(report), *_what_was_done(incident)]
    if value:
        screen.show(value, *shown)


def _read(path: Path) -> list[Outcome]:
    try:
        lines = path.read_bytes().splitlines()
    except OSError as error:
        raise InputError(
            f"{path} cannot be read: {error.strerror}. Expected a file of JSON lines.",
            path=str(path),
        ) from error
    found: list[Outcome] = []
    for place, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            found.append(msgspec.json.decode(line, type=Outcome))
        except msgspec.DecodeError as error:
            raise InputError(
                f"{path}, line {place}: {error}. Expected a line such as "
                '{"prediction_id": "01J...", "value": 1}. Nothing was taken in.',
                path=str(path),
                line=place,
            ) from error
    if not found:
        raise InputError(f"{path} has no observation in it.", path=str(path))
    return found


def _look(screen: Screen, services: LocalServices, name: str) -> MonitorReport:
    """Let a monitor look, as a durable run; returns what it saw."""
    run = follow(screen, services, monitor_run(f"monitor-{services.ids.new()}", name))
    seen = output_of(run, "look")
    report = services.metadata.read(MonitorReport, str(seen.get("report_id", "")))
    if report is None:
        raise NotReadyError(
            str(seen.get("message", f"Monitor {name!r} saw nothing.")), monitor=name
        )
    return report


def _incident(services: Services, report: MonitorReport) -> Incident | None:
    where = {"monitor": report.monitor, "state": "open"}
    found = services.metadata.find(Incident, where=where, newest_first=True)
    return next((one for one in found if one.version == report.version), None)


def _checks(report: MonitorReport) -> Table:
    rows = [
        (
            "✗" if check.breached else ("-" if check.value is None else "✓"),
            check.name,
            check.subject,
            number(check.value),
            number(check.bound),
            count(check.rows),
            check.reason,
        )
        for check in report.checks
    ]
    columns = ["", "check", "of", "value", "bound", "rows", "in words"]
    title = f"{report.monitor}: {report.version} on {report.deployment}"
    return table(columns, rows, title=title, right=["value", "bound", "rows"])


def _what_was_done(incident: Incident | None) -> Sequence[object]:
    if incident is None:
        return ["[green]✓[/] No incident is open."]
    rows = list(incident.actions.items())
    opened = f"[red]✗[/] Incident {incident.incident_id} is open."
    return [opened, table(["action", "outcome"], rows)] if rows else [opened]
