"""The commands about a deployment's routes: show, set, reset."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, cast, get_args

import msgspec
import typer
from rich.markup import escape

from penstock.deployment import RouteEdit, change_routes, reset_routes
from penstock.deployment import show_routes as routes_of
from penstock.records import ALIASES, OFF
from penstock.runtime import open_services
from penstock.spec import Fallback, FallbackStep

from .failures import UsageError
from .humanise import ago
from .screen import Screen, table

if TYPE_CHECKING:
    from datetime import datetime

    from penstock.deployment import Rerouted, RouteState
    from penstock.ports import Services

__all__ = ["routes_reset", "routes_set", "routes_show"]

DEPLOYMENT = typer.Argument(help="The deployment.")
EXPECT = typer.Option(
    -1, "--expect", help="Only if the changes are at this revision; 'routes show' says it."
)
REASON = typer.Option("", "--reason", help="Why; kept with the change and audited.")
SWITCH = {"on": True, "off": False, "declared": None}
DECLARED = "declared"


def routes_show(screen: Screen, deployment: str = DEPLOYMENT) -> None:
    """Show the routes as they are now."""
    with open_services(screen.home) as services:
        found = routes_of(services, deployment)
        now = services.clock.now()
    screen.show(found, _routes(found), *_said(found, now))


def routes_set(  # noqa: PLR0913, PLR0917 - one parameter for each option
    screen: Screen,
    deployment: str = DEPLOYMENT,
    share: list[str] = typer.Option(
        [], "--share", help="TARGET=SHARE, such as challenger=0.1 or @3=0.05; 0 for off."
    ),
    shadow: list[str] = typer.Option(
        [], "--shadow", help="TARGET=on or off, such as candidate=off or @3=on."
    ),
    pin: list[str] = typer.Option(
        [], "--pin", help="ALIAS=VERSION, such as champion=3: stays, wherever the alias points."
    ),
    unpin: list[str] = typer.Option([], "--unpin", help="ALIAS: follow it again."),
    header: list[str] = typer.Option(
        [], "--header", help="NAME=VALUE=TARGET, such as x-group=beta=@3 or x-group=beta=off."
    ),
    rule: list[str] = typer.Option(
        [], "--rule", help="CONDITION=TARGET, such as 'amount > 1000=@3' or 'amount > 1000=off'."
    ),
    cached: str = typer.Option("", "--cached", help="Age of a last score that answers, or off."),
    precomputed: str = typer.Option(
        "", "--precomputed", help="Age of a batch score that answers, or off."
    ),
    deadline: str = typer.Option("", "--deadline", help="Longest wait for a route, as 20ms."),
    slow_after: str = typer.Option(
        "", "--slow-after", help="Time past which a version counts as slow, as 50ms; or off."
    ),
    to: str = typer.Option("", "--to", help="What falls back, in order: previous,cached,constant."),
    value: float = typer.Option(float("nan"), "--value", help="The constant."),
    fallback: str = typer.Option("", "--fallback", help="'declared': the declared one again."),
    reason: str = REASON,
    expect: int = EXPECT,
) -> None:
    """Change routes while the deployment runs."""
    shares = dict(_share(word) for word in share)
    shadows = dict(_shadow(word) for word in shadow)
    pins = dict(_pin(word) for word in pin) | dict.fromkeys(unpin)
    if fallback not in {"", DECLARED}:
        raise UsageError(f"--fallback {fallback!r}; the one word it takes is 'declared'.")
    with open_services(screen.home) as services:
        before = routes_of(services, deployment)
        edit = RouteEdit(
            shares=shares,
            shadows=shadows,
            pins=pins,
            headers=dict(_led("--header", word, "x-group=beta=@3") for word in header),
            rules=dict(_led("--rule", word, "'amount > 1000=@3'") for word in rule),
            ages={
                role: None if age == DECLARED else age
                for role, age in (("cached", cached), ("precomputed", precomputed))
                if age
            },
            fallback=_fallback(before.fallback, deadline, slow_after, to, value),
            declared_fallback=fallback == DECLARED,
        )
        expected = before.revision if expect < 0 else expect
        done = change_routes(services, deployment, edit, reason=reason, expected=expected)
        _show(screen, services, done)


def routes_reset(
    screen: Screen, deployment: str = DEPLOYMENT, reason: str = REASON, expect: int = EXPECT
) -> None:
    """Take every change at run time back."""
    with open_services(screen.home) as services:
        expected = None if expect < 0 else expect
        done = reset_routes(services, deployment, reason=reason, expected=expected)
        _show(screen, services, done)


def _show(screen: Screen, services: Services, done: Rerouted) -> None:
    what = f"The routes of {done.deployment} are"
    head = f"[green]✓[/] {what} changed." if done.changed else f"{what} so already."
    screen.show(done, head, _routes(done), *_said(done, services.clock.now()))


def _routes(found: Rerouted) -> object:
    columns = ["route", "leads to", "version", "share", "takes now", ""]
    right = ["version", "share", "takes now"]
    return table(columns, [_row(one) for one in found.routes], right=right)


def _row(one: RouteState) -> list[object]:
    notes = [one.why] if one.share is None and one.why else []
    notes += ["pinned"] if one.pinned and not one.target.startswith("@") else []
    notes += ["changed at run time"] if one.changed else []
    shares = ["-" if one is None else f"{100 * one:.4g} %" for one in (one.share, one.takes)]
    return [one.name, one.target, one.version or "-", *shares, ", ".join(notes)]


def _said(found: Rerouted, now: datetime) -> list[str]:
    fallback = found.fallback
    said = ["Nothing falls back."]
    if fallback is not None:
        words = {
            "previous": "previous version",
            "cached": f"last score{f' of {fallback.max_age} at most' if fallback.max_age else ''}",
            "constant": f"constant {fallback.value}",
        }
        said = [f"After {fallback.deadline}: {', '.join(words[one] for one in fallback.steps)}."]
        if fallback.slow_after:
            said.append(f"Slow after {fallback.slow_after}: counts against the version.")
    changes = found.changes
    if changes.is_empty:
        said.append(f"All is as declared (revision {found.revision}).")
    else:
        why = f": {changes.reason}" if changes.reason else ""
        when = ago(changes.changed_at, now)
        said.append(
            f"Changed at run time (revision {found.revision}) by {changes.changed_by} {when}{why}."
        )
        said.append(f"Otherwise than declared: {escape(changes.text)}.")
    if found.processes or found.behind:
        behind = f", {len(found.behind)} not yet" if found.behind else ""
        several = f"{found.processes} serving processes have it"
        said.append(f"{'One serving process has it' if found.processes == 1 else several}{behind}.")
    return said


def _share(word: str) -> tuple[str, float | None]:
    target, _, text = word.rpartition("=")
    if target and text == DECLARED:
        return target, None
    try:
        share = float(text)
    except ValueError:
        target = ""
        share = 0.0
    if not target:
        raise UsageError(
            f"--share {word!r} is no share; write challenger=0.1, @3=0.05 or challenger=declared."
        )
    return target, share


def _shadow(word: str) -> tuple[str, bool | None]:
    target, _, text = word.rpartition("=")
    if not target or text not in SWITCH:
        raise UsageError(f"--shadow {word!r}; write candidate=on, candidate=off or @3=on.")
    return target, SWITCH[text]


def _led(option: str, word: str, example: str) -> tuple[str, str | None]:
    """What a header or a rule is to lead to."""
    what, _, target = word.rpartition("=")
    what, target = what.strip(), target.strip()
    if not what or not (target.startswith("@") or target in {*ALIASES, OFF, DECLARED}):
        raise UsageError(
            f"{option} {word!r} leads nowhere; write {example}, or {', '.join(ALIASES)}, off or "
            "declared in place of @3."
        )
    return what, None if target == DECLARED else target


def _pin(word: str) -> tuple[str, int]:
    alias, _, text = word.rpartition("=")
    number = text.removeprefix("@")
    if not alias or not number.isdecimal():
        raise UsageError(f"--pin {word!r} names no version; write champion=3.")
    return alias, int(number)


def _fallback(
    before: Fallback | None, deadline: str, slow_after: str, to: str, value: float
) -> Fallback | None:
    """The fallback with what was given changed; None where nothing was."""
    number = None if math.isnan(value) else value
    if not (deadline or slow_after or to or number is not None):
        return None
    steps = tuple(to.split(",")) if to else ()
    known = get_args(FallbackStep)
    if any(step not in known for step in steps):
        raise UsageError(f"--to {to!r}; write {', '.join(known)}, or several with commas.")
    if before is None and not deadline and slow_after in {"", OFF}:
        raise UsageError("Nothing falls back yet: give --deadline too, such as --deadline 20ms.")
    fallback = before or Fallback(value=number)
    return msgspec.structs.replace(
        fallback,
        deadline=deadline or fallback.deadline,
        slow_after="" if slow_after == OFF else slow_after or fallback.slow_after,
        to=cast("tuple[FallbackStep, ...]", steps) if steps else fallback.to,
        value=fallback.value if number is None else number,
    )
