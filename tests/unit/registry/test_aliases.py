"""Aliases change by compare-and-set, with an audit entry, and only to what exists and is ready."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
import pytest

import penstock as ps
from penstock.errors import ConflictError, GateError, InputError, NotFoundError, NotReadyError
from penstock.plan import apply
from penstock.ports import EVENTS_TOPIC, Put
from penstock.records import Aliases, Event, GateVerdict, ModelVersion
from penstock.registry import (
    aliases,
    find_version,
    get_version,
    nominate,
    point,
    promote,
    rollback,
    withdraw,
)

if TYPE_CHECKING:
    from penstock.runtime import LocalServices
    from penstock.spec import Model


@pytest.fixture
def registered(services: LocalServices) -> LocalServices:
    """Versions 1 to 3 are ready, 4 was refused, 5 was not selected."""
    refused = GateVerdict(
        gate="g", passed=False, value=0.4, bound=0.5, reason="roc_auc is 0.4, not at least 0.5"
    )
    for number in range(1, 6):
        version = ModelVersion(
            model="btc",
            version=number,
            candidate="c",
            run_id=f"run-{number}",
            dataset_id="d",
            params={},
            metrics={},
            created_at=services.clock.now(),
            fingerprint="f",
            verdicts=(refused,) if number == 4 else (),
            ready=number <= 3,
        )
        services.metadata.write(Put(version, expected=None))
    return services


def pointed(found: Aliases) -> tuple[int, int, int, int]:
    return found.champion, found.previous, found.challenger, found.candidate


def set_alias(services: LocalServices, alias: str, version: int) -> Aliases:
    return point(
        services.metadata,
        "btc",
        alias=alias,
        version=version,
        actor="ann",
        now=services.clock.now(),
    )


def test_a_model_without_aliases_points_nowhere(services: LocalServices) -> None:
    found = aliases(services.metadata, "btc")
    assert (pointed(found), found.revision) == ((0, 0, 0, 0), 0)


def test_promoting_keeps_the_champion_before(registered: LocalServices) -> None:
    assert pointed(promote(registered, "btc", 1)) == (1, 0, 0, 0)
    found = promote(registered, "btc", 3)
    assert (pointed(found), found.revision) == ((3, 1, 0, 0), 2)
    assert aliases(registered.metadata, "btc") == found
    last = registered.metadata.audit()[-1]
    assert (last.actor, last.action, last.subject) == ("tester", "promote", "model/btc")
    assert last.difference == {"champion": [1, 3], "previous": [0, 1]}


def test_promoting_the_champion_changes_nothing(registered: LocalServices) -> None:
    first = promote(registered, "btc", 1)
    assert promote(registered, "btc", 1) == first
    assert len(registered.metadata.audit()) == 1


def test_a_challenger_that_wins_challenges_no_more(registered: LocalServices) -> None:
    promote(registered, "btc", 1)
    set_alias(registered, "challenger", 2)
    assert pointed(promote(registered, "btc", 3)) == (3, 1, 2, 0)
    assert pointed(promote(registered, "btc", 2)) == (2, 3, 0, 0)


def test_rolling_back_swaps_the_two(registered: LocalServices) -> None:
    promote(registered, "btc", 1)
    promote(registered, "btc", 2)
    assert pointed(rollback(registered, "btc")) == (1, 2, 0, 0)
    assert registered.metadata.audit()[-1].difference == {"champion": [2, 1], "previous": [1, 2]}


def test_rolling_back_to_a_version_may_be_asked_again(registered: LocalServices) -> None:
    promote(registered, "btc", 1)
    promote(registered, "btc", 2)

    first = rollback(registered, "btc", to=1, expected=2, reason="it was slow")
    again = rollback(registered, "btc", to=1, expected=2)

    assert pointed(first) == (1, 2, 0, 0)
    assert again == first
    assert registered.metadata.audit()[-1].difference["reason"] == "it was slow"
    with pytest.raises(ConflictError, match="at revision 3, not 2"):
        rollback(registered, "btc", to=2, expected=2)
    with pytest.raises(NotFoundError, match="'btc@9'"):
        rollback(registered, "btc", to=9)
    with pytest.raises(GateError):
        rollback(registered, "btc", to=4)


def test_a_version_that_is_no_good_is_withdrawn_once_and_nobody_s_any_more(
    registered: LocalServices,
) -> None:
    promote(registered, "btc", 1)
    promote(registered, "btc", 2)
    set_alias(registered, "candidate", 2)
    revision = aliases(registered.metadata, "btc").revision

    first = withdraw(registered, "btc", 2, expected=revision, reason="it was late")
    again = withdraw(registered, "btc", 2, expected=revision, reason="it was late")
    late = withdraw(registered, "btc", 1, expected=revision, reason="of another time")

    assert pointed(first) == (1, 0, 0, 0)
    assert again == late == first
    entry = registered.metadata.audit()[-1]
    assert (entry.action, entry.difference["champion"]) == ("withdraw", [2, 1])
    assert entry.difference["reason"] == "it was late"
    with pytest.raises(NotReadyError, match="no previous champion"):
        withdraw(registered, "btc", 1, expected=first.revision, reason="it is late too")
    with pytest.raises(NotReadyError, match="no previous champion"):
        rollback(registered, "btc")


def test_rolling_back_needs_a_previous_champion(registered: LocalServices) -> None:
    promote(registered, "btc", 1)
    with pytest.raises(NotReadyError, match="no previous champion"):
        rollback(registered, "btc")
    assert len(registered.metadata.audit()) == 1


@pytest.mark.parametrize(
    ("version", "message"),
    [(4, "roc_auc is 0.4, not at least 0.5"), (5, "not the best of its training run")],
)
def test_a_version_that_is_not_ready_is_not_promoted(
    registered: LocalServices, version: int, message: str
) -> None:
    with pytest.raises(GateError, match=message):
        promote(registered, "btc", version)
    assert aliases(registered.metadata, "btc").champion == 0


def test_an_unknown_version_or_alias_is_refused(registered: LocalServices) -> None:
    with pytest.raises(NotFoundError, match="'btc@9'"):
        promote(registered, "btc", 9)
    with pytest.raises(NotFoundError, match="Did you mean 'champion'"):
        set_alias(registered, "champoin", 1)
    with pytest.raises(NotFoundError, match="'btc@9'"):
        set_alias(registered, "challenger", 9)


def test_pointing_is_compare_and_set(registered: LocalServices) -> None:
    before = aliases(registered.metadata, "btc")
    set_alias(registered, "challenger", 1)
    with pytest.raises(ConflictError):
        point(
            registered.metadata,
            "btc",
            alias="challenger",
            version=2,
            actor="bob",
            now=registered.clock.now(),
            expected=before,
        )
    assert aliases(registered.metadata, "btc").challenger == 1
    assert set_alias(registered, "challenger", 1).revision == 1
    assert set_alias(registered, "challenger", 0).challenger == 0


def test_a_change_is_announced_to_each_deployment(registered: LocalServices, model: Model) -> None:
    other = ps.Model("other", dataset=model.dataset, candidates=model.candidates)
    project = ps.Project(
        "p",
        declarations=[
            ps.Deployment("live", model=model, routes=[ps.champion()]),
            ps.Deployment("elsewhere", model=other, routes=[ps.champion()]),
        ],
    )
    apply(registered.metadata, project, actor="tester", now=registered.clock.now())
    promote(registered, "btc", 1)
    promote(registered, "btc", 1)
    promote(registered, "btc", 2)
    rollback(registered, "btc")
    found = [
        msgspec.json.decode(entry.payload, type=Event)
        for entry in registered.log.read(EVENTS_TOPIC, after=0, limit=10)
    ]
    assert {event.kind for event in found} == {"deployment.changed"}
    assert [(event.event_id, event.ids["version"]) for event in found] == [
        ("deployment.changed:live:1", "1"),
        ("deployment.changed:live:2", "2"),
        ("deployment.changed:live:3", "1"),
    ]


def test_a_version_is_found_as_people_write_it(registered: LocalServices) -> None:
    promote(registered, "btc", 2)
    assert find_version(registered.metadata, "btc@3").version == 3
    assert find_version(registered.metadata, "btc@champion").version == 2
    with pytest.raises(NotReadyError, match="No version of 'btc' is previous yet"):
        find_version(registered.metadata, "btc@previous")
    with pytest.raises(NotFoundError, match="Did you mean 'champion'"):
        find_version(registered.metadata, "btc@champ")
    for wrong in ("btc", "btc@", "@3"):
        with pytest.raises(InputError, match="MODEL@3 or MODEL@champion"):
            find_version(registered.metadata, wrong)


def _packaged(services: LocalServices, number: int) -> ModelVersion:
    before = get_version(services.metadata, "btc", number)
    after = msgspec.structs.replace(before, engine="onnx", package="0" * 64)
    services.metadata.write(Put(after, expected=before))
    return after


def test_a_version_is_no_candidate_before_it_is_packaged(registered: LocalServices) -> None:
    with pytest.raises(NotReadyError, match="btc@2 has not been packaged"):
        nominate(registered, get_version(registered.metadata, "btc", 2))
    assert aliases(registered.metadata, "btc").revision == 0

    found = nominate(registered, _packaged(registered, 2))

    assert pointed(found) == (0, 0, 0, 2)
    (entry,) = registered.metadata.audit()
    assert (entry.actor, entry.action, entry.difference) == (
        "tester", "nominate", {"candidate": [0, 2]},
    )  # fmt: skip


def test_an_older_version_that_is_packaged_later_is_no_candidate(registered: LocalServices) -> None:
    newer = nominate(registered, _packaged(registered, 3))

    assert nominate(registered, _packaged(registered, 2)) == newer
    assert nominate(registered, get_version(registered.metadata, "btc", 3)) == newer
