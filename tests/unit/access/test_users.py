"""Users and their grants: made, listed, taken back, and audited with who did it."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import pytest

from penstock.access import (
    add_user,
    grant,
    grants_of,
    identify,
    remove_user,
    renew_token,
    revoke,
    users,
)
from penstock.errors import AccessError, ConflictError, InputError, NotFoundError
from penstock.ports import Put
from penstock.records import Denial, Grant

if TYPE_CHECKING:
    from collections.abc import Callable

    from penstock.runtime import LocalServices


def entries(services: LocalServices, action: str) -> list[tuple[str, str, object]]:
    found = [entry for entry in services.metadata.audit() if entry.action == action]
    return [(entry.actor, entry.subject, entry.difference) for entry in found]


def test_a_user_has_a_token_that_is_not_kept(services: LocalServices) -> None:
    token = add_user(services, "ana", "writer")
    ana = identify(services.metadata, token)
    assert (ana.name, ana.role) == ("ana", "writer")
    assert token not in repr(users(services.metadata))
    assert [one.name for one in users(services.metadata)] == ["admin", "ana"]
    assert entries(services, "add") == [("tester", "identity/ana", {"role": "writer"})]
    again = renew_token(services, "ana")
    assert identify(services.metadata, again).role == "writer"
    with pytest.raises(AccessError, match="Nobody has that token"):
        identify(services.metadata, token)


@pytest.mark.parametrize("name", ["", "a/b", "worker", "api", "-a", " a", "ä", "x" * 65, "a\n"])
def test_what_is_no_name_for_a_user(services: LocalServices, name: str) -> None:
    with pytest.raises(InputError, match="is no name for a user"):
        add_user(services, name, "reader")


def test_nobody_is_added_twice(services: LocalServices) -> None:
    token = add_user(services, "ana@shop.example", "reader")
    with pytest.raises(ConflictError, match=r"penstock users token ana@shop\.example"):
        add_user(services, "ana@shop.example", "admin")
    assert identify(services.metadata, token).role == "reader"


def test_the_local_administrator_stays(services: LocalServices) -> None:
    for change in (remove_user, renew_token):
        with pytest.raises(InputError, match="is the local administrator and stays"):
            change(services, "admin")
        with pytest.raises(NotFoundError, match="Did you mean 'admin'"):
            change(services, "admi")


def test_nobody_inherits_grants(services: LocalServices, ana: LocalServices) -> None:
    grant(services, "ana", tags=["pii"], views=["secret"])
    assert len(remove_user(services, "ana")) == 2
    assert services.metadata.find(Grant) == []
    assert services.metadata.find(Denial) == []
    add_user(services, "ana", "reader")
    assert grants_of(ana) == []
    gone = {"role": "reader", "grants": ["tag pii", "view secret"]}
    assert entries(services, "remove") == [("tester", "identity/ana", gone)]


def test_a_grant_to_a_user_who_is_just_removed_falls_to_nobody(
    services: LocalServices, ana: LocalServices, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The user goes, and comes back, between the look at them and the grant."""
    find = services.metadata.find

    def slow(*args: Any, **options: Any) -> Any:  # noqa: ANN401 - as find has it
        found = find(*args, **options)
        if args[0] is Grant:
            monkeypatch.undo()
            remove_user(services, "ana")
            add_user(services, "ana", "reader")
        return found

    monkeypatch.setattr(services.metadata, "find", slow)
    with pytest.raises(ConflictError, match="Read it again and repeat"):
        grant(services, "ana", tags=["pii"])
    assert grants_of(ana) == []


def test_what_is_left_of_an_earlier_user_is_not_inherited(services: LocalServices) -> None:
    """A grant that was written in the moment in which its user was removed."""
    left = Grant(
        user="eve", what="tag", name="pii", granted_by="x", granted_at=services.clock.now()
    )
    services.metadata.write(Put(left))
    add_user(services, "eve", "reader")
    assert grants_of(services, "eve") == []


def test_whoever_comes_and_goes_meanwhile_nobody_inherits(services: LocalServices) -> None:
    """Users of one name are added, granted and removed by several at once."""

    def work(number: int) -> None:
        for turn in range(12):
            with suppress(ConflictError, NotFoundError):
                if (number + turn) % 3 == 0:
                    add_user(services, "eve", "reader")
                elif (number + turn) % 3 == 1:
                    grant(services, "eve", tags=["pii", "financial"])
                else:
                    remove_user(services, "eve")

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(work, range(4)))
    with suppress(NotFoundError):
        remove_user(services, "eve")
    add_user(services, "eve", "reader")
    assert grants_of(services, "eve") == []
    services.metadata.verify_audit()


def test_grants_are_audited_with_who_gave_them(services: LocalServices, ana: LocalServices) -> None:
    first = grant(services, "ana", tags=["pii", "pii"], views=["risk"])
    assert (first.changed, first.unchanged) == (("tag pii", "view risk"), ())
    again = grant(services, "ana", tags=["pii", "financial"])
    assert (again.changed, again.unchanged) == (("tag financial",), ("tag pii",))
    grant(services, "ana", tags=["pii"])
    back = revoke(services, "ana", tags=["pii"], views=["secret"])
    assert (back.changed, back.unchanged) == (("tag pii",), ("view secret",))
    assert [one.name for one in grants_of(ana)] == ["financial", "risk"]
    assert {one.granted_by for one in grants_of(ana)} == {"tester"}
    assert entries(services, "grant") == [
        ("tester", "identity/ana", {"what": ["tag pii", "view risk"]}),
        ("tester", "identity/ana", {"what": ["tag financial"]}),
    ]
    assert entries(services, "revoke") == [("tester", "identity/ana", {"what": ["tag pii"]})]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda s: grant(s, "anna", tags=["pii"]), "no user 'anna'. Did you mean 'ana'"),
        (lambda s: grant(s, "ana", tags=["pi"]), "No tag 'pi' is protected. Did you mean 'pii'"),
        (lambda s: grant(s, "ana", views=["risks"]), "no view 'risks'. Did you mean 'risk'"),
        (lambda s: grant(s, "ana", tags=["pii"], views=["x"]), "no view 'x'"),
        (lambda s: revoke(s, "anna", tags=["pii"]), "no user 'anna'"),
        (lambda s: grant(s, "ana"), "Nothing is named"),
        (lambda s: revoke(s, "ana"), "Nothing is named"),
    ],
)
def test_a_wrong_grant_changes_nothing(
    services: LocalServices,
    ana: LocalServices,
    change: Callable[[LocalServices], object],
    words: str,
) -> None:
    with pytest.raises((NotFoundError, InputError), match=words):
        change(services)
    assert grants_of(ana) == []


def test_only_an_admin_changes_or_sees_others(services: LocalServices, ana: LocalServices) -> None:
    add_user(services, "bob", "reader")
    grant(services, "bob", tags=["pii"])
    grant(services, "ana", tags=["financial"])
    changes: list[Callable[[], object]] = [
        lambda: add_user(ana, "eve", "admin"),
        lambda: remove_user(ana, "bob"),
        lambda: renew_token(ana, "bob"),
        lambda: grant(ana, "ana", tags=["pii"]),
        lambda: revoke(ana, "bob", tags=["pii"]),
        lambda: grants_of(ana, "bob"),
    ]
    for change in changes:
        with pytest.raises(AccessError, match="takes the role admin"):
            change()
    assert [one.user for one in grants_of(ana)] == ["ana"]
    assert [one.user for one in grants_of(services)] == ["ana", "bob"]
    assert [one.user for one in grants_of(services, "bob")] == ["bob"]
