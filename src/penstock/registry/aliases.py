"""Aliases: which version of a model answers. Changed by compare-and-set, audited, never silently.

Every change reads the record, builds the next one and stores it on condition that the one it read
is still there, together with the audit entry, in one transaction.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

import msgspec

from penstock.errors import ConflictError, GateError, InputError, NotFoundError, NotReadyError
from penstock.plan import Catalogue
from penstock.ports import Audit, Put, announce
from penstock.records import ALIASES, Aliases, Event

from .versions import get_version, versions

if TYPE_CHECKING:
    from penstock.ports import Metadata, Services
    from penstock.records import ModelVersion

__all__ = [
    "alias_put",
    "aliases",
    "find_version",
    "next_aliases",
    "nominate",
    "point",
    "promote",
    "rollback",
    "withdraw",
]


def aliases(metadata: Metadata, model: str) -> Aliases:
    """The aliases of a model; all 0 at revision 0 while there are none."""
    found = metadata.read(Aliases, model)
    return found or Aliases(model=model, changed_at=datetime.fromtimestamp(0, tz=UTC))


def find_version(metadata: Metadata, label: str) -> ModelVersion:
    """The version that a text such as ``btc@3`` or ``btc@champion`` means.

    Raises:
        InputError: The text has another form.
        NotFoundError: There is no such model or version.
        NotReadyError: Nothing is applied, the model has no version, or the alias points to none.
    """
    model, _, which = label.rpartition("@")
    if not model or not which:
        raise InputError(
            f"{label!r} names no model version; write MODEL@3 or MODEL@champion.", label=label
        )
    if not which.isdecimal() and which not in ALIASES:
        raise NotFoundError.of("alias", which, ALIASES)
    if not versions(metadata, model):  # one that is no longer declared keeps its versions
        Catalogue.load(metadata).model(model)
        return get_version(metadata, model, 0)
    if which.isdecimal():
        return get_version(metadata, model, int(which))
    number = int(getattr(aliases(metadata, model), which))
    if not number:
        raise NotReadyError(
            f"No version of {model!r} is {which} yet. 'penstock models list {model}' shows those "
            f"there are; 'penstock train {model}' makes one.",
            model=model,
            alias=which,
        )
    return get_version(metadata, model, number)


def point(  # noqa: PLR0913 - the change, who made it, when, and against what
    metadata: Metadata,
    model: str,
    *,
    alias: str,
    version: int,
    actor: str,
    now: datetime,
    expected: Aliases | None = None,
    reason: str = "",
) -> Aliases:
    """Point one alias to a version.

    Args:
        metadata: Where records are.
        model: Name of the model.
        alias: One of ``penstock.records.ALIASES``.
        version: The version; 0 to point nowhere.
        actor: Who does it.
        now: When.
        expected: The aliases as the caller knows them; as they are now when left out.
        reason: Why; for the audit table.

    Returns:
        The aliases after the change; unchanged when the alias pointed there already.

    Raises:
        NotFoundError: There is no such alias or version.
        ConflictError: The aliases are not as expected any more.
    """
    if alias not in ALIASES:
        raise NotFoundError.of("alias", alias, ALIASES)
    if version:
        get_version(metadata, model, version)
    before = expected or aliases(metadata, model)
    if expected is None and getattr(before, alias) == version:
        return before
    after = next_aliases(before, now, **{alias: version})
    _store(metadata, before, after, actor=actor, action="point alias", reason=reason)
    return after


def nominate(services: Services, version: ModelVersion) -> Aliases:
    """Make a packaged version the candidate of its model, unless that is a newer one.

    Routes may lead to the candidate, so no version is one before what serves it was chosen and
    proved. Nominating it again changes nothing.

    Args:
        services: The project's ports.
        version: The version, packaged.

    Raises:
        NotReadyError: It has not been packaged.
        ConflictError: Somebody else changed the aliases meanwhile.
    """
    if not version.engine:
        raise NotReadyError(
            f"{version.label} has not been packaged, so nothing proves what would serve it. "
            f"'penstock runs list' shows the run that should have done it.",
            version=version.label,
        )
    with services.locks.hold(f"registry/{version.model}"):
        before = aliases(services.metadata, version.model)
        if before.candidate >= version.version:
            return before
        after = next_aliases(before, services.clock.now(), candidate=version.version)
        _store(services.metadata, before, after, actor=services.actor, action="nominate")
    return after


def promote(services: Services, model: str, version: int) -> Aliases:
    """Make a version the champion; the champion before becomes ``previous``.

    Announces ``deployment.changed`` for each deployment of the model. Promoting the champion
    again changes nothing.

    Args:
        services: The project's ports.
        model: Name of the model.
        version: The version.

    Raises:
        NotFoundError: There is no such version.
        GateError: It is not ready: a gate refused it, or it was not the best of its run.
        ConflictError: Somebody else changed the aliases meanwhile.
    """
    found = get_version(services.metadata, model, version)
    _require_ready(found)
    with services.locks.hold(f"registry/{model}"):
        before = aliases(services.metadata, model)
        if before.champion != version:
            challenger = 0 if before.challenger == version else before.challenger
            after = next_aliases(
                before,
                services.clock.now(),
                champion=version,
                previous=before.champion,
                challenger=challenger,
            )
            _store(services.metadata, before, after, actor=services.actor, action="promote")
            before = after
    _announce(services, before)
    return before


def rollback(
    services: Services,
    model: str,
    *,
    to: int | None = None,
    expected: int | None = None,
    reason: str = "",
) -> Aliases:
    """Bring an earlier champion back; the present one becomes ``previous``.

    Announces ``deployment.changed`` for each deployment of the model. Where ``to`` answers already
    nothing is changed, so the same call may be made again.

    Args:
        services: The project's ports.
        model: Name of the model.
        to: The version to go back to; the alias ``previous`` when left out.
        expected: Revision of the aliases as the caller knows them; as they are when left out.
        reason: Why; for the audit table.

    Raises:
        NotReadyError: There is no previous champion.
        NotFoundError: There is no such version.
        GateError: A gate refused the version.
        ConflictError: The aliases are not as expected, or somebody else changed them meanwhile.
    """
    with services.locks.hold(f"registry/{model}"):
        before = aliases(services.metadata, model)
        target = _target(services.metadata, before, to)
        after = before
        if target != before.champion:
            _require_revision(before, expected)
            after = next_aliases(
                before, services.clock.now(), champion=target, previous=before.champion
            )
            _store(
                services.metadata,
                before,
                after,
                actor=services.actor,
                action="rollback",
                reason=reason,
            )
    _announce(services, after)
    return after


def withdraw(
    services: Services, model: str, version: int, *, expected: int, reason: str
) -> Aliases:
    """Take a champion that is no good out of service: the previous champion answers again.

    No alias points to the withdrawn version any more, so nothing brings it back by itself: neither
    a second failure, nor a rollback, nor a deployment that names no version. Who wants it back
    deploys it by its number. Of several processes that find it no good at once one withdraws it.

    Args:
        services: The project's ports.
        model: Name of the model.
        version: The champion that is no good.
        expected: Revision of the aliases in which it was found no good.
        reason: Why; for the audit table.

    Returns:
        The aliases after it; as they are where somebody else changed them since.

    Raises:
        NotReadyError: There is no previous champion.
        ConflictError: Somebody else changed the aliases at this moment.
    """
    with services.locks.hold(f"registry/{model}"):
        before = aliases(services.metadata, model)
        after = before
        if before.champion == version and before.revision == expected:
            target = _target(services.metadata, before, None)
            gone = {alias: 0 for alias in ALIASES if getattr(before, alias) == version}
            after = next_aliases(
                before, services.clock.now(), **{**gone, "champion": target, "previous": 0}
            )
            _store(
                services.metadata,
                before,
                after,
                actor=services.actor,
                action="withdraw",
                reason=reason,
            )
    _announce(services, after)
    return after


def _target(metadata: Metadata, before: Aliases, to: int | None) -> int:
    """The version that a rollback brings back."""
    if to is not None:
        _require_ready(get_version(metadata, before.model, to))
        return to
    if not before.previous:
        raise NotReadyError(
            f"The model {before.model!r} has no previous champion to go back to. "
            f"See 'penstock models list {before.model}' for its versions.",
            model=before.model,
        )
    return before.previous


def _require_revision(before: Aliases, expected: int | None) -> None:
    if expected is not None and before.revision != expected:
        raise ConflictError(
            f"The aliases of {before.model!r} are at revision {before.revision}, not {expected}: "
            "somebody else changed them. Read them again and decide anew.",
            model=before.model,
            revision=before.revision,
            expected=expected,
        )


def next_aliases(before: Aliases, now: datetime, **changes: int) -> Aliases:
    """The next revision of the aliases, with some of them pointing elsewhere."""
    revision = before.revision + 1
    same = changes.get("champion", before.champion) == before.champion
    crowned = before.crowned if same else revision
    return msgspec.structs.replace(
        before, changed_at=now, revision=revision, crowned=crowned, **changes
    )


def _store(  # noqa: PLR0913 - the change, and what the audit table says of it
    metadata: Metadata,
    before: Aliases,
    after: Aliases,
    *,
    actor: str,
    action: str,
    reason: str = "",
) -> None:
    """Store aliases on condition that ``before`` still holds, with the audit entry.

    Raises:
        ConflictError: It does not hold any more.
    """
    change = alias_put(before, after)
    difference: dict[str, object] = {
        alias: [getattr(before, alias), getattr(after, alias)]
        for alias in ALIASES
        if getattr(before, alias) != getattr(after, alias)
    }
    difference |= {"reason": reason} if reason else {}
    audit = Audit(actor=actor, action=action, subject=f"model/{after.model}", difference=difference)
    metadata.write(change, audit=audit)


def alias_put(before: Aliases, after: Aliases) -> Put:
    """The conditional write from one revision to the next; revision 0 is never stored."""
    return Put(after, expected=before if before.revision else None)


def _require_ready(version: ModelVersion) -> None:
    if version.ready:
        return
    refused = [verdict.reason for verdict in version.verdicts if not verdict.passed]
    why = "; ".join(refused) or "it was not the best of its training run"
    raise GateError(
        f"{version.label} cannot be promoted: {why}. Promote a version that is ready; "
        f"'penstock models list {version.model}' shows them.",
        version=version.label,
        refused=refused,
    )


def _announce(services: Services, now: Aliases) -> None:
    """Announce the change; the id is made of the revision, so that it is announced once."""
    for deployment in Catalogue.load(services.metadata).deployments_of(now.model):
        event = Event(
            event_id=f"deployment.changed:{deployment.name}:{now.revision}",
            kind="deployment.changed",
            subject=deployment.name,
            ids={"model": now.model, "version": str(now.champion)},
            at_us=services.clock.now_us(),
        )
        announce(services.log, event)
