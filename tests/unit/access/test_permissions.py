"""Who may read what is protected: the decision, its words, and what the audit is told."""

from __future__ import annotations

import pickle
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest

import penstock as ps
from penstock.access import (
    Permissions,
    grant,
    hidden_features,
    require_features,
    revoke,
    tell_denial,
)
from penstock.errors import AccessError
from penstock.plan import apply
from penstock.ports import Put
from penstock.records import AuditEntry, Denial

from .conftest import declarations

if TYPE_CHECKING:
    from penstock.runtime import LocalServices

LAST, MEAN, COUNT = "payments.last_amount", "payments.mean_amount_7d", "payments.count_1d"
SUBJECT = "feature_service/it"


def denials(services: LocalServices) -> list[AuditEntry]:
    return [entry for entry in services.metadata.audit() if entry.action == "deny"]


def refusal(ana: LocalServices, *names: str) -> AccessError:
    with pytest.raises(AccessError) as caught:
        require_features(ana, names, subject=SUBJECT)
    return caught.value


def test_an_admin_and_the_platform_read_everything(services: LocalServices) -> None:
    require_features(services, [LAST, MEAN, "secret.count_2d", "gone.x"], subject=SUBJECT)
    assert not denials(services)


def test_what_is_not_protected_is_everybody_s(ana: LocalServices) -> None:
    require_features(ana, [COUNT], subject=SUBJECT)


def test_a_denial_says_what_protects_and_how_it_is_granted(ana: LocalServices) -> None:
    error = refusal(ana, COUNT, LAST)
    assert str(error) == (
        "'ana' may not read 'payments.last_amount', protected by the tag 'pii'. An admin grants it "
        "with 'penstock access grant ana --tag pii'."
    )
    assert error.facts["features"] == (LAST,)
    assert error.facts["needed"] == ("tag pii",)
    assert str(pickle.loads(pickle.dumps(error))) == str(error)  # noqa: S301 - our own
    both = str(refusal(ana, MEAN))
    assert "protected by the tag 'financial' and the tag 'pii'" in both
    assert "grant ana --tag financial --tag pii'" in both
    computed = str(refusal(ana, "risk.share"))
    assert "'risk.share', computed from 'payments.last_amount', protected by the tag" in computed
    assert "the view 'secret'. An admin" in str(refusal(ana, "secret.count_2d"))


def test_a_long_list_is_cut_and_its_grants_are_not(ana: LocalServices) -> None:
    message = str(refusal(ana, LAST, MEAN, "risk.share", "secret.count_2d"))
    assert "protected by the tag 'pii'; and 1 more. An admin" in message
    assert message.endswith("grant ana --tag financial --tag pii --view secret'.")


def test_features_that_the_same_protects_are_told_together(ana: LocalServices) -> None:
    message = str(refusal(ana, *(f"old.{letter}" for letter in "abcde")))
    assert "'old.a', 'old.b', 'old.c' and 2 more, not declared any more." in message


def test_a_feature_that_is_declared_no_more_is_for_admins(ana: LocalServices) -> None:
    assert str(refusal(ana, "old.x")) == (
        "'ana' may not read 'old.x', not declared any more. Use the token of an admin."
    )


def test_definitions_of_an_older_version_count_too(ana: LocalServices) -> None:
    payments = declarations()[0]
    assert isinstance(payments, ps.FeatureView)
    columns = {"user": ps.String, "ts": ps.Timestamp, "x": ps.Float64}
    source = ps.Source("s", entity=ps.Entity("user"), timestamp="ts", schema=columns)
    old = ps.FeatureView("old", source=source, features=[ps.last("x"), ps.first("x", tags=["pii"])])
    names = ["old.last_x", "old.first_x", "old.never"]
    assert hidden_features(ana, names, views=[old]) == {"old.first_x", "old.never"}
    assert hidden_features(ana, [COUNT, LAST], views=[old]) == {LAST}


def test_where_nothing_is_protected_nothing_is_asked(ana: LocalServices) -> None:
    views = declarations()[:3]
    apply(ana.metadata, ps.Project("shop", declarations=views), actor="t", now=ana.clock.now())
    require_features(ana, [LAST, "old.x"], subject=SUBJECT)
    assert Permissions.load(ana.metadata) == Permissions()


def test_grants_open_and_revoking_closes(services: LocalServices, ana: LocalServices) -> None:
    grant(services, "ana", tags=["pii"])
    require_features(ana, [LAST, "risk.share"], subject=SUBJECT)
    assert "the tag 'financial'" in str(refusal(ana, MEAN))
    grant(services, "ana", tags=["financial"], views=["secret"])
    require_features(ana, [LAST, MEAN, "risk.share", "secret.count_2d"], subject=SUBJECT)
    revoke(services, "ana", tags=["pii"])
    refusal(ana, LAST)
    # A view is granted for all of its features, whatever they are computed from, and for no other.
    grant(services, "ana", views=["risk"])
    require_features(ana, ["risk.share"], subject=SUBJECT)
    refusal(ana, LAST)
    grant(services, "ana", views=["payments"])
    require_features(ana, [LAST, MEAN], subject=SUBJECT)


def test_denials_are_audited_once_a_minute_each(ana: LocalServices) -> None:
    for _ in range(50):
        refusal(ana, LAST)
    (entry,) = denials(ana)
    assert (entry.actor, entry.subject) == ("ana", SUBJECT)
    assert entry.difference == {"features": [LAST], "needed": ["tag pii"]}
    with pytest.raises(AccessError):
        require_features(ana, [LAST], subject="feature_view/payments")
    assert [entry.subject for entry in denials(ana)] == [SUBJECT, "feature_view/payments"]
    known = ana.metadata.read(Denial, f"ana/{SUBJECT}")
    assert known is not None
    earlier = Denial(
        user="ana", subject=SUBJECT, told_at=known.told_at - timedelta(minutes=1, seconds=1)
    )
    ana.metadata.write(Put(earlier))
    refusal(ana, LAST)
    refusal(ana, LAST)
    assert len(denials(ana)) == 3
    ana.metadata.verify_audit()


def test_a_denial_that_cannot_be_audited_is_still_one(
    ana: LocalServices, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object, **__: object) -> None:
        from penstock.errors import UnavailableError  # noqa: PLC0415 - here alone

        raise UnavailableError("The database is locked.")

    monkeypatch.setattr(ana.metadata, "write", broken)
    assert "penstock access grant ana" in str(refusal(ana, LAST))
    monkeypatch.undo()
    assert not denials(ana)


def test_of_two_processes_one_tells(ana: LocalServices, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another process tells between the look and the write."""
    error = AccessError("no", features=(LAST,), needed=("tag pii",))
    read = ana.metadata.read

    def late(cls: type[Denial], key: str) -> Denial | None:
        found = read(cls, key)
        monkeypatch.undo()
        tell_denial(ana.metadata, ana.clock, error, user="ana", subject=SUBJECT)
        return found

    monkeypatch.setattr(ana.metadata, "read", late)
    tell_denial(ana.metadata, ana.clock, error, user="ana", subject=SUBJECT)
    assert len(denials(ana)) == 1
    assert datetime.now(UTC) - denials(ana)[0].at < timedelta(minutes=1)
