"""Grants: who may read what is protected, given and taken back by admins."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from penstock.errors import InputError, NotFoundError, nearest
from penstock.plan import Catalogue
from penstock.ports import Audit, Delete, Put
from penstock.records import Grant
from penstock.spec import FeatureView, OnDemandView

from .identities import one_or_all, require_role
from .permissions import Permissions
from .users import user_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from penstock.ports import Services
    from penstock.records import GrantKind

__all__ = ["Granted", "grant", "grants_of", "revoke"]


class Granted(msgspec.Struct, frozen=True, kw_only=True):
    """What a grant, or its withdrawal, came to.

    Attributes:
        user: Who.
        changed: What was given, or taken back; each as ``tag pii`` or ``view payments``.
        unchanged: What they had already, or never had.
    """

    user: str
    changed: tuple[str, ...]
    unchanged: tuple[str, ...]


def grant(
    services: Services, user: str, *, tags: Sequence[str] = (), views: Sequence[str] = ()
) -> Granted:
    """Let somebody read what tags or views protect, in one transaction.

    Args:
        services: The ports; the caller is an admin.
        user: Who.
        tags: Tags that are protected: features protected by them, in any view.
        views: Views: all of their features, whatever protects these or what they are computed from.

    Raises:
        AccessError: The caller is no admin.
        NotFoundError: There is no such user, no such view, or no such tag is protected.
        InputError: Nothing is named.
        ConflictError: Somebody else has just granted the same, or changed or removed the user;
            nothing was granted.
    """
    require_role(services.caller, "admin")
    known_user = user_of(services.metadata, user)
    wanted = _wanted(tags, views)
    catalogue = Catalogue.load(services.metadata)
    _check_tags(Permissions.of(catalogue, ()), tags)
    known = [view.name for view in (*catalogue.all(FeatureView), *catalogue.all(OnDemandView))]
    for name in views:
        if name not in known:
            raise NotFoundError.of("view", name, known)
    given = {(one.what, one.name) for one in grants_of(services, user)}
    new = [
        Grant(
            user=user,
            what=what,
            name=name,
            granted_by=services.actor,
            granted_at=services.clock.now(),
        )
        for what, name in wanted
        if (what, name) not in given
    ]
    changed = [f"{one.what} {one.name}" for one in new]
    if new:
        audit = _audit(services, "grant", user, changed)
        # The user has to be there still: a grant to one who is gone would fall to the next of that
        # name.
        still_there = Put(known_user, known_user)
        services.metadata.write(still_there, *(Put(one, None) for one in new), audit=audit)
    return _granted(user, changed, wanted)


def revoke(
    services: Services, user: str, *, tags: Sequence[str] = (), views: Sequence[str] = ()
) -> Granted:
    """Take grants back, in one transaction; what was not granted is no error.

    Serving processes refuse within about a second.

    Args:
        services: The ports; the caller is an admin.
        user: Who.
        tags: Tags, protected or not any more.
        views: Views, declared or not any more.

    Raises:
        AccessError: The caller is no admin.
        NotFoundError: There is no such user.
        InputError: Nothing is named.
    """
    require_role(services.caller, "admin")
    user_of(services.metadata, user)
    wanted = _wanted(tags, views)
    gone = [one for one in grants_of(services, user) if (one.what, one.name) in wanted]
    changed = [f"{one.what} {one.name}" for one in gone]
    if gone:
        audit = _audit(services, "revoke", user, changed)
        services.metadata.write(*(Delete(one) for one in gone), audit=audit)
    return _granted(user, changed, wanted)


def grants_of(services: Services, user: str = "") -> list[Grant]:
    """What somebody was granted, or everybody; of others only admins are told.

    Args:
        services: The ports.
        user: Who; everybody the caller may know of when left out.

    Raises:
        AccessError: The caller asks about somebody else and is no admin.
    """
    whose = one_or_all(services.caller, user)
    return services.metadata.find(Grant, where={"user": whose} if whose else None)


def _wanted(tags: Sequence[str], views: Sequence[str]) -> list[tuple[GrantKind, str]]:
    by_tag: list[tuple[GrantKind, str]] = [("tag", name) for name in tags]
    by_view: list[tuple[GrantKind, str]] = [("view", name) for name in views]
    found = by_tag + by_view
    if not found:
        raise InputError("Nothing is named. Name a tag or a view, such as --tag pii.")
    return list(dict.fromkeys(found))


def _check_tags(permissions: Permissions, tags: Sequence[str]) -> None:
    known = {tag for one in permissions.protections for tag in one.tagged}
    for tag in tags:
        if tag not in known:
            hint = nearest(tag, known) or "Nothing is protected by a tag."
            raise NotFoundError(
                f"No tag {tag!r} is protected. {hint} Declare ps.Protection(..., tagged=[...]) and "
                "run 'penstock apply'.",
                name=tag,
                known=sorted(known),
            )


def _granted(user: str, changed: list[str], wanted: list[tuple[GrantKind, str]]) -> Granted:
    words = [f"{what} {name}" for what, name in wanted]
    unchanged = tuple(word for word in words if word not in changed)
    return Granted(user=user, changed=tuple(changed), unchanged=unchanged)


def _audit(services: Services, action: str, user: str, changed: list[str]) -> Audit:
    return Audit(
        actor=services.actor,
        action=action,
        subject=f"identity/{user}",
        difference={"what": changed},
    )
