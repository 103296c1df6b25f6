"""Rollouts: a version's way behind a deployment, as records that change by compare-and-set.

Each change of a rollout is one transaction with its audit entry. Whoever was killed in between
finds the record as it was, or as it became; the steps that change it look where it stands first.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from penstock.access import require_role
from penstock.errors import AccessError, ConflictError, InputError, NotFoundError, NotReadyError
from penstock.plan import Catalogue
from penstock.ports import Audit, Put
from penstock.records import LIVE_STATES, Approver, Rollout, to_plain
from penstock.registry import aliases, get_version
from penstock.spec import Approval, Canary

from .canary import share_back
from .checks import check_gates
from .deploy import default_version, refuse_pinned

if TYPE_CHECKING:
    from collections.abc import Mapping

    from penstock.ports import Metadata, Services
    from penstock.records import RolloutState

__all__ = [
    "abort_rollout",
    "begin_rollout",
    "decide_rollout",
    "get_rollout",
    "live_rollout",
    "move_rollout",
    "rollouts",
]


def rollouts(metadata: Metadata, deployment: str, *, limit: int = 20) -> list[Rollout]:
    """The rollouts of a deployment, newest first."""
    where = {"deployment": deployment}
    return metadata.find(Rollout, where=where, newest_first=True, limit=limit)


def live_rollout(metadata: Metadata, model: str) -> Rollout | None:
    """The rollout of a model that is under way, or None."""
    for state in LIVE_STATES:
        found = metadata.find(Rollout, where={"model": model, "state": state})
        if found:
            return found[0]
    return None


def get_rollout(metadata: Metadata, rollout_id: str) -> Rollout:
    """A rollout.

    Raises:
        NotFoundError: There is none of that id.
    """
    found = metadata.read(Rollout, rollout_id)
    if found is None:
        raise NotFoundError.of(
            "rollout", rollout_id, hint="'penstock deploy DEPLOYMENT --status' shows the newest."
        )
    return found


def begin_rollout(  # noqa: PLR0913 - what is wanted, and as which run
    services: Services,
    deployment: str,
    *,
    version: int | None = None,
    approval: Approval | None = None,
    canary: Canary | None = None,
    rollout_id: str = "",
    run_id: str = "",
) -> Rollout:
    """Begin a rollout: a record that says what is wanted; nothing is checked or changed yet.

    Args:
        services: The ports.
        deployment: Name of the deployment.
        version: The version; the alias ``candidate`` when left out, else ``champion``.
        approval: Who has to approve it; as declared when left out.
        canary: The steps in which it takes traffic; as declared when left out. None are taken
            where nothing answers yet.
        rollout_id: Its id, where whoever asks has one; the same id is the same rollout.
        run_id: The run that carries it out; one of its own with the same id when left out.

    Raises:
        NotFoundError: There is no such deployment or version.
        NotReadyError: No version is ready yet.
        GateError: The version was refused by its gates.
        ConflictError: Another one of the model is under way; or the champion's route is pinned; or
            a canary is asked for where a bandit sets the shares.
    """
    declared = Catalogue.load(services.metadata).deployment(deployment)
    model = declared.model.name
    known = services.metadata.read(Rollout, rollout_id) if rollout_id else None
    if known is not None:
        return known
    refuse_pinned(services, deployment)
    before = aliases(services.metadata, model)
    number = default_version(before, model) if version is None else version
    record = get_version(services.metadata, model, number)
    check_gates(record)
    if canary is not None and declared.bandit is not None:
        raise ConflictError(
            f"The bandit {declared.bandit.name!r} sets the shares of the versions of "
            f"{deployment!r}, and a canary would move them. Deploy {record.label} without one, or "
            "make it an arm of the bandit.",
            deployment=deployment,
        )
    with services.locks.hold(f"rollout/{model}"):
        live = live_rollout(services.metadata, model)
        if live is not None:
            raise ConflictError(
                f"{live.label} is on its way behind {live.deployment!r} already ({live.state}, "
                f"asked for by {live.asked_by}). Wait for it ('penstock deploy {live.deployment} "
                f"--status'), or end it ('penstock deploy {live.deployment} --abort').",
                rollout_id=live.rollout_id,
            )
        name = rollout_id or f"deploy-{services.ids.new()}"
        begun = Rollout(
            rollout_id=name,
            run_id=run_id or name,
            deployment=deployment,
            model=model,
            version=record.version,
            champion=before.champion,
            asked_by=services.caller.name,
            asked_at=services.clock.now(),
            state="checking",
            approval=_document(approval or declared.approve),
            canary=_document(canary or declared.canary) if before.champion else {},
        )
        asked = {"rollout_id": begun.rollout_id, "version": [before.champion, record.version]}
        services.metadata.write(
            Put(begun, expected=None), audit=_audit(services, begun, "begin rollout", asked)
        )
    return begun


def move_rollout(
    services: Services,
    before: Rollout,
    *more: Put,
    action: str = "",
    difference: Mapping[str, object] | None = None,
    **changed: object,
) -> Rollout:
    """Store a rollout with some of its fields changed, unless somebody else changed it.

    Args:
        services: The ports; uses metadata and the clock.
        before: The rollout as it is stored now.
        more: What else changes in the same transaction.
        action: What the audit table says was done; the state it moves to when left out.
        difference: What else the audit table says.
        changed: The fields.

    Raises:
        ConflictError: It is not as it was; nothing was stored.
    """
    after = msgspec.structs.replace(before, **changed)
    if not after.is_live and before.is_live:
        after = msgspec.structs.replace(after, ended_at=services.clock.now())
    told: dict[str, object] = {"rollout_id": before.rollout_id, **(difference or {})}
    if after.state != before.state:
        told["state"] = [before.state, after.state]
    if after.reason:
        told["reason"] = after.reason
    audit = _audit(services, after, action or f"rollout {after.state}", told)
    services.metadata.write(Put(after, expected=before), *more, audit=audit)
    return after


def decide_rollout(services: Services, rollout_id: str, *, approved: bool, reason: str) -> Rollout:
    """Approve or reject a rollout that waits for it.

    Args:
        services: The ports; the caller decides.
        rollout_id: The rollout.
        approved: Whether it goes on.
        reason: Why; kept with it and in the audit table. A rejection needs one.

    Raises:
        NotFoundError: There is no such rollout.
        NotReadyError: It is not waiting.
        AccessError: The caller's role does not reach, or they asked for it themselves and it
            takes four eyes.
        InputError: A rejection says no reason.
    """
    rollout = get_rollout(services.metadata, rollout_id)
    if rollout.state != "waiting":
        raise NotReadyError(
            f"The rollout of {rollout.label} on {rollout.deployment!r} does not wait for anybody; "
            f"it is {rollout.state}.",
            rollout_id=rollout_id,
            state=rollout.state,
        )
    needed = msgspec.convert(rollout.approval, Approval)
    require_role(services.caller, needed.role)
    if needed.four_eyes and services.caller.name == rollout.asked_by:
        raise AccessError(
            f"{rollout.asked_by!r} asked for {rollout.label} on {rollout.deployment!r}, and it "
            f"takes four eyes. Somebody else who is {needed.role} has to decide, with a token of "
            f"their own in PENSTOCK_TOKEN; an admin adds them with 'penstock users add NAME --role "
            f"{needed.role}'.",
            name=rollout.asked_by,
            needed=f"another {needed.role}",
        )
    if not approved and not reason:
        raise InputError("A rejection needs a reason; give --reason, or 'reason' in the body.")
    decided = Approver(
        name=services.caller.name, approved=approved, reason=reason, at=services.clock.now()
    )
    state: RolloutState = "approved" if approved else "rejected"
    return move_rollout(
        services,
        rollout,
        action="approve rollout" if approved else "reject rollout",
        difference={"why": reason} if reason else None,
        state=state,
        approver=decided,
        reason="" if approved else f"rejected by {decided.name}: {reason}",
    )


def abort_rollout(services: Services, rollout: Rollout, *, reason: str = "") -> Rollout:
    """End a rollout that is under way; what answers stays.

    Args:
        services: The ports.
        rollout: The rollout as it is stored now.
        reason: Why.

    Raises:
        NotReadyError: It has ended already, or is being promoted.
        ConflictError: It has just moved on; look again.
    """
    if not rollout.is_live or rollout.state in {"promoting", "returning"}:
        raise NotReadyError(
            f"The rollout of {rollout.label} on {rollout.deployment!r} cannot be aborted; it is "
            f"{rollout.state}. 'penstock rollback {rollout.deployment}' brings the previous "
            "version back.",
            rollout_id=rollout.rollout_id,
            state=rollout.state,
        )
    said = f"aborted by {services.caller.name}" + (f": {reason}" if reason else "")
    back = share_back(services, rollout) if rollout.state == "canary" else ()
    return move_rollout(
        services, rollout, *back, action="abort rollout", state="aborted", reason=said
    )


def _document(value: Approval | Canary | None) -> Mapping[str, object]:
    """A plan as a document; one with every default is not empty either."""
    plain = to_plain(value) if value is not None else {}
    return plain if isinstance(plain, dict) else {}


def _audit(
    services: Services, rollout: Rollout, action: str, difference: Mapping[str, object]
) -> Audit:
    return Audit(
        actor=services.actor,
        action=action,
        subject=f"deployment/{rollout.deployment}",
        difference={**difference, "version": rollout.label},
    )
