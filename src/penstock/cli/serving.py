"""The commands about deployments that stand: rollback, score."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
import typer

from penstock.control import score_run
from penstock.deployment import rollback as roll_back
from penstock.plan import Catalogue
from penstock.scoring import BatchScored

from .failures import UsageError
from .follow import follow, output_of
from .humanise import plural
from .opening import opened_as

if TYPE_CHECKING:
    from penstock.deployment import Deployed

    from .screen import Screen

__all__ = ["answer_lines", "rollback", "score", "version_number"]

DEPLOYMENT = typer.Argument(help="The deployment.")


def rollback(
    screen: Screen,
    deployment: str = DEPLOYMENT,
    to: str = typer.Option(
        "",
        "--to",
        help="The version, as 2 or MODEL@2; asked again, nothing changes. The previous champion "
        "otherwise.",
    ),
    expect: int = typer.Option(
        -1, "--expect", help="Only if the model's aliases are at this revision."
    ),
) -> None:
    """Bring the previous version back."""
    with opened_as(screen, "admin") as services:
        declared = Catalogue.load(services.metadata).deployment(deployment)
        number = version_number(to, declared.model.name, option="--to")
        expected = None if expect < 0 else expect
        done = roll_back(services, deployment, to=number, expected=expected)
    screen.show(done, *answer_lines(done))


def score(screen: Screen, deployment: str = DEPLOYMENT) -> None:
    """Score every new row of the spine."""
    with opened_as(screen, "writer") as services:
        Catalogue.load(services.metadata).deployment(deployment)
        run_id = f"score-{services.ids.new()}"
        run = follow(screen, services, score_run(run_id, deployment))
    done = output_of(run, "score")
    screen.show(
        {"run_id": run_id, **done}, f"[green]✓[/] {_scored(msgspec.convert(done, BatchScored))}"
    )


def _scored(done: BatchScored) -> str:
    """What a batch run has scored, in a sentence."""
    said = f"Nothing new to score on {done.deployment}"
    if done.version:
        said = f"{done.version} scored {plural(done.rows, 'row')} on {done.deployment}"
    if done.ready:
        said += f"; {plural(done.ready, 'score')} put where they are answered from"
    if done.without:
        said += f"; {plural(done.without, 'row')} without a prediction"
    for view, rows in done.unknown.items():
        said += f"; {plural(rows, 'row')} of entities unknown to {view}"
    return f"{said}."


def version_number(text: str, model: str, *, option: str = "--version") -> int | None:
    """The number of a version written as 3 or MODEL@3; none for no text.

    Raises:
        UsageError: It is neither, or of another model.
    """
    if not text:
        return None
    name, _, word = text.rpartition("@")
    if not word.isdecimal():
        raise UsageError(f"{option} {text!r} is no version; write 3 or MODEL@3.", version=text)
    if name not in {"", model}:
        raise UsageError(
            f"{option} {text!r} is of the model {name!r}, but the deployment is of {model!r}. "
            f"Write {word} or {model}@{word}.",
            version=text,
        )
    return int(word)


def answer_lines(done: Deployed) -> list[str]:
    """Who answers now, since when, and with which engine, as lines."""
    what = "answers" if done.changed else "answers as before"
    where = (
        f"; {plural(done.processes, 'serving process')}"
        if done.processes == 1
        else (
            f"; {done.processes} serving processes have it"
            if done.processes
            else "; no serving process runs"
        )
    )
    previous = f"; version {done.previous} is previous" if done.previous else ""
    return [
        f"[green]✓[/] {done.model}@{done.version} {what} on {done.deployment}{previous}{where}.",
        f"  Engine: {done.engine}; {done.engine_reason}.",
    ]
