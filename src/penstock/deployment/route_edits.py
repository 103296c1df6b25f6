"""Edits of a deployment's routes: what is to be changed, and the changes that come of it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, TypeVar

import msgspec

from penstock.errors import InputError, NotFoundError
from penstock.records import ALIASES, OFF
from penstock.spec import Fallback, expression_text, read_expression

if TYPE_CHECKING:
    from collections.abc import Collection
    from datetime import datetime

    from penstock.records import RouteChanges
    from penstock.spec import Deployment

__all__ = ["RouteEdit", "differing", "edited"]

MAPPINGS = ("shares", "shadows", "pins", "headers", "rules", "ages")
AGED = ("cached", "precomputed")
T = TypeVar("T")


class RouteEdit(msgspec.Struct, frozen=True, kw_only=True):
    """What is to be changed; what it leaves out stays as it is now.

    Attributes:
        shares: Share by target of a challenger: an alias, or ``@3``; 0 turns it off, none goes back
            to what is declared.
        shadows: On or off by target of a shadow; none goes back to what is declared.
        pins: Version by alias; none lets the alias decide again.
        headers: Target by ``name=value`` of a header, or ``off``; none goes back to what is
            declared.
        rules: Target by the text of a condition, or ``off``; none goes back to what is declared.
        ages: How old a score may be that answers at once, or ``off``, by the role of the route:
            ``cached`` or ``precomputed``; none goes back to what is declared.
        fallback: Takes the place of what falls back now.
        declared_fallback: Whether to go back to the declared fallback.
    """

    shares: Mapping[str, float | None] = {}
    shadows: Mapping[str, bool | None] = {}
    pins: Mapping[str, int | None] = {}
    headers: Mapping[str, str | None] = {}
    rules: Mapping[str, str | None] = {}
    ages: Mapping[str, str | None] = {}
    fallback: Fallback | None = None
    declared_fallback: bool = False


def edited(  # noqa: PLR0913 - what is changed, in what, and by whom
    declared: Deployment,
    before: RouteChanges,
    edit: RouteEdit,
    *,
    by: str,
    at: datetime,
    reason: str,
) -> RouteChanges:
    """The next revision of the changes.

    Args:
        declared: The deployment as it is declared.
        before: The changes as they are.
        edit: What is to be changed.
        by: Who changes it.
        at: When.
        reason: Why.

    Raises:
        InputError: Nothing is to be changed, a share is not from 0 to below 1, or a header or rule
            is none.
        NotFoundError: There is no such alias, or no such route to turn off.
    """
    if edit == RouteEdit():
        raise InputError(
            "Nothing is to be changed. Name a share, a shadow, a pin, a header, a rule, an age or "
            "a fallback, such as --share challenger=0.1."
        )
    if edit.fallback is not None and edit.declared_fallback:
        raise InputError("Give another fallback, or go back to the declared one; not both.")
    for target, share in edit.shares.items():
        if share is not None and not 0 <= share < 1:
            raise InputError(f"The share {share:g} of {target!r} is not from 0 to below 1.")
    for alias in edit.pins:
        if alias not in ALIASES:
            raise NotFoundError.of("alias", alias, ALIASES)
    fallback = None if edit.declared_fallback else edit.fallback or before.fallback
    shares = _merged(before.shares, edit.shares)
    return before.followed_by(
        by=by,
        at=at,
        shares=shares,
        salts={target: salt for target, salt in before.salts.items() if target in shares},
        shadows=_merged(before.shadows, edit.shadows),
        pins=_merged(before.pins, edit.pins),
        headers=_headers(declared, before, edit),
        rules=_rules(declared, before, edit),
        ages=_ages(declared, before, edit),
        fallback=fallback,
        reason=reason,
    )


def differing(before: RouteChanges, after: RouteChanges) -> dict[str, object]:
    """Every change before and after, by what it is of; null for as declared."""
    told: dict[str, object] = {}
    for what in MAPPINGS:
        old: Mapping[str, object] = getattr(before, what)
        new: Mapping[str, object] = getattr(after, what)
        changed = {
            name: [old.get(name), new.get(name)]
            for name in sorted({*old, *new})
            if old.get(name) != new.get(name)
        }
        if changed:
            told[what] = changed
    if before.fallback != after.fallback:
        told["fallback"] = [msgspec.to_builtins(one.fallback) for one in (before, after)]
    return told


def _headers(declared: Deployment, before: RouteChanges, edit: RouteEdit) -> dict[str, str]:
    known = _labels(declared, "header")
    wanted: dict[str, str | None] = {}
    for label, to in edit.headers.items():
        name, equals, value = label.partition("=")
        if not (name and equals and value):
            raise InputError(
                f"{label!r} is no header with its value. Write it as x-group=beta.", header=label
            )
        wanted[f"{name.lower()}={value}"] = to
    return _led("header", known, before.headers, wanted)


def _rules(declared: Deployment, before: RouteChanges, edit: RouteEdit) -> dict[str, str]:
    declared_ones = _labels(declared, "rule")
    known = {*declared_ones, *before.rules}
    wanted = {_rule(text, known): to for text, to in edit.rules.items()}
    return _led("rule", declared_ones, before.rules, wanted)


def _rule(text: str, known: Collection[str]) -> str:
    """A condition as it is written where it is known; as it was given where that reads otherwise.

    A name with other characters than those of a word is written as it is, and not read back.
    """
    if text in known:
        return text
    condition = read_expression(text)
    written = expression_text(condition)
    if written in known:
        return written
    try:
        return written if read_expression(written) == condition else text
    except InputError:
        return text


def _ages(declared: Deployment, before: RouteChanges, edit: RouteEdit) -> dict[str, str]:
    for role in edit.ages:
        if role not in AGED:
            raise NotFoundError.of("route with an age", role, AGED)
    known = {route.role for route in declared.routes if route.role in AGED}
    if "precomputed" not in known and edit.ages.get("precomputed") not in {None, OFF}:
        raise InputError(
            f"{declared.name!r} declares no precomputed scores, so that none are kept ready. "
            "Declare routes=[..., ps.precomputed(max_age=...)] and run 'penstock apply'."
        )
    return _led("route with an age", known, before.ages, edit.ages)


def _labels(declared: Deployment, role: str) -> set[str]:
    return {route.label for route in declared.routes if route.role == role}


def _led(
    what: str,
    declared: Collection[str],
    before: Mapping[str, str],
    wanted: Mapping[str, str | None],
) -> dict[str, str]:
    """What is changed where turning off what nobody declared takes it away.

    Raises:
        NotFoundError: Something is to be turned off that there is not: it would go on elsewhere,
            under its right name.
    """
    for name, to in wanted.items():
        if to == OFF and name not in {*declared, *before}:
            raise NotFoundError.of(what, name, [*declared, *before])
    gone = {name: None for name, to in wanted.items() if to == OFF and name not in declared}
    return _merged(before, {**wanted, **gone})


def _merged(before: Mapping[str, T], edit: Mapping[str, T | None]) -> dict[str, T]:
    merged: dict[str, T | None] = {**before, **edit}
    return {name: value for name, value in merged.items() if value is not None}
