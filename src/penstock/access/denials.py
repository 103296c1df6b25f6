"""Telling the audit table who was refused, without letting them flood it."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

import structlog

from penstock.errors import ConflictError, PenstockError
from penstock.ports import Audit, Put
from penstock.records import Denial

from .identities import one_or_all

if TYPE_CHECKING:
    from penstock.errors import AccessError
    from penstock.ports import Clock, Metadata, Services

__all__ = ["TOLD_EVERY", "denials_of", "tell_denial"]

TOLD_EVERY = timedelta(minutes=1)
SHOWN = 20


def tell_denial(
    metadata: Metadata, clock: Clock, error: AccessError, *, user: str, subject: str
) -> None:
    """Write an audit entry that says who was refused what; once a minute for each of these.

    Every process counts the same minute, since it is kept in the metadata: whoever asks a thousand
    times, of many processes, makes one entry. What cannot be written is logged: it must not hide
    the refusal.

    Args:
        metadata: Where the entry goes.
        clock: Tells the time.
        error: The refusal.
        user: Who was refused.
        subject: What they asked for, such as ``feature_service/scoring``; it exists, so that a
            caller cannot make up new ones.
    """
    now = clock.now()
    denial = Denial(user=user, subject=subject, told_at=now)
    try:
        before = metadata.read(Denial, denial.key)
        if before is not None and now - before.told_at < TOLD_EVERY:
            return
        names = error.facts.get("features", ())
        features = list(names)[:SHOWN] if isinstance(names, (tuple, list)) else []
        told = {"features": features, "needed": error.facts.get("needed", ())}
        audit = Audit(actor=user, action="deny", subject=subject, difference=told)
        metadata.write(Put(denial, before), audit=audit)
    except ConflictError:
        return  # another process has just told it
    except PenstockError as failed:
        log = structlog.get_logger("penstock.access")
        log.warning("a denial could not be audited", subject=subject, error=failed.message)


def denials_of(services: Services, user: str = "") -> list[Denial]:
    """Who was refused what, and when last, the newest first; of others only admins are told.

    Args:
        services: The ports.
        user: Who; everybody the caller may know of when left out.

    Raises:
        AccessError: The caller asks about somebody else and is no admin.
    """
    whose = one_or_all(services.caller, user)
    found = services.metadata.find(Denial, where={"user": whose} if whose else None)
    return sorted(found, key=lambda one: one.told_at, reverse=True)
